"""What a job's log tells while the job runs, and after it failed."""

import os
import re
import stat

TAIL_BYTES = 4096
EPOCH = re.compile(r"epoch +(\d+)/(\d+)(?:  step (\d+)/(\d+))?  ")  # as kdq/train/loop.py writes it
BESIDE = re.compile(r"^[-0-9]+ [:0-9]+  \d+ students side by side: (.*)\n", re.MULTILINE)
ERROR = re.compile(r"(?:^|  )error: (.*)$")


def read(path: str, since: float = 0.0, size_bytes: int = TAIL_BYTES) -> tuple[str, str]:
    """Return the beginning and the end of a log; "" twice if there is none, or none written ``since`` (a Unix time)."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mtime < since:
                return "", ""
            first = file.read(size_bytes)
            file.seek(max(0, status.st_size - size_bytes))
            return first.decode("utf-8", "replace"), file.read(size_bytes).decode("utf-8", "replace")
    except OSError:
        return "", ""


def epochs(text: str) -> tuple[float, int] | None:
    """Return how many epochs are done and how many there are, by the last line on it; None without such a line.

    >>> epochs("2026-01-01 00:00:00  epoch   3/15  learning rate 0.1\\n")
    (3.0, 15)
    >>> epochs("2026-01-01 00:00:00  epoch   3/15  step 30/120  cross_entropy 0.2\\n")
    (2.25, 15)
    """
    last = next(reversed(list(EPOCH.finditer(text))), None)
    if last is None:
        return None
    epoch, of, step, steps = (int(group) if group else None for group in last.groups())
    return (float(epoch) if step is None else epoch - 1 + step / steps), of


def beside(text: str) -> list[str]:
    """Return the stages that a job trains side by side, by the beginning of its log; none if it trains one alone.

    >>> beside("2026-01-01 00:00:00  2 students side by side: dkd,alpha=1,beta=4, kd\\n")
    ['dkd,alpha=1,beta=4', 'kd']
    """
    match = BESIDE.search(text)
    return match[1].split(", ") if match else []


def error(text: str) -> str:
    """Return the error that a job ended with, in one line: the last one of its log, else the last line.

    >>> error("2026-01-01 00:00:00  1,000 images\\n2026-01-01 00:00:01  error: the loss is nan\\n")
    'the loss is nan'
    """
    lines = text.splitlines()
    errors = [match[1] for line in lines if (match := ERROR.search(line))]
    if errors:
        return errors[-1]
    return f"it ended without an error in its log, whose last line is: {lines[-1]}" if lines else "its log is empty"
