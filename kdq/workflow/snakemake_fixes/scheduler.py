"""Two defects of Snakemake's scheduler (9.27), mended from outside.

Where jobs a second are limited, as they are by default, every look at the jobs to come asks for another one a second
later, and so does every job that ends: after n jobs it looks n times a second at all that is ready, to the run's end. A
second look adds nothing to one that comes no later.

And SIGTERM is answered amidst whatever the main thread does, by waiting for a lock that this thread may hold: then
Snakemake hangs for good.
"""

import threading
import time

METHOD = "_schedule_reevalutation"  # of Snakemake's JobScheduler: asks for a look so many seconds later


def one_at_a_time(scheduler, clock=time.monotonic) -> None:
    """Let ``scheduler`` ask for no look later than one that is to come; one without the method stays as it is."""
    ask, due = getattr(scheduler, METHOD, None), 0.0

    def ask_if_none_is_to_come(seconds: float) -> None:
        nonlocal due
        now = clock()
        if not now < due <= now + seconds:
            due = now + seconds
            ask(seconds)

    if ask is not None:
        setattr(scheduler, METHOD, ask_if_none_is_to_come)


def stops_in_a_thread(kind: type) -> None:
    """Let the scheduler of this class answer SIGTERM in a thread of its own, which can wait for the lock."""
    answer = getattr(kind, "exit_gracefully", None)

    def answer_in_a_thread(scheduler, *signal) -> None:
        threading.Thread(target=answer, args=(scheduler, *signal)).start()

    if answer is not None:
        kind.exit_gracefully = answer_in_a_thread
