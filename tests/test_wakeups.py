"""The scheduler's looks at the jobs to come do not multiply."""

from types import SimpleNamespace

from snakemake.scheduling.job_scheduler import JobScheduler

from kdq.wakeups import METHOD, one_at_a_time


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
