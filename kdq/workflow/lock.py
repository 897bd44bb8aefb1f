"""Removal of a stale lock of Snakemake's.

Snakemake's locks are files, which a kill -9 or a power cut leaves behind; the next run then stops and asks for
--unlock, with which two living runs could make the same files. So every run also holds a lock of the kernel, which
ends with its process: if a run gets it exclusively, Snakemake's lock is stale.
"""

import fcntl
import shutil
import socket
from pathlib import Path

_held = []  # open for as long as this process lives


def remove_stale_lock(folder: Path) -> bool:
    """Remove Snakemake's stale lock from ``folder``, ``.snakemake``. Return True if there was one.

    The lock of this process is not stale for other runs until it ends. A lock of another machine stays, because not
    every shared file system passes kernel locks on. Without kernel locks nothing is removed.
    """
    try:
        folder.mkdir(exist_ok=True)
        file = open(folder / "kdq.lock", "a+", encoding="utf-8")  # noqa: SIM115
        _held.append(file)
        was_stale = _is_exclusive(file) and _remove_if_local(folder / "locks", file)
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return False
    return was_stale


def _is_exclusive(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_if_local(locks: Path, file) -> bool:
    """Remove Snakemake's locks if ``file`` holds this machine's name; from now on it does."""
    is_locked, host = any(locks.glob("*.lock")), socket.gethostname()
    file.seek(0)
    if is_locked and file.read() != host:
        return False
    shutil.rmtree(locks, ignore_errors=True)
    file.truncate(0)
    file.write(host)
    file.flush()
    return is_locked
