"""How a job is stopped: SIGTERM raises :class:`kdq.errors.Stopped`, but not amidst compiled code that can't bear it."""

import contextlib
import signal
import threading

from kdq.errors import Stopped


def stop_on_sigterm() -> None:
    """From now on SIGTERM raises Stopped, once."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number, frame) -> None:
    signal.signal(number, signal.SIG_IGN)  # SLURM sends it to the job and to the command that passes it on
    raise Stopped(f"stopped by {signal.Signals(number).name}")


@contextlib.contextmanager
def stopped_later():
    """A SIGTERM that comes within the block stops the job behind it.

    Compiled code that is ended amidst may panic, or take the stop for an error of its own: a whole file for damaged.
    """
    handled = threading.current_thread() is threading.main_thread()  # nothing is raised in other threads
    if not handled or signal.getsignal(signal.SIGTERM) is not _stop:  # in no job, or in one that is stopping
        yield
        return
    come = []
    signal.signal(signal.SIGTERM, lambda number, frame: come.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _stop)
        if come:
            _stop(come[0], None)
