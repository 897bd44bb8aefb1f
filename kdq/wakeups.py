"""Snakemake's scheduler asks for one look at the jobs to come at a time.

Where jobs a second are limited, as they are by default, every look asks for another one a second later, and so does
every job that ends: after n jobs it looks n times a second at all that is ready, to the run's end (Snakemake 9.27). A
second look adds nothing to one that comes no later.
"""

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
