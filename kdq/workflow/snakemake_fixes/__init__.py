"""Workarounds for defects of Snakemake (9.27) and of its SLURM plugin (2.8), one module for each.

Each replaces a private part of theirs and does nothing if that part is missing: a new release may bring a defect back,
but must not end a run. A strict xfail test for each defect fails on the day the defect is gone.
"""

from kdq.workflow.snakemake_fixes import (
    forgotten_jobs,
    interrupt,
    locks,
    outputs,
    scheduler,
    signatures,
    target_jobs,
)
from kdq.workflow.snakemake_fixes.parts import part


def apply(workflow) -> None:
    """Apply all workarounds; ``workflow`` is Snakemake's, at the beginning of the Snakefile."""
    job_scheduler = part("snakemake.scheduling.job_scheduler", "JobScheduler")
    scheduler.merge_reevaluations(job_scheduler)
    scheduler.stop_in_a_thread(job_scheduler)
    signatures.cache_signatures(part("snakemake.common"), part("snakemake.rules"))
    outputs.cache_producers(part("snakemake.output_index", "OutputIndex"))
    outputs.skip_disjoint_directories(part("snakemake.dag", "DAG"))
    interrupt.stop_jobs(part("snakemake.executors.local", "Executor"))
    locks.keep_locks_of_others(part("snakemake.persistence.file", "FilePersistence"))
    forgotten_jobs.patch_executor(part("snakemake_executor_plugin_slurm"))
    if not workflow.is_main_process:
        target_jobs.reread_target_jobs(workflow)
