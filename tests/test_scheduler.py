"""The scheduler's looks at the jobs to come do not multiply, and SIGTERM ends it whatever it does."""

import os
import signal
import threading
from types import SimpleNamespace

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from kdq.workflow.snakemake_fixes.scheduler import METHOD, one_at_a_time, stops_in_a_thread


class TestOneAtATime:
    def asked(self, *calls) -> list[float]:
        """Which of the calls (time, seconds) reach the scheduler."""
        reached, now = [], [0.0]
        scheduler = SimpleNamespace(**{METHOD: lambda seconds: reached.append((now[0], seconds))})
        one_at_a_time(scheduler, clock=lambda: now[0])
        for now[0], seconds in calls:
            getattr(scheduler, METHOD)(seconds)
        return reached

    def test_none_while_one_is_to_come(self):
        assert self.asked((5, 1), (5.2, 1), (5.9, 1)) == [(5, 1)]

    def test_the_look_that_came_asks_for_the_next(self):
        assert self.asked((5, 1), (6, 1), (7.1, 1)) == [(5, 1), (6, 1), (7.1, 1)]

    def test_an_earlier_one_is_asked_for(self):
        assert self.asked((5, 10), (6, 1), (6.5, 10)) == [(5, 10), (6, 1)]

    def test_the_scheduler_has_the_method(self):
        assert callable(getattr(JobScheduler, METHOD))

    def test_one_without_it_stays_as_it_is(self):
        other = SimpleNamespace()
        one_at_a_time(other)
        assert vars(other) == {}


class Scheduler:
    """What of Snakemake's has to do with SIGTERM."""

    exit_gracefully = JobScheduler.exit_gracefully

    def __init__(self):
        self._lock, self._open_jobs, self._user_kill = threading.Lock(), threading.Semaphore(0), None


@pytest.fixture
def scheduler():
    """A scheduler that answers SIGTERM in this process."""
    stops_in_a_thread(Scheduler)
    scheduler = Scheduler()
    before = signal.signal(signal.SIGTERM, scheduler.exit_gracefully)
    yield scheduler
    signal.signal(signal.SIGTERM, before)


def test_sigterm_while_the_lock_is_held_ends_the_scheduler_afterwards(scheduler):
    with scheduler._lock:
        os.kill(os.getpid(), signal.SIGTERM)
        assert scheduler._user_kill is None
    assert scheduler._open_jobs.acquire(timeout=60)
    assert scheduler._user_kill == "graceful"


def test_a_scheduler_without_the_method_stays_as_it_is():
    class Other:
        pass

    stops_in_a_thread(Other)
    assert not hasattr(Other, "exit_gracefully")
