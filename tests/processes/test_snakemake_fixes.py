"""The fixes never end a run, and each defect that they mend is still there.

A strict xfail test runs Snakemake's own code and asserts what it should do: it fails on the day a release does.
"""

import asyncio
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from snakemake.common import get_function_params
from snakemake.output_index import OutputIndex
from snakemake.persistence.file import FilePersistence
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.target_jobs import parse_target_jobs_cli_args
from snakemake_interface_executor_plugins.utils import TargetSpec, encode_target_jobs_cli_args

from kdq.workflow import snakemake_fixes
from kdq.workflow.snakemake_fixes import outputs, target_jobs
from kdq.workflow.snakemake_fixes.forgotten_jobs import TIMES
from kdq.workflow.snakemake_fixes.interrupt import stop_jobs
from kdq.workflow.snakemake_fixes.locks import keep_locks_of_others
from kdq.workflow.snakemake_fixes.parts import part
from kdq.workflow.snakemake_fixes.signatures import cache_signatures


def test_a_module_or_name_that_moved_is_none():
    assert part("snakemake.moved.away", "JobScheduler") is None
    assert part("snakemake.scheduling.job_scheduler", "Renamed") is None
    assert part("snakemake.scheduling.job_scheduler", "JobScheduler") is JobScheduler


def test_on_an_unknown_snakemake_nothing_is_changed_and_a_node_says_so(monkeypatch, capsys):
    for module in (snakemake_fixes, target_jobs):
        monkeypatch.setattr(module, "part", lambda *names: None)
    workflow = SimpleNamespace(is_main_process=False)
    snakemake_fixes.apply(workflow)
    assert vars(workflow) == {"is_main_process": False}
    assert capsys.readouterr().err.startswith("warning: this Snakemake is unknown")


def test_signatures_are_inspected_once(monkeypatch):
    inspected = []
    module = SimpleNamespace(get_function_params=lambda function: inspected.append(function) or ["wildcards"])
    cache_signatures(module, None)
    assert [module.get_function_params(test_signatures_are_inspected_once) for _ in range(3)] == [["wildcards"]] * 3
    assert len(inspected) == 1


def test_producers_of_a_file_are_matched_once():
    class Index:
        matched = 0

        def match_producers(self, file):
            self.matched += 1
            return {file}

    outputs.cache_producers(Index)
    first, second = Index(), Index()
    first.match_producers("a").clear()  # what a caller changes is its own
    assert first.match_producers("a") == {"a"} and first.match_producers("b") == {"b"}
    assert second.match_producers("a") == {"a"} and (first.matched, second.matched) == (2, 1)


@pytest.mark.parametrize(
    ("files", "checked"), [(("r/a/x", "r/a/y", "r/b"), 0), (("r/a", "r/a/b/x"), 1), (("r/a", "r/ab/x"), 0)]
)
def test_outputs_are_checked_if_one_lies_within_another(files, checked):
    class Plan:
        jobs = [SimpleNamespace(output=[file]) for file in files]
        checks = 0

        def check_directory_outputs(self):
            self.checks += 1

    outputs.skip_disjoint_directories(Plan)
    plan = Plan()
    plan.check_directory_outputs()
    assert plan.checks == checked


def test_the_jobs_of_a_node_are_read_again_before_it_plans(monkeypatch):
    planned = []
    workflow = SimpleNamespace(
        is_main_process=False,
        dag_settings=SimpleNamespace(target_jobs=[]),
        get_rule=lambda rule: SimpleNamespace(wildcard_names={"stage"}),
        _prepare_dag=lambda **options: planned.append(options),
    )
    monkeypatch.setattr("sys.argv", ["snakemake", "--target-jobs", 'root:stage="hard,epochs=1"', "--cores", "1"])
    target_jobs.reread_target_jobs(workflow)
    workflow._prepare_dag(forceall=False)
    assert workflow.dag_settings.target_jobs == [TargetSpec("root", {"stage": "hard,epochs=1"})]
    assert planned == [{"forceall": False}]


def _locked_by_two_runs(folder, persistence):
    """Return the lock that is left when the first of two runs ends."""
    runs = [persistence.__new__(persistence) for _ in range(2)]
    for run, file in zip(runs, ("results/a", "results/b"), strict=True):
        run._lockdir, run._lockfile = str(folder), {}
        run._write_locks("output", [file])
    runs[0]._delete_locks()
    return [path.read_text(encoding="utf-8") for path in folder.glob("*.lock")], runs[1]


def test_the_locks_of_another_run_stay(tmp_path):
    class Persistence(FilePersistence):
        pass

    keep_locks_of_others(Persistence)
    left, last = _locked_by_two_runs(tmp_path, Persistence)
    assert left == ["results/b\n"]
    last._delete_locks()
    assert not tmp_path.exists()
    last._delete_locks()  # a second time, and without the folder


@pytest.mark.xfail(strict=True, reason="the first run to end removes the locks of all")
def test_defect_locks_of_others_are_removed(tmp_path):
    assert _locked_by_two_runs(tmp_path, FilePersistence)[0]


CANCEL = """
import subprocess, sys
from snakemake.executors.local import Executor
from kdq.workflow.snakemake_fixes.interrupt import stop_jobs

class Interrupted(Executor):
    pass

job = subprocess.Popen(["sleep", "60"])
executor = Interrupted.__new__(Interrupted)
executor.pool = type("Pool", (), {"shutdown": staticmethod(lambda: None)})
if sys.argv[1] == "mended":
    stop_jobs(Interrupted, seconds=0.1)
executor.cancel()
try:
    print(job.wait(2))
except subprocess.TimeoutExpired:
    print("runs on")
    job.kill()
"""


