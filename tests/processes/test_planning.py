"""What the rules are given while Snakemake plans, without Snakemake."""

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.shell import shell

from kdq.provenance.fingerprint import Fingerprints
from kdq.study.config import read_study
from kdq.workflow.job import Job
from kdq.workflow.planning import Plan
from kdq.workflow.resources import Estimates
from kdq.workflow.settings import Settings

STUDENTS = ["teacher/{kd,at}", "teacher/kd/gpfq,bits=4", "teacher/kd/gpfq,bits=4/qat"]


@pytest.fixture
def plan(home, tmp_path, monkeypatch):
    """A plan of the study above for two cores, of which everything is asked for."""
    monkeypatch.chdir(tmp_path)
    study = read_study({"datasets": ["digits"], "seeds": [0], "recipes": STUDENTS}, home / "kdq")
    settings = SimpleNamespace(
        home=home, python="python", is_local=True, cores=1, makes_whole_study=True, has_no_gpu=lambda rule: False
    )
    return Plan(study, Fingerprints(home), settings)


def wildcards(**values):
    return SimpleNamespace(**{"dataset": "digits", "seed": "0", **values})


def test_a_job_has_the_keys_of_its_cell(plan):
    job = plan.job_of_stage("scripts/quantize.py")(wildcards(parent="hard", stage="gpfq,bits=4"))
    assert (job["name"], job["keys"]["bits"]) == ("gpfq", 4)
    assert job["files"] == ["kdq/quantize/methods/gpfq.py", "kdq/models/networks/resnet.py"]
    assert json.loads(str(job)) == job
    assert job["code"] != plan.measurement_job(wildcards(parent="hard", stage="gpfq,bits=4"))["code"]


def test_a_measurement_does_not_depend_on_the_bits(plan):
    jobs = [plan.measurement_job(wildcards(parent="hard", stage=f"gpfq,bits={bits}")) for bits in (2, 4)]
    assert jobs[0] == jobs[1] and "bits" not in jobs[0]["keys"]


def test_a_retraining_learns_from_its_float_ancestor(plan):
    stage = wildcards(parent="teacher/kd/gpfq,bits=4", stage="qat")
    assert plan.input("teacher")(stage) == "results/digits/seed=0/teacher/kd/model.safetensors"


def test_inputs_that_a_stage_does_not_ask_for_are_none(plan):
    stage = wildcards(parent="teacher", stage="kd")
    assert plan.input("views")(stage) == []
    assert plan.input("sensitivity")(wildcards(parent="teacher", stage="gpfq,bits=4")) == []
    cached = wildcards(parent="teacher", stage="kd,teacher_cache=true")
    assert plan.input("views")(cached).startswith("results/digits/seed=0/teacher/views,crop=")


def test_students_are_trained_beside_each_other_if_all_are_asked_for(plan):
    student = wildcards(parent="teacher", stage="kd")
    beside = json.loads(plan.students_beside(student, None))
    assert (beside["students"], [job["stage"] for job in beside["jobs"]]) == (2, ["at"])
    plan.settings.makes_whole_study = False
    alone = Plan(plan.study, plan.code, plan.settings)
    assert alone.students_beside(student, None) == "null"


def test_a_mistyped_stage_is_one_line(plan, capsys):
    with pytest.raises(SystemExit):
        plan.input("views")(wildcards(parent="teacher", stage="kdd"))
    assert capsys.readouterr().err.count("\n") == 1


PRINTS = """
import sys
from kdq.workflow.job import request
snakemake = request(sys.argv[1:], sys.stdin)[1]
print(repr((snakemake.input.data, list(snakemake.input), snakemake.params.job, snakemake.params.places)))
"""


@pytest.mark.parametrize("lists", [{}, {"files": [f"results/it's $(a) {number:060}" for number in range(10_000)]}])
def test_a_command_gives_the_job_its_values_and_lists(plan, lists, home, monkeypatch):
    """Through the shell that Snakemake uses, with more than a command line holds."""
    monkeypatch.setenv("PYTHONPATH", str(home))
    plan._start = [sys.executable, "-c", PRINTS]
    command = plan.command("scripts/a.py", lists=" ".join(lists), input="data", unrecorded="places")
    job = {"epochs": dict.fromkeys(lists.get("files", []), 1)}
    values = {"log": ["l"], "threads": 1, "params": SimpleNamespace(job=Job(job), places=Job(a="{'b'}"))}
    printed = shell(command, read=True, input=SimpleNamespace(data="d", **lists), **values)
    expected = ("d", ["d", *lists.get("files", [])], job, {"a": "{'b'}"})
    assert ast.literal_eval(printed) == expected


