"""Scheduling passes do not multiply, and SIGTERM ends the scheduler whatever it does."""

import os
import signal
import threading

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from kdq.workflow.snakemake_fixes.scheduler import METHOD, merge_reevaluations, stop_in_a_thread


class TestMergedReevaluations:
    def requested(self, *calls) -> list[float]:
        """Return which of the calls (time, seconds) reach Snakemake's method."""
        reached, now = [], [0.0]
        scheduler = type("Scheduler", (), {METHOD: lambda self, seconds: reached.append((now[0], seconds))})
        merge_reevaluations(scheduler, clock=lambda: now[0])
        instance = scheduler()
        for now[0], seconds in calls:
            getattr(instance, METHOD)(seconds)
        return reached

    def test_none_while_one_is_pending(self):
        assert self.requested((5, 1), (5.2, 1), (5.9, 1)) == [(5, 1)]

    def test_a_pass_that_came_requests_the_next(self):
        assert self.requested((5, 1), (6, 1), (7.1, 1)) == [(5, 1), (6, 1), (7.1, 1)]

    def test_an_earlier_one_is_requested(self):
        assert self.requested((5, 10), (6, 1), (6.5, 10)) == [(5, 10), (6, 1)]

    def test_snakemake_has_the_method(self):
        assert callable(getattr(JobScheduler, METHOD))


class Scheduler:
    """The part of Snakemake's that handles SIGTERM."""

    exit_gracefully = JobScheduler.exit_gracefully

    def __init__(self):
        self._lock, self._open_jobs, self._user_kill = threading.Lock(), threading.Semaphore(0), None


@pytest.fixture
def scheduler():
    """A scheduler that handles SIGTERM in this process."""
    stop_in_a_thread(Scheduler)
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


def test_a_scheduler_without_the_methods_stays_as_it_is():
    class Unknown:
        pass

    before = dict(vars(Unknown))
    for fix in (merge_reevaluations, stop_in_a_thread):
        fix(Unknown)
        fix(None)
    assert dict(vars(Unknown)) == before
