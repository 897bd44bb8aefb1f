"""The folder that a run works in, before its jobs begin: it can be written to, and nothing in it is from the future."""

import contextlib
import errno
import os
import time
from pathlib import Path

from kdq.errors import UserError

RECORDS = 2**18  # bytes of room that a run needs at least for Snakemake's lock, log and records
FULL = (errno.ENOSPC, errno.EDQUOT)


def prepare(*folders: Path) -> list[str]:
    """Look at the folders of a run, those that there are; returns lines that say what was set right.

    Raises UserError for one that can't be written to.
    """
    found = [folder for folder in folders if folder.is_dir()]
    for folder in found:
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: can't be written to; see to its owner, its mode and the file system it is on")
    now = time.time()
    return [
        f"{folder}: {count} files of a time to come, since a clock was set back, are of now"
        for folder in found
        if (count := sum(to_now(path, now) for path in files(folder)))
    ]


def look_for_room(folder: Path, size: int = RECORDS) -> None:
    """Raise UserError where ``folder``, if it is there, has no room for ``size`` bytes, by the disk or by a quota.

    Snakemake itself would end in a traceback, in the middle of its lock. A folder that can't be written to for other
    reasons may still be planned in.
    """
    probe = folder / f"room.{os.getpid()}"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in FULL:
            raise UserError(f"{folder}: can't be written ({error.strerror}); make room and start again") from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def files(folder: Path):
    for place, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(place, name)


def to_now(path: str, now: float) -> bool:
    """Give a file of a time after ``now`` that time: Snakemake takes what is made from it for older than it."""
    if os.stat(path, follow_symlinks=False).st_mtime <= now:
        return False
    os.utime(path, (now, now), follow_symlinks=False)
    return True