@pytest.mark.parametrize(("executor", "job"), [("mended", "-15"), ("Snakemake's", "runs on")])
def test_a_cancel_stops_jobs_that_did_not_get_the_signal(executor, job):
    run = subprocess.run([sys.executable, "-c", CANCEL, executor], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == job


def test_an_executor_without_cancel_is_left_alone():
    stop_jobs(object)
    stop_jobs(None)


@pytest.mark.xfail(strict=True, reason="every request for a re-evaluation schedules one more")
def test_defect_reevaluations_multiply(monkeypatch):
    timers = []
    timer = lambda delay, function: SimpleNamespace(start=lambda: timers.append(delay))  # noqa: E731
    monkeypatch.setattr("snakemake.scheduling.job_scheduler.threading.Timer", timer)
    scheduler = JobScheduler.__new__(JobScheduler)
    scheduler._open_jobs, scheduler._lock = threading.Semaphore(0), threading.Lock()
    for _ in range(2):
        JobScheduler._schedule_reevalutation(scheduler, 1)
    assert len(timers) == 1


@pytest.mark.xfail(strict=True, reason="the handler waits for a lock that its own thread may hold")
def test_defect_sigterm_waits_for_the_lock():
    scheduler = SimpleNamespace(_lock=threading.Lock(), _open_jobs=threading.Semaphore(0), _user_kill=None)
    with scheduler._lock:
        handler = threading.Thread(target=JobScheduler.exit_gracefully, args=(scheduler,), daemon=True)
        handler.start()
        handler.join(2)
        waits = handler.is_alive()
    handler.join()
    assert not waits


@pytest.mark.xfail(strict=True, reason="a quoted wildcard is split at its commas")
def test_defect_commas_in_target_jobs():
    jobs = [TargetSpec("root", {"dataset": "digits", "stage": "hard,epochs=1"})]
    assert parse_target_jobs_cli_args(encode_target_jobs_cli_args(jobs)) == jobs


@pytest.mark.xfail(strict=True, reason="the signature of a function is inspected for every job")
def test_defect_signatures_are_inspected_again(monkeypatch):
    inspected = []
    signature = lambda function: inspected.append(function) or SimpleNamespace(parameters={})  # noqa: E731
    monkeypatch.setattr("snakemake.common.inspect.signature", signature)
    for _ in range(2):
        get_function_params(test_defect_signatures_are_inspected_again)
    assert len(inspected) == 1


@pytest.mark.xfail(strict=True, reason="a file is matched against all rules for every job that reads it")
def test_defect_producers_are_matched_again():
    matched, product = [], SimpleNamespace(constant_prefix=lambda: "results/", constant_suffix=lambda: ".json")
    rule = SimpleNamespace(products=lambda: [product], is_producer=matched.append)
    index = OutputIndex([_Hashable(rule)])
    for _ in range(2):
        index.match_producers("results/a.json")
    assert len(matched) == 1


@pytest.mark.xfail(strict=True, reason="all outputs are sorted as objects, even if none can lie within another")
def test_defect_directories_are_compared_as_objects(monkeypatch):
    compared = []
    part("snakemake.workflow")  # snakemake.dag can't be imported first
    monkeypatch.setattr(
        "snakemake.dag.os", SimpleNamespace(path=SimpleNamespace(commonpath=lambda paths: compared.append(paths) or ""))
    )
    part("snakemake.dag", "DAG").check_directory_outputs(
        SimpleNamespace(jobs=[_Hashable(SimpleNamespace(output=["r/a", "r/b"]))])
    )
    assert not compared


class _Hashable(SimpleNamespace):
    """A stand-in for a rule or a job, with the attributes of another namespace."""

    def __init__(self, namespace):
        super().__init__(**vars(namespace))

    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __lt__ = lambda self, other: False  # noqa: E731


@pytest.mark.xfail(strict=True, reason="a job that SLURM no longer knows is waited for")
def test_defect_forgotten_slurm_jobs(monkeypatch):
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm")

    class Limiter:
        async def __aenter__(self):
            pass

        async def __aexit__(self, *error):
            pass

    async def no_job(*arguments):
        return {}, 0.1

    async def waited_for(executor, job):
        return [left async for left in plugin.Executor.check_active_jobs(executor, [job])]

    monkeypatch.setattr(plugin, "query_job_status", no_job)
    monkeypatch.setattr(plugin, "get_min_job_age", lambda: 300)
    executor, ended = _executor(plugin, Limiter()), []
    executor.report_job_error = executor.report_job_success = lambda job, **message: ended.append(job)
    job = SimpleNamespace(external_jobid="7", aux={}, job=SimpleNamespace(output=["no/such/file"]))
    for _ in range(2 * TIMES):
        if not ended:
            asyncio.run(waited_for(executor, job))
    assert ended


def _executor(plugin, limiter):
    """Return an executor of the plugin without a workflow behind it."""
    executor = plugin.Executor.__new__(plugin.Executor)
    settings = SimpleNamespace(init_seconds_before_status_checks=40, status_attempts=1, status_command="squeue")
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.logger = SimpleNamespace(**dict.fromkeys(("debug", "info", "warning", "error"), lambda *message: None))
    executor._next_seconds_between_status_checks = 40
    executor.run_uuid, executor.get_status_command = "run", lambda: "squeue"
    executor.status_rate_limiter = limiter
    for name in ("failures", "calls"):
        setattr(executor, f"_status_query_{name}", 0)
    executor._status_query_total_seconds, executor._status_query_cycle_rows = 0.0, []
    executor._status_query_min_seconds, executor._status_query_max_seconds = None, 0.0
    return executor
