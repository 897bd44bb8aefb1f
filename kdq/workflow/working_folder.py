"""Checks before a run: the folders are writable, have room, and hold no modification time in the future."""

import contextlib
import errno
import os
import sys
import time
from pathlib import Path

from kdq.errors import UserError
from kdq.workflow.lock import remove_stale_lock

RECORDS_BYTES = 2**18  # that a run needs at least for Snakemake's lock, log and records
FULL = (errno.ENOSPC, errno.EDQUOT)


def enter(folder: Path) -> None:
    """Remove the lock of a run that was killed from ``folder``, ``.snakemake``; raise UserError if it is full."""
    if remove_stale_lock(folder):
        sys.stderr.write("The lock of a run that was killed is removed.\n")
    require_free_space(folder)


def prepare(*folders: Path) -> list[str]:
    """Check the existing folders of a run and reset modification times in the future; return lines that report it.

    Raise UserError if a folder is not writable.
    """
    existing = [folder for folder in folders if folder.is_dir()]
    for folder in existing:
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: can't be written to; see to its owner, its mode and the file system it is on")
    now = time.time()
    lines = []
    for folder in existing:
        files = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
        if count := sum(_reset_time(path, now) for path in files):
            lines.append(f"{folder}: reset {count} modification times in the future (was the clock set back?)\n")
    return lines


def require_free_space(folder: Path, size_bytes: int = RECORDS_BYTES) -> None:
    """Raise UserError if disk or quota has no room for ``size_bytes`` in ``folder``; a missing folder passes.

    Snakemake itself would end in a traceback, in the middle of its lock. A folder that is not writable for another
    reason may still be planned in.
    """
    probe = folder / f"room.{os.getpid()}"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(size_bytes))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in FULL:
            raise UserError(f"{folder}: can't be written ({error.strerror}); make room and start again") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _reset_time(path: str, now: float) -> bool:
    """Set a modification time after ``now`` to ``now``: Snakemake would take the files made from it for older."""
    if os.stat(path, follow_symlinks=False).st_mtime <= now:
        return False
    os.utime(path, (now, now), follow_symlinks=False)
    return True
