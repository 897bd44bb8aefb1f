"""SIGINT to Snakemake alone, as from ``kill`` or a service manager, leaves its local jobs running to their end.

At a terminal the jobs get it too; Snakemake relies on that.
"""

import contextlib

import psutil

SECONDS = 3  # for jobs that got the signal themselves


def stop_jobs(executor: type | None, seconds: float = SECONDS) -> None:
    """Send SIGTERM to the jobs that still run so many seconds after a cancel. No-op if Snakemake lacks the method."""
    cancel = getattr(executor, "cancel", None)

    def stop_and_cancel(self) -> None:
        _, running = psutil.wait_procs(psutil.Process().children(), timeout=seconds)
        for job in running:
            with contextlib.suppress(psutil.NoSuchProcess):
                job.terminate()
        cancel(self)

    if cancel is not None:
        executor.cancel = stop_and_cancel
