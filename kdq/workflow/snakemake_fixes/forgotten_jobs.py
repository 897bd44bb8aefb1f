"""A defect of Snakemake's executor for SLURM (plugin 2), mended from outside: it waits for ever for a job that is gone.

A controller that is killed before it has written a new job down comes back without it, and one that was asked too late
has forgotten how a job ended (``MinJobAge``). The plugin takes a job without a state for one that will have a state
soon. Here a job that the controller itself, asked for it by number, does not know, and had no state three times in a
row, has ended: well where its files are there, which they are only when they are whole, else it failed.
"""

import os
import subprocess

TIMES = 3
UNKNOWN = "Invalid job id specified"  # scontrol's word, for an array's job too


def ends_for(plugin) -> None:
    """Let the executor of this module end jobs that SLURM has forgotten; a module without the parts stays as it is."""
    executor, query = getattr(plugin, "Executor", None), getattr(plugin, "query_job_status", None)
    check, numbers = getattr(executor, "check_active_jobs", None), getattr(plugin, "_status_lookup_ids", None)
    if not (check and query and numbers):
        return
    states, missed = {}, {}

    async def query_and_note(*arguments):
        found = await query(*arguments)
        states["known"] = found[0]
        return found

    async def check_and_end(self, active_jobs):
        states["known"] = None
        async for job in check(self, active_jobs):
            number, known = job.external_jobid, states["known"]
            if known is not None:
                has_none = not any(each in known for each in numbers(number))
                missed[number] = missed.get(number, 0) + 1 if has_none else 0
            if missed.get(number, 0) < TIMES or not forgotten(number):
                yield job
                continue
            del missed[number]  # a controller that lost its jobs counts anew
            if all(os.path.exists(str(file)) for file in job.job.output):
                self.report_job_success(job)
            else:
                reason = "SLURM no longer knows the job (its controller was restarted?), and its files are not there. "
                log = (job.aux or {}).get("slurm_logfile")
                self.report_job_error(job, msg=f"SLURM-job '{number}': {reason}", aux_logs=[str(log)] if log else [])

    plugin.query_job_status = query_and_note
    executor.check_active_jobs = check_and_end


def forgotten(number: str) -> bool:
    """Does the controller say that there is no such job? Not where it does not answer."""
    try:
        asked = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode != 0 and UNKNOWN in asked.stderr
