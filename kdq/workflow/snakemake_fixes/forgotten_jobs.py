"""The SLURM executor (plugin 2) waits forever for a job that SLURM no longer knows.

A controller that is killed before it has saved a new job restarts without it, and some time after a job's end it drops
the job's state (``MinJobAge``). The plugin expects that a job without a state will have one soon. Here a job has ended
if it had no state three times in a row and the controller does not know its number: successfully if its outputs exist,
which are written atomically, else with an error.
"""

import os
import subprocess

TIMES = 3
UNKNOWN = "Invalid job id specified"  # scontrol's message, for an array's job too


def patch_executor(plugin) -> None:
    """Make the executor finish jobs that SLURM has forgotten. No-op on unknown plugin versions."""
    executor, query = getattr(plugin, "Executor", None), getattr(plugin, "query_job_status", None)
    check, numbers = getattr(executor, "check_active_jobs", None), getattr(plugin, "_status_lookup_ids", None)
    if not (check and query and numbers):
        return
    states, misses = {}, {}

    async def query_and_note(*arguments):
        answer = await query(*arguments)
        states["known"] = answer[0]
        return answer

    async def check_and_end(self, active_jobs):
        states["known"] = None
        async for job in check(self, active_jobs):
            number, known = job.external_jobid, states["known"]
            if known is not None:
                has_state = any(candidate in known for candidate in numbers(number))
                misses[number] = 0 if has_state else misses.get(number, 0) + 1
            if misses.get(number, 0) < TIMES or not is_forgotten(number):
                yield job
                continue
            del misses[number]  # a controller that lost its jobs assigns numbers anew
            if all(os.path.exists(str(file)) for file in job.job.output):
                self.report_job_success(job)
            else:
                reason = "SLURM no longer knows the job (its controller was restarted?), and its files are not there. "
                log = (job.aux or {}).get("slurm_logfile")
                self.report_job_error(job, msg=f"SLURM-job '{number}': {reason}", aux_logs=[str(log)] if log else [])

    plugin.query_job_status = query_and_note
    executor.check_active_jobs = check_and_end


def is_forgotten(number: str) -> bool:
    """Return whether the controller reports that there is no such job; False if it does not answer."""
    try:
        answer = subprocess.run(
            ["scontrol", "show", "job", number], capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode != 0 and UNKNOWN in answer.stderr
