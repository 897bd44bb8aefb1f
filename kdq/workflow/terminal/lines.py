"""The lines that a run shows, as text of a given width."""

from kdq.recipe.path import Cell

BAR = 16  # characters
TIMES = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Return a time as one would say it.

    >>> [duration(seconds) for seconds in (0.2, 59, 60, 135, 3600 * 5 + 60 * 12, 86_400 * 3)]
    ['1 s', '59 s', '1 min', '2 min', '5 h 12 min', '3 d']
    """
    for (size, unit), (below, smaller) in zip(TIMES, (*TIMES[1:], (0, "")), strict=True):
        if seconds >= size:
            rest = int(seconds % size // below) if size > 60 else 0
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return "1 s"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "cell"), counted(1200, "cell"), counted(2, "history")
    ('1 cell', '1,200 cells', '2 histories')
    """
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{count:,} {noun if count == 1 else plural}"


def size(size_bytes: int) -> str:
    """Return a size with three digits.

    >>> [size(count) for count in (950, 34_512, 1_234_567)]
    ['950 B', '34.5 kB', '1.23 MB']
    """
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= of:
            return f"{size_bytes / of:.3g} {unit}" if size_bytes < 999.5 * of else f"{size_bytes / of:,.0f} {unit}"
    return f"{size_bytes} B"


def fitted(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, shortened in the middle: recipes differ at their ends.

    >>> fitted("teacher/dkd,alpha=1,beta=8/gpfq,bits=4", 24)
    'teache...a=8/gpfq,bits=4'
    """
    if len(text) <= width:
        return text
    head = max(0, (width - 3) // 3 - 1)
    return f"{text[:head]}...{text[head + 3 - width :]}" if width > 3 else text[:width]


def bar(part: float, unicode: bool = True, width: int = BAR) -> str:
    """Return a bar of progress.

    >>> bar(0.5, width=8), bar(0.5, unicode=False, width=8)
    ('━━━━────', '####----')
    """
    full, empty = ("━", "─") if unicode else ("#", "-")
    done = round(min(1.0, max(0.0, part)) * width)
    return full * done + empty * (width - done)


class Names:
    """Names of cells without what all of ``cells`` have in common: data set and seed."""

    def __init__(self, cells):
        self._datasets = len({cell.dataset for cell in cells}) > 1
        self._seeds = len({(cell.dataset, cell.seed) for cell in cells}) > len({cell.dataset for cell in cells})

    def of(self, cell: Cell) -> str:
        parts = [cell.dataset] if self._datasets else []
        parts += [f"seed {cell.seed}"] if self._seeds else []
        return "  ".join([*parts, cell.recipe])

    def job(self, message: str, cell: Cell | None) -> str:
        """Return what a job does, by the message of its rule."""
        return message.replace(f"{cell.dataset} seed {cell.seed}: {cell.recipe}", self.of(cell)) if cell else message


def finished(count: int, of: int, name: str, metrics: dict, room: int) -> str:
    """Return the line of a cell that is evaluated, from its ``metrics.json``; ``room`` is for its name."""
    place = f"{count:>{len(str(of))}}/{of}"
    return (
        f"{place}  {fitted(name, room):<{room}}  test {metrics['test']['top1']:7.2%}  {size(metrics['file_bytes']):>8}"
    )


def running(name: str, seconds: float, epochs: tuple[float, int] | None, width: int, unicode: bool = True) -> str:
    """Return the line of a running job; ``epochs`` are those done and those in all, None if it does not train."""
    detail = f"{duration(seconds):>8}"
    if epochs:
        done, of = epochs
        detail = f"{bar(done / of, unicode)}  epoch {min(of, int(done) + 1)}/{of}{detail}"
    room = max(10, width - len(detail) - 5)
    return f"  {fitted(name, room):<{room}}  {detail}"


def total(text: str, part: float, seconds_left: float | None, width: int, unicode: bool = True) -> str:
    """Return the last line of a run in progress; ``seconds_left`` is None as long as nothing is known of it."""
    left = "" if seconds_left is None else f"  about {duration(seconds_left)} left"
    detail = f"{bar(part, unicode)} {min(part, 0.99):4.0%}{left}"
    room = max(10, width - len(detail) - 3)
    return f"{fitted(text, room):<{room}}  {detail}"


def failed(name: str, error: str, log: str) -> list[str]:
    """Return the lines of a job that failed."""
    return [f"failed: {name}", f"error: {error}", *([f"log: {log}"] if log else [])]
