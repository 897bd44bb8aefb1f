# Included before anything is said: with no room for Snakemake's log every line of it would come with a traceback.
import sys
from pathlib import Path

HOME = workflow.basedir
sys.path.insert(0, HOME)

from snakemake.scheduling.job_scheduler import JobScheduler

from kdq.workflow.snakemake_fixes import forgotten_jobs
from kdq.workflow import lock as stale_lock
from kdq.workflow import working_folder
from kdq.errors import UserError
from kdq.workflow.snakemake_fixes.scheduler import one_at_a_time, stops_in_a_thread


def or_stop(function, *arguments):
    """The function's result; what a user got wrong is said in one line, and Snakemake stops before it plans."""
    try:
        return function(*arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(1) from None


stops_in_a_thread(JobScheduler)
forgotten_jobs.ends_for(sys.modules.get("snakemake_executor_plugin_slurm"))
if workflow.is_main_process:
    if stale_lock.remove(Path(".snakemake")):
        sys.stderr.write("The lock of a run that was killed is removed.\n")
    or_stop(working_folder.look_for_room, Path(".snakemake"))


def prepare_folder():
    for line in or_stop(working_folder.prepare, Path("results"), Path("logs")):
        sys.stderr.write(f"{line}\n")
