"""A run that ends removes the folder of all locks, also those of other runs that go on in the same folder.

A third run may then make the same files as one that still runs.
"""

import contextlib
import os


def keep_locks_of_others(persistence: type | None) -> None:
    """Delete only the locks of this run. No-op if Snakemake lacks the method."""

    def delete_locks(self) -> None:
        for lock in self._lockfile.values():
            with contextlib.suppress(FileNotFoundError):
                os.remove(lock)
        self._lockfile.clear()
        with contextlib.suppress(OSError):  # gone, or another run's lock lies in it
            os.rmdir(self._lockdir)

    if hasattr(persistence, "_delete_locks"):
        persistence._delete_locks = delete_locks
