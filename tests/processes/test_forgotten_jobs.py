"""A job that SLURM has forgotten ends, and no other does."""

import asyncio
from types import SimpleNamespace

import pytest

from kdq.workflow.snakemake_fixes import forgotten_jobs
from kdq.workflow.snakemake_fixes.forgotten_jobs import TIMES, patch_executor

plugin = pytest.importorskip("snakemake_executor_plugin_slurm")


class Cluster:
    """The plugin as this package sees it, an executor of it, and one job of number 7 whose output is ``file``."""

    def __init__(self, file, answer, monkeypatch):
        self.states, self.said = [], []
        said = self.said

        class Executor:
            def report_job_success(self, job):
                said.append("success")

            def report_job_error(self, job, msg, aux_logs):
                said.append(f"{msg} {aux_logs}")

            async def check_active_jobs(self, jobs):
                await module.query_job_status("squeue", None)
                for job in jobs:
                    yield job

        async def query(command, logger):
            found = self.states.pop(0)
            return found, None if found is None else 0.1

        names = {"Executor": Executor, "query_job_status": query, "_status_lookup_ids": plugin._status_lookup_ids}
        module = SimpleNamespace(**names)
        patch_executor(module)
        self.executor = module.Executor()
        self.job = SimpleNamespace(
            external_jobid="7", job=SimpleNamespace(output=[file]), aux={"slurm_logfile": "7.log"}
        )
        monkeypatch.setattr(forgotten_jobs, "is_forgotten", answer)

    def look(self, *states) -> list[bool]:
        """Whether the job is still waited for after each look, at which SLURM knows these states."""
        return [self._look(state) for state in states]

    def _look(self, state) -> bool:
        async def left():
            return [job async for job in self.executor.check_active_jobs([self.job])]

        self.states.append(state)
        return bool(asyncio.run(left()))


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    return lambda answer=lambda number: True: Cluster(tmp_path / "model", answer, monkeypatch)


def test_it_fails_where_its_files_are_not_there(cluster):
    found = cluster()
    assert found.look(*[{}] * TIMES) == [True] * (TIMES - 1) + [False]
    (said,) = found.said
    assert said.startswith("SLURM-job '7': SLURM no longer knows the job") and "['7.log']" in said


def test_it_is_done_where_they_are(cluster, tmp_path):
    (tmp_path / "model").touch()
    found = cluster()
    assert found.look(*[{}] * TIMES)[-1] is False
    assert found.said == ["success"]


def test_its_number_may_be_given_again(cluster):
    found = cluster()
    found.look(*[{}] * TIMES)
    assert found.look({}, {"7": "RUNNING"}, *[{}] * TIMES) == [True] * (TIMES + 1) + [False]


@pytest.mark.parametrize(
    "states",
    [[{"7": "RUNNING"}] * 9, [None] * 9, [{}, {}, {"7": "PENDING"}] * 3, [{"8": "RUNNING"}, {"7": "RUNNING"}] * 5],
    ids=["known", "no answer", "known again", "others"],
)
def test_others_are_waited_for(cluster, states):
    found = cluster()
    assert all(found.look(*states)) and not found.said


def test_one_that_the_controller_knows_is_waited_for(cluster):
    """Accounting lags behind."""
    found = cluster(lambda number: False)
    assert all(found.look(*[{}] * 9)) and not found.said


def test_a_task_of_an_array_has_the_state_of_its_array(cluster):
    found = cluster()
    found.job.external_jobid = "7_1"
    assert all(found.look(*[{"7": "RUNNING"}] * 9))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", True),
        ("echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1", False),
        ("echo JobId=7", False),
        (None, False),
    ],
)
def test_the_controller_is_asked(tmp_path, monkeypatch, script, expected):
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "scontrol").chmod(0o755)
    assert forgotten_jobs.is_forgotten("7") is expected


def test_the_plugin_has_the_parts():
    assert callable(plugin.Executor.check_active_jobs) and callable(plugin.query_job_status)
    assert plugin._status_lookup_ids("7_1") == ["7_1", "7"]


def test_a_module_without_them_stays_as_it_is():
    other = SimpleNamespace()
    patch_executor(other)
    patch_executor(None)
    assert vars(other) == {}
