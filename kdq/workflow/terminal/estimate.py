"""How far a run is and how long it still takes: jobs count by their time, since a training is no evaluation.

A job's time is what its network and epochs cost by :mod:`kdq.workflow.resources`, times what finished jobs took by
that measure: those of its kind, of its rule, or all, whichever is the first that there is; all say little at first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kdq.recipe.path import join, parent
from kdq.workflow.terminal.planned import PlannedJob

START_SECONDS = 1.0  # of every job: fork, libraries, files
TRUST_SECONDS = 30.0  # of work, after which all jobs' times count as much as those assumed
LEAST_LEFT = 0.1  # of its time, that a job takes longer than foreseen if its log does not tell how far it is


class Progress:
    """The progress of ``jobs``; times are seconds of any clock that only goes forward."""

    def __init__(self, jobs: Iterable[PlannedJob]):
        self.jobs = {job.number: job for job in jobs}
        self.started: dict[int, float] = {}
        self.took: dict[int, float] = {}
        self.failed: set[int] = set()
        self.networks: dict[int, int] = {}  # that a job trains, if not one
        self._order = _order(self.jobs)

    def start(self, number: int, now: float) -> None:
        self.started[number] = now
        self.failed.discard(number)

    def finish(self, number: int, now: float) -> None:
        self.took[number] = now - self.started.pop(number, now)

    def fail(self, number: int) -> None:
        self.started.pop(number, None)
        self.failed.add(number)

    def trains_beside(self, number: int, stages: list[str]) -> None:
        """Note that a job trains all students ``stages`` of its teacher: the jobs of the others find them trained."""
        carrier = self.jobs[number].cell
        recipes = {join(parent(carrier.recipe), stage) for stage in stages} - {carrier.recipe}
        carried = {
            job.number
            for job in self.jobs.values()
            if job.makes_model and job.cell.recipe in recipes and job.cell == carrier.with_recipe(job.cell.recipe)
        }
        self.networks |= dict.fromkeys(carried, 0) | {number: 1 + len(carried)}

    def _cost(self, job: PlannedJob) -> float:
        return START_SECONDS + job.seconds * self.networks.get(job.number, 1)

    def estimate(self, now: float, part_of: Callable[[PlannedJob], float] = lambda job: 0.0) -> "Estimate":
        """Return the estimate at the time ``now``; ``part_of`` returns the part of a running job that is done."""
        elapsed = {number: now - started for number, started in self.started.items()}
        parts = {number: part_of(self.jobs[number]) for number in elapsed}
        known = self.took | {number: elapsed[number] / part for number, part in parts.items() if part}
        factors = self._factors(known)
        total = {
            number: known[number] if number in known else self._cost(job) * _factor(job, factors)
            for number, job in self.jobs.items()
        }
        for number in elapsed.keys() - known.keys():
            total[number] = max(total[number], elapsed[number] + LEAST_LEFT * total[number])
        done = self.took | elapsed
        left = {number: seconds - done.get(number, 0.0) for number, seconds in total.items()}
        return Estimate(self.jobs, self._order, total, left, bool(known))

    def _factors(self, known: Mapping[int, float]) -> dict[str, float]:
        """Return what jobs took by what they cost: of each kind, of each rule, and of all under ""."""
        sums = defaultdict(lambda: [0.0, 0.0], {"": [TRUST_SECONDS, TRUST_SECONDS]})
        for number, took in known.items():
            job = self.jobs[number]
            for key in (job.kind, job.rule, ""):
                sums[key][0] += took
                sums[key][1] += self._cost(job)
        return {key: took / cost for key, (took, cost) in sums.items()}


@dataclass(frozen=True)
class Estimate:
    """Seconds that each job takes in all and still takes, by its number; ``is_founded`` once a job told its time."""

    jobs: Mapping[int, PlannedJob]
    order: list[int]
    total: Mapping[int, float]
    left: Mapping[int, float]
    is_founded: bool

    @property
    def seconds_left(self) -> float:
        """When the run ends: after all that is left, shared out, or after the longest chain of jobs."""
        chain: dict[int, float] = {}
        for number in self.order:
            before = max((chain[need] for need in self.jobs[number].needs if need in chain), default=0.0)
            chain[number] = self.left[number] + before
        return max(self._work(self.left), max(chain.values(), default=0.0))

    @property
    def part_done(self) -> float:
        """The part of all work that is done, between 0 and 1."""
        whole = self._work(self.total)
        return 1 - self._work(self.left) / whole if whole else 1.0

    def _work(self, seconds: Mapping[int, float]) -> float:
        return sum(seconds[number] * job.share for number, job in self.jobs.items())


def _factor(job: PlannedJob, factors: Mapping[str, float]) -> float:
    return next(factors[key] for key in (job.kind, job.rule, "") if key in factors)


def _order(jobs: Mapping[int, PlannedJob]) -> list[int]:
    """Return the numbers of ``jobs``, each after those that it needs."""
    order: dict[int, None] = {}
    stack = [(number, False) for number in jobs]
    while stack:
        number, needs_are_there = stack.pop()
        if needs_are_there:
            order[number] = None
        elif number in jobs and number not in order:
            stack.append((number, True))
            stack += [(need, False) for need in jobs[number].needs if need not in order]
    return list(order)
