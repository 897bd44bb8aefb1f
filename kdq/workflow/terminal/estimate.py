"""How far a run is and how long it still takes: jobs count by their time, since a training is no evaluation.

A job's time is what its network and epochs cost by :mod:`kdq.workflow.resources`, times what finished jobs took by
that measure: those of its kind, of its rule, or all, whichever is the first that there is; all say little at first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

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

    def total_seconds(self) -> dict[int, float]:
        """Return what each job takes in all: measured, or else estimated."""
        sums = defaultdict(lambda: [0.0, 0.0])
        for number, took in self.took.items():
            job = self.jobs[number]
            for key in (job.kind, job.rule, ""):
                sums[key][0] += took
                sums[key][1] += self._cost(job)
        factors = {key: took / cost for key, (took, cost) in sums.items()}
        took, cost = sums[""]
        factors[""] = (took + TRUST_SECONDS) / (cost + TRUST_SECONDS)
        return {
            number: self.took[number] if number in self.took else self._cost(job) * _factor(job, factors)
            for number, job in self.jobs.items()
        }

    def left(self, now: float, part_of: Callable[[PlannedJob], float] = lambda job: 0.0) -> dict[int, float]:
        """Return the seconds that each job still takes; ``part_of`` returns the part of a running job that is done."""
        left = {number: 0.0 if number in self.took else total for number, total in self.total_seconds().items()}
        for number, started in self.started.items():
            total, elapsed, part = left[number], now - started, part_of(self.jobs[number])
            left[number] = elapsed * (1 - part) / part if part else max(total - elapsed, LEAST_LEFT * total)
        return left

    def seconds_left(self, left: Mapping[int, float]) -> float:
        """Return when the run ends: after all that is left, shared out, or after the longest chain of jobs."""
        chain: dict[int, float] = {}
        for number in self._order:
            job = self.jobs[number]
            chain[number] = left[number] + max((chain[need] for need in job.needs if need in chain), default=0.0)
        work = sum(left[number] * job.share for number, job in self.jobs.items())
        return max(work, max(chain.values(), default=0.0))

    def part_done(self, left: Mapping[int, float]) -> float:
        """Return the part of all work that is done, between 0 and 1."""
        total = self.total_seconds()
        whole = sum(max(total[number], left[number]) * job.share for number, job in self.jobs.items())
        rest = sum(left[number] * job.share for number, job in self.jobs.items())
        return 1 - rest / whole if whole else 1.0


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
