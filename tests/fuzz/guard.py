"""Limits for reading foreign input: it succeeds or ends in one line, soon, in little memory, within its folder."""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

from kdq.errors import UserError

CPU_SECONDS = 10  # an input normally takes milliseconds
SECONDS = 300  # wall time, on a machine that may be busy
MEMORY_BYTES = 2**31  # hard limit: allocating more fails
GROWTH_BYTES = 2**29  # soft limit: using more fails the test
LONGEST_MESSAGE = 1500
FORBIDDEN = {
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.system",
    "pickle.find_class",
    "socket.connect",
    "subprocess.Popen",
}
CHANGES = {"os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Escape(BaseException):
    """An input did something forbidden. Not an Exception, so that no error handler catches it."""


class Watch:
    """Raises Escape for forbidden events while ``folder`` is set; an audit hook can't be removed."""

    def __init__(self):
        self.folder: Path | None = None
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple) -> None:
        if self.folder is None:
            return
        if event in FORBIDDEN:
            raise Escape(f"{event} {arguments!r:.200}")
        if event in CHANGES:
            self._check(event, arguments[0], arguments[-1])
        if event == "open" and (arguments[2] or 0) & WRITES:
            self._check(event, arguments[0])

    def _check(self, event: str, path, folder=None) -> None:
        """Raise Escape if ``path`` is outside the folder; ``folder`` may be the descriptor it is relative to."""
        if isinstance(path, int) or os.fsdecode(path) == os.devnull:
            return
        relative_to = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder > 2 else ""
        if not Path(relative_to, os.fsdecode(path)).resolve().is_relative_to(self.folder):
            raise Escape(f"{event} {path!r}")


_watch = Watch()


def _too_long(*_):
    raise Escape(f"not done after {CPU_SECONDS} CPU seconds or {SECONDS} s")


@contextlib.contextmanager
def guarded(folder: Path):
    """Run a block under these limits. Raise Escape if it breaks one, AssertionError if an error is no clear line."""
    resident_bytes = _memory_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGPROF, _too_long)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _watch.folder = folder.resolve()
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    except UserError as error:
        assert_clear(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        _watch.folder, sys.dont_write_bytecode = None, bytecode
    grown_bytes = _memory_bytes("VmHWM") - resident_bytes
    assert grown_bytes <= GROWTH_BYTES, f"took {grown_bytes:,} bytes"


def _memory_bytes(name: str) -> int:
    """Return this process's memory from /proc: VmRSS (now) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def assert_clear(error: UserError) -> None:
    """Assert that the message is one printable line of limited length."""
    message = str(error)
    assert message.isprintable(), f"not a printable line: {message[:500]!r}"
    assert len(message) <= LONGEST_MESSAGE, f"{len(message)} characters: {message[:500]}"
