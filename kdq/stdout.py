"""Lines on standard output, for commands whose reader may stop reading: ``make verify | head``."""

import os
import sys
from collections.abc import Iterable


def print_lines(lines: Iterable[str]) -> None:
    """Print ``lines``; if nobody reads any more, drop what is left, and what is printed later, without an error."""
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        sys.stdout.flush()
    except BrokenPipeError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())  # Python writes what it buffers once more at its end
        os.close(nothing)
