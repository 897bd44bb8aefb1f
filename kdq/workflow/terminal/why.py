"""Why jobs run: one line per change, with how much it makes again; what follows from it is counted, not listed."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from kdq.workflow.terminal.lines import counted
from kdq.workflow.terminal.planned import NEW, Cause, PlannedJob

MOST_LINES, MOST_NAMES, MOST_NOUNS = 10, 4, 3
NOUNS = {
    "prepare_data": "data set",
    "root": "root",
    "distill": "student",
    "quantize": "quantized network",
    "retrain": "retrained network",
    **dict.fromkeys(("evaluate", "evaluate_root"), "evaluation"),
    **dict.fromkeys(("table", "compare", "sequences", "sensitivities", "deployment"), "table"),
    "plot": "figure",
}


def why(jobs: Iterable[PlannedJob]) -> list[str]:
    """Return a line per change, those that make most again first, and one on what is new."""
    jobs = {job.number: job for job in jobs}
    by_change: dict[str, list[tuple[PlannedJob, Cause]]] = defaultdict(list)
    for job in jobs.values():
        for cause in job.causes:
            by_change[cause.change].append((job, cause))
    new = by_change.pop(NEW, [])
    behind = _behind(jobs)
    remade = {change: _with_all_behind([job for job, _ in causes], behind) for change, causes in by_change.items()}
    changes = sorted(by_change, key=lambda change: (-len(remade[change]), change))
    lines = [_line(change, by_change[change], remade[change]) for change in changes[:MOST_LINES]]
    more = [f"and {counted(len(changes) - MOST_LINES, 'further change')}"] if len(changes) > MOST_LINES else []
    return [*lines, *more, *_new(new)]


def makes_again(jobs: Iterable[PlannedJob]) -> bool:
    """Return whether a job replaces what was there, for another reason than a job before it."""
    return any(cause.change != NEW for job in jobs for cause in job.causes)


def _line(change: str, direct: list[tuple[PlannedJob, Cause]], remade: list[PlannedJob]) -> str:
    nouns = Counter(NOUNS.get(job.rule, f"{job.rule} job") for job, _ in direct)
    counts = [counted(count, noun) for noun, count in nouns.most_common()]
    counts = counts if len(counts) <= MOST_NOUNS else [counted(len(direct), "job")]
    if cells := {job.cell for job in remade if job.makes_model}:
        counts.append(counted(len(cells), "cell"))
    elif len(remade) > len(direct):
        counts.append(f"{counted(len(remade) - len(direct), 'job')} behind")
    return f"{_subject([cause for _, cause in direct])}: {change}: {', '.join(counts)}"


def _subject(causes: list[Cause]) -> str:
    """Return what changed: several subjects of a role by this role, all others by their names, the most first."""
    names = defaultdict(set)
    for cause in causes:
        names[cause.role].add(cause.subject)
    counts = Counter(cause.role if len(names[cause.role]) > 1 and cause.role else cause.subject for cause in causes)
    named = [name for name, _ in counts.most_common(MOST_NAMES)]
    more = f" and {len(counts) - MOST_NAMES} more" if len(counts) > MOST_NAMES else ""
    return ", ".join(named) + more


def _new(new: list[tuple[PlannedJob, Cause]]) -> list[str]:
    """Return one line on files that were not there: cells, or else which."""
    if cells := {job.cell for job, _ in new if job.makes_model or job.metrics}:
        return [f"new: {counted(len(cells), 'cell')}"]
    files = Counter(NOUNS.get(job.rule, cause.subject) for job, cause in new)
    most = [counted(count, noun) for noun, count in files.most_common(MOST_NAMES)]
    more = f" and {len(files) - MOST_NAMES} more" if len(files) > MOST_NAMES else ""
    return [f"new: {', '.join(most)}{more}"] if files else []


def _behind(jobs: dict[int, PlannedJob]) -> dict[int, list[int]]:
    behind = defaultdict(list)
    for job in jobs.values():
        for need in job.needs:
            behind[need].append(job.number)
    return {number: [jobs[later] for later in behind[number]] for number in jobs}


def _with_all_behind(direct: list[PlannedJob], behind: dict[int, list[PlannedJob]]) -> list[PlannedJob]:
    """Return the jobs and all that run since these do."""
    reached, stack = {job.number: job for job in direct}, list(direct)
    while stack:
        for job in behind[stack.pop().number]:
            if job.number not in reached:
                reached[job.number] = job
                stack.append(job)
    return list(reached.values())
