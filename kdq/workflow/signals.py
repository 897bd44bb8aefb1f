"""How SIGTERM stops a job: it raises :class:`kdq.errors.Stopped`, but not inside compiled code that can't bear it."""

import contextlib
import signal
import threading

from kdq.errors import Stopped


def raise_on_sigterm() -> None:
    """Make SIGTERM raise Stopped, once."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(number, frame) -> None:
    signal.signal(number, signal.SIG_IGN)  # SLURM sends it to the job and to the command that passes it on
    raise Stopped(f"stopped by {signal.Signals(number).name}")


@contextlib.contextmanager
def defer_sigterm():
    """Delay SIGTERM until the block has finished.

    Compiled code that is interrupted may crash, or misreport an intact file as corrupt.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()  # no other thread gets the exception
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not _stop:  # outside a job, or already stopping
        yield
        return
    received = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _stop)
        if received:
            _stop(received[0], None)
