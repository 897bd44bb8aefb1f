"""A run in progress: what is shown of it, from what happens to its jobs."""

import time

from kdq.errors import UserError
from kdq.provenance.files import read_json
from kdq.workflow.terminal import job_log, lines
from kdq.workflow.terminal.estimate import Estimate, Progress
from kdq.workflow.terminal.planned import PlannedJob
from kdq.workflow.terminal.why import makes_again, why

MOST_ROWS = 8  # of running jobs
LEAST_ROOM = 20  # characters for a name
COST_OF_ESTIMATE = 50  # one in so many seconds is spent on it


class Run:
    """The run of ``jobs`` of the study ``name``."""

    def __init__(self, name: str, jobs: list[PlannedJob], clock=time.monotonic):
        self.name, self.jobs, self.clock = name, {job.number: job for job in jobs}, clock
        self.progress = Progress(jobs)
        self.names = lines.Names([job.cell for job in jobs if job.cell])
        self.evaluated, self.to_evaluate = 0, sum(bool(job.metrics) for job in jobs)
        self.failed: dict[int, str] = {}
        self.interrupted = False
        self._labels: dict[int, str] = {}
        self._began: dict[int, float] = {}  # by the wall clock, as the times of logs
        self._due = 0.0  # when the next estimate is made
        self._longest = max([LEAST_ROOM, *(len(self.names.of(job.cell)) for job in jobs if job.metrics)])

    def opening(self, reasons: bool = True) -> list[str]:
        """Return the lines at the beginning: how much there is to do, and why if something is made again."""
        cells = f", {lines.counted(self.to_evaluate, 'cell')} to evaluate" if self.to_evaluate else ""
        return [
            f"{self.name}: {lines.counted(len(self.jobs), 'job')}{cells}",
            *(why(self.jobs.values()) if reasons and makes_again(self.jobs.values()) else []),
        ]

    def start(self, number: int, message: str) -> None:
        job = self.jobs[number]
        self._labels[number] = self.names.job(message, job.cell)
        self._began[number] = time.time()
        self.failed.pop(number, None)
        self.progress.start(number, self.clock())

    def finish(self, number: int, width: int) -> str:
        """Return the line of the cell that a job evaluated, "" if it did not."""
        self._look_beside(number)
        self.progress.finish(number, self.clock())
        job = self.jobs[number]
        if not job.metrics:
            return ""
        self.evaluated += 1
        try:
            metrics = read_json(job.metrics, sealed=True)
            room = max(LEAST_ROOM, min(self._longest, width - 30))
            return lines.finished(self.evaluated, self.to_evaluate, self.names.of(job.cell), metrics, room)
        except (UserError, KeyError, TypeError, ValueError):
            return ""  # what can't be read is an error of the job that reads it next

    def fail(self, number: int, log: str) -> list[str]:
        """Return the lines of a job that failed, none if the whole run was interrupted."""
        self.progress.fail(number)
        if self.interrupted:
            return []
        label = self._labels.get(number) or f"{self.jobs[number].rule} {', '.join(self.jobs[number].outputs[:1])}"
        self.failed[number] = f"{label}  (log: {log})" if log else label
        return lines.failed(label, job_log.error(job_log.read(log)[1]), log)

    def closing(self) -> list[str]:
        """Return the lines of a run that did not get to its end."""
        done, rest = len(self.progress.took), len(self.jobs) - len(self.progress.took)
        cells = f", {self.evaluated} of {lines.counted(self.to_evaluate, 'cell')}" if self.to_evaluate else ""
        failed = [f"failed: {text}" for text in self.failed.values()]
        how = "interrupted: " if self.interrupted else ""
        return [
            *failed,
            f"{how}{done:,} of {lines.counted(done + rest, 'job')} done{cells}; the next run goes on from here",
        ]

    def time_left(self) -> str:
        """Return the estimate in words, "" before a job has ended."""
        estimate = self._estimate()
        if not estimate.is_founded or len(self.progress.took) == len(self.jobs):
            return ""
        return f"about {lines.duration(estimate.seconds_left)} left"

    def frame(self, width: int, unicode: bool = True) -> list[str]:
        """Return the lines that stand below all others while the run goes on: running jobs, and the whole."""
        now, numbers = self.clock(), list(self.progress.started)
        rows = [self._row(number, now, width, unicode) for number in numbers[:MOST_ROWS]]
        rows += [f"  and {len(numbers) - MOST_ROWS} more jobs"] if len(numbers) > MOST_ROWS else []
        text = f"{self.name}: {self.evaluated}/{self.to_evaluate} cells" if self.to_evaluate else self.name
        estimate = self._estimate()
        seconds = estimate.seconds_left if estimate.is_founded else None
        return [*rows, lines.total(text, estimate.part_done, seconds, width, unicode)]

    def _estimate(self) -> Estimate:
        """Return an estimate of at most a second ago; of a large study an older one, or it would take a core."""
        now = self.clock()
        if now >= self._due:
            began = time.perf_counter()
            self._latest = self.progress.estimate(now, self._part)
            self._due = now + max(1.0, COST_OF_ESTIMATE * (time.perf_counter() - began))
        return self._latest

    def _row(self, number: int, now: float, width: int, unicode: bool) -> str:
        beside = self._look_beside(number)
        label = self._labels[number] + (f" + {len(beside) - 1} beside" if beside else "")
        epochs = job_log.epochs(self._log(number)[1])
        return lines.running(label, now - self.progress.started[number], epochs, width, unicode)

    def _part(self, job: PlannedJob) -> float:
        done, of = job_log.epochs(self._log(job.number)[1]) or (0, 1)
        return min(done / of, 0.99)

    def _look_beside(self, number: int) -> list[str]:
        stages = job_log.beside(self._log(number)[0])
        if stages and number not in self.progress.networks:
            self.progress.trains_beside(number, stages)
        return stages

    def _log(self, number: int) -> tuple[str, str]:
        return job_log.read(self.jobs[number].log, self._began.get(number, 0.0)) if self.jobs[number].log else ("", "")