def test_a_job_asks_for_more_at_every_attempt_and_for_no_gpu_where_there_is_none(plan):
    estimates, stage = Estimates(plan), wildcards(parent="teacher", stage="kd")
    for rule in ("distill", "quantize", "evaluate"):
        cell = wildcards(parent="teacher", stage="gpfq,bits=4") if rule == "quantize" else stage
        assert estimates.memory(rule)(cell, 2) == 2 * estimates.memory(rule)(cell, 1)
    assert estimates.gpus("distill") == 1
    with_gpu = estimates.memory("distill")(stage, 1)
    plan.settings.has_no_gpu = lambda rule: True
    assert Estimates(plan).gpus("distill") == 0
    assert Estimates(plan).memory("distill")(stage, 1) < with_gpu


@pytest.mark.parametrize("word", ["quantise", "x", "results"])
def test_a_word_that_is_neither_rule_nor_file_is_one_line(plan, word, capsys):
    plan.settings.asked, plan.settings.rules = {"quantize", word}, {"quantize", "all"}
    with pytest.raises(SystemExit):
        plan.check_targets()
    lines = capsys.readouterr().err
    assert lines.startswith(f"error: {word}: is neither a rule nor a file") and lines.count("\n") == 1
    assert ("did you mean 'quantize'" in lines) == (word == "quantise")


def test_rules_files_and_paths_of_snakemake_are_let_through(plan, tmp_path):
    (tmp_path / "notes").write_text("")
    plan.settings.rules = {"quantize"}
    plan.settings.asked = {
        "quantize",
        "notes",
        "results/studies/default/table.csv",
        "./results/digits/seed=0/hard/metrics.json",
    }
    plan.check_targets()


def test_an_absolute_path_is_refused(plan, tmp_path, capsys):
    plan.settings.rules, plan.settings.asked = set(), {f"{tmp_path}/results/digits/seed=0/hard/metrics.json"}
    with pytest.raises(SystemExit):
        plan.check_targets()
    assert "expected results/digits/seed=0/hard/metrics.json\n" in capsys.readouterr().err


class TestSettings:
    def settings(self, targets=(), until=(), nodes=None):
        return Settings(
            SimpleNamespace(
                basedir=".",
                is_main_process=True,
                remote_exec=False,
                resource_settings=SimpleNamespace(nodes=nodes, cores=2, overwrite_resources={}),
                dag_settings=SimpleNamespace(
                    targets=set(targets),
                    until=set(until),
                    omit_from=set(),
                    batch=None,
                    forcerun={"d"},
                    allowed_rules={"e"},
                ),
                scheduling_settings=SimpleNamespace(prioritytargets={"f"}),
            )
        )

    @pytest.mark.parametrize("targets", [(), ("all",)])
    def test_all_is_the_whole_study(self, targets):
        assert self.settings(targets).makes_whole_study

    @pytest.mark.parametrize(
        "asked",
        [
            {"targets": ["results/studies/default/table.csv"]},
            {"targets": ["distill"]},
            {"until": ["quantize"]},
            {"nodes": 3},
        ],
    )
    def test_a_file_a_rule_or_a_cluster_is_not(self, asked):
        assert not self.settings(**asked).makes_whole_study

    def test_the_home_is_absolute_as_the_paths_of_modules_are(self):
        assert self.settings().home == Path.cwd().resolve()

    def test_what_is_asked_for_is_what_snakemake_parsed(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["snakemake", "--until=of the command line"])
        settings = self.settings(["results/a", "b"], until=["c"])
        assert settings.asked == {"results/a", "b", "c", "d", "e", "f"}

    def test_checks_come_before_planning_and_reports_after_it(self):
        order, settings = [], self.settings()
        settings._workflow._prepare_dag = lambda forceall: order.append("prepare")
        settings._workflow._build_dag = lambda: order.append("build")
        settings._workflow.persistence = "records"
        settings.before_planning(lambda: order.append("check"))
        settings.with_records(order.append)
        settings.after_planning(lambda: order.append("report"))
        settings._workflow._prepare_dag(forceall=False)
        settings._workflow._build_dag()
        assert order == ["check", "prepare", "records", "build", "report"]

    @pytest.mark.parametrize("is_main", [True, False], ids=["unknown Snakemake", "node of a cluster"])
    def test_nothing_is_wrapped_otherwise(self, is_main):
        settings = self.settings()
        settings.is_main = is_main
        if not is_main:
            settings._workflow._prepare_dag = prepare = object()
        settings.before_planning(lambda: pytest.fail("called"))
        assert getattr(settings._workflow, "_prepare_dag", None) is (None if is_main else prepare)
