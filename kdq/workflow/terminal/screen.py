"""Where lines go: plain, or above lines that change; there nothing else writes in between."""

import atexit
import os
import select
import threading
from collections.abc import Callable

PLAIN_WIDTH = 1000  # a file has room
READ_BYTES = 65_536


class Plain:
    """Lines without control characters, for files, pipes and clusters."""

    width = PLAIN_WIDTH
    is_live = False

    def __init__(self, stream):
        self._stream = stream

    def show(self, *lines: str, style: str = "") -> None:
        self._stream.writelines(f"{line}\n" for line in lines)
        self._stream.flush()

    def start(self, frame: Callable[[int, bool], list[str]]) -> None:
        """Show nothing that changes."""

    def close(self) -> None:
        """There is nothing to put back."""


class Live:
    """Lines on a terminal, above those that ``frame`` returns given a width, drawn anew a few times a second.

    Whatever this process and its jobs write on standard error meanwhile is read, and shown as lines too.
    """

    is_live = True

    def __init__(self, stream, no_color: bool = False):
        from rich.console import Console

        self._number = stream.fileno()
        self._file = os.fdopen(os.dup(self._number), "w", encoding=stream.encoding, errors="replace")
        self._console = Console(file=self._file, force_terminal=True, no_color=no_color or None, highlight=False)
        self._live = self._thread = None
        self._frame: Callable[[int, bool], list[str]] = lambda width, unicode: []

    @property
    def width(self) -> int:
        return self._console.width

    def show(self, *lines: str, style: str = "") -> None:
        if lines:  # at once: nothing stands in between
            self._console.print("\n".join(lines), style=style or None, markup=False, soft_wrap=True)

    def start(self, frame: Callable[[int, bool], list[str]]) -> None:
        from rich.live import Live as Region

        self._frame = frame
        self._read, write = os.pipe()
        os.dup2(write, self._number)
        os.close(write)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()
        self._live = Region(
            get_renderable=self._drawn, console=self._console, transient=True, redirect_stdout=False,
            redirect_stderr=False, vertical_overflow="crop",
        )  # fmt: skip
        self._live.start()
        self._console.show_cursor(True)  # a run that is killed could not
        atexit.register(self.close)

    def close(self) -> None:
        """Remove the lines that change and give standard error back."""
        if self._live is None:
            return
        live, self._live = self._live, None
        os.dup2(self._file.fileno(), self._number)
        self._ends.set()
        self._thread.join(timeout=2)
        live.stop()

    def _drawn(self):
        from rich.text import Text

        try:
            lines = self._frame(self.width - 1, self._console.encoding.startswith("utf"))
        except Exception as error:  # of what is shown, never of the run
            lines = [f"progress: {type(error).__name__}: {error}"]
        return Text("\n".join(lines), no_wrap=True, overflow="crop")

    def _pass_on(self) -> None:
        """Show what is written on standard error, by whole lines."""
        from rich.text import Text

        def show(line: bytes) -> None:
            text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
            self._console.print(Text.from_ansi(text), soft_wrap=True)

        rest = b""
        while True:
            if select.select([self._read], [], [], 0.1)[0]:
                content = os.read(self._read, READ_BYTES)
                if not content:  # no writer is left
                    break
                *whole, rest = (rest + content).split(b"\n")
                for line in whole:
                    show(line)
            elif self._ends.is_set():
                break
        if rest:
            show(rest)


def screen(stream, is_live: bool, no_color: bool) -> Plain | Live:
    """Return the screen of ``stream``: live if that is wanted and a terminal is there that can move its cursor."""
    is_terminal = bool(getattr(stream, "isatty", lambda: False)()) and os.environ.get("TERM", "dumb") != "dumb"
    return Live(stream, no_color) if is_live and is_terminal else Plain(stream)
