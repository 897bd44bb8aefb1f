"""Two defects of Snakemake's scheduler.

Since jobs per second are limited by default, every scheduling pass schedules another pass one second later, and so does
every job that ends: after n jobs there are n passes a second over all ready jobs, to the end of the run. A pass that is
already due earlier makes a request redundant: 35 -> 4 CPU s for 200 cells.

And the SIGTERM handler, which runs in the main thread, waits for a lock that this thread may hold: Snakemake hangs.
"""

import threading
import time

METHOD = "_schedule_reevalutation"  # of JobScheduler: schedules a pass so many seconds later


def merge_reevaluations(scheduler: type | None, clock=time.monotonic) -> None:
    """Drop requests for a re-evaluation while an earlier one is pending. No-op if Snakemake lacks the method."""
    schedule = getattr(scheduler, METHOD, None)

    def schedule_unless_pending(self, seconds: float) -> None:
        now, due = clock(), getattr(self, "_kdq_due", 0.0)
        if not now < due <= now + seconds:
            self._kdq_due = now + seconds
            schedule(self, seconds)

    if schedule is not None:
        setattr(scheduler, METHOD, schedule_unless_pending)


def stop_in_a_thread(scheduler: type | None) -> None:
    """Handle SIGTERM in a thread of its own, which can wait for the lock. No-op if Snakemake lacks the method."""
    exit_gracefully = getattr(scheduler, "exit_gracefully", None)

    def exit_in_a_thread(self, *signal) -> None:
        threading.Thread(target=exit_gracefully, args=(self, *signal)).start()

    if exit_gracefully is not None:
        scheduler.exit_gracefully = exit_in_a_thread
