"""The jobs of Snakemake's graph as plain values."""

from collections.abc import Callable, Iterable

from kdq.workflow.terminal.causes import Causes
from kdq.workflow.terminal.planned import PlannedJob


def planned_jobs(dag, causes: Causes, seconds: Callable[[str, object], float], cores: int) -> list[PlannedJob]:
    """Return the jobs of ``dag`` that are to run and make files.

    ``seconds`` returns the work of a job, given rule and wildcards. On a machine with ``cores``, 0 for a cluster, a job
    takes as many as it has threads.
    """
    jobs = [job for job in dag.needrun_jobs() if job.output]
    shares = dict.fromkeys(jobs, 1 / max(1, len(jobs))) if not cores else {}
    return [
        PlannedJob(
            number=dag.jobid(job),
            rule=job.rule.name,
            outputs=(outputs := _texts(job.output)),
            needs=frozenset(dag.jobid(need) for need in dag.dependencies[job]),
            share=shares.get(job) or min(1.0, job.threads / cores),
            seconds=seconds(job.rule.name, job.wildcards),
            log=next(iter(_texts(job.log)), ""),
            causes=causes.of(list(outputs), dag.reason(job)),
        )
        for job in jobs
    ]


def _texts(files: Iterable) -> tuple[str, ...]:
    return tuple(map(str, files))
