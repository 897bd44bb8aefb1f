"""Snakemake's lock of a working folder, removed where nobody holds it any more.

Snakemake locks by files, which a kill -9 or a power cut leaves behind; the next run then stops and asks for --unlock,
and whoever gives that while another run is alive has two that make the same files. Here every run holds a second lock
as well, of the kernel, which ends with its process: who gets it for himself alone knows that Snakemake's is stale.
"""

import fcntl
import shutil
import socket
from pathlib import Path

_held = []  # open for as long as this process lives


def remove(folder: Path) -> bool:
    """Remove a stale lock from ``folder``, ``.snakemake``; whether there was one.

    Until this process ends no other will take its lock for stale. A lock of another machine is not judged: not every
    shared file system passes the kernel's locks on. Where there can be no such lock, nothing is removed.
    """
    try:
        folder.mkdir(exist_ok=True)
        file = open(folder / "kdq.lock", "a+")  # noqa: SIM115
        _held.append(file)
        stale = _alone(file) and _remove_own(folder / "locks", file)
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return False
    return stale


def _alone(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_own(locks: Path, file) -> bool:
    """Remove Snakemake's locks if ``file`` says that they are of this machine; it says so from now on."""
    found, here = any(locks.glob("*.lock")), socket.gethostname()
    file.seek(0)
    if found and file.read() != here:
        return False
    shutil.rmtree(locks, ignore_errors=True)
    file.truncate(0)
    file.write(here)
    file.flush()
    return found
