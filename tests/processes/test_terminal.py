"""What a run shows: lines, estimates, causes, logs, screens; a whole run: tests/workflow/test_terminal.py."""

import io
import os
import time

import pytest

from kdq.provenance.files import write_json
from kdq.workflow.terminal import job_log, lines
from kdq.workflow.terminal.estimate import Progress
from kdq.workflow.terminal.planned import NEW, Cause, PlannedJob
from kdq.workflow.terminal.run import Run
from kdq.workflow.terminal.screen import Live, Plain, screen
from kdq.workflow.terminal.why import makes_again, why

SEED = "results/digits/seed=0"


def job(number, rule, recipe, *names, **facts) -> PlannedJob:
    outputs = tuple(f"{SEED}/{recipe}/{name}" for name in names)
    return PlannedJob(number, rule, outputs, **{"needs": frozenset(), **facts})


def training(number, recipe, seconds=100.0, **facts) -> PlannedJob:
    return job(number, "distill", recipe, "model.safetensors", "history.csv", seconds=seconds, **facts)


def evaluation(number, recipe, needs, **facts) -> PlannedJob:
    return job(number, "evaluate", recipe, "metrics.json", "predictions.safetensors", needs=frozenset(needs), **facts)


class TestEstimate:
    def test_a_training_counts_more_than_an_evaluation(self):
        progress = Progress([training(1, "teacher/kd"), evaluation(2, "teacher/kd", [1])])
        progress.start(1, 0.0)
        progress.finish(1, 101.0)
        estimate = progress.estimate(101.0)
        assert estimate.seconds_left == pytest.approx(1.0)
        assert estimate.part_done == pytest.approx(101 / 102)

    def test_times_follow_those_of_the_same_kind_then_rule_then_all(self):
        jobs = [
            *(training(number, recipe) for number, recipe in enumerate(["teacher/kd", "teacher/kd,epochs=2"])),
            *(training(number, recipe) for number, recipe in enumerate(["teacher/at", "teacher/sp"], 2)),
            evaluation(4, "teacher/kd", [0]),
        ]
        progress = Progress(jobs)
        progress.start(0, 0.0)
        progress.finish(0, 202.0)  # twice as long as assumed
        assert progress.estimate(606.0).total[1] == progress.estimate(606.0).total[2] == pytest.approx(202)
        assert 1 < progress.estimate(606.0).total[4] < 2  # one training says not all of an evaluation
        progress.start(2, 202.0)
        progress.finish(2, 202.0 + 404)
        assert progress.estimate(606.0).total[1] == pytest.approx(202)  # as the other kd
        assert progress.estimate(606.0).total[3] == pytest.approx(303)  # as the mean of its rule

    def test_a_longer_training_takes_longer(self):
        progress = Progress([training(1, "teacher/kd"), training(2, "teacher/kd,epochs=4", seconds=403.0)])
        progress.start(1, 0.0)
        progress.finish(1, 10.1)
        assert progress.estimate(606.0).total[2] == pytest.approx(40.4)

    def test_a_running_job_is_as_far_as_its_epochs(self):
        progress = Progress([training(1, "teacher/kd", seconds=7.0)])
        progress.start(1, 0.0)
        told = progress.estimate(30.0, lambda job: 0.25)
        assert told.left == {1: pytest.approx(90)} and told.part_done == pytest.approx(0.25) and told.is_founded
        assert progress.estimate(6.0).left[1] == pytest.approx(2) and not progress.estimate(6.0).is_founded
        assert progress.estimate(60.0).left[1] == pytest.approx(0.8)  # later than foreseen, so never at its end

    def test_a_running_training_tells_of_those_that_follow(self):
        progress = Progress([training(1, "teacher/kd"), training(2, "teacher/kd,epochs=2")])
        progress.start(1, 0.0)
        assert progress.estimate(101.0, lambda job: 0.5).left == {1: pytest.approx(101), 2: pytest.approx(202)}

    def test_work_is_shared_out_but_a_chain_is_not(self):
        side_by_side = Progress([training(number, f"teacher/kd,epochs={number}", 99.0, share=0.5) for number in (1, 2)])
        assert side_by_side.estimate(0.0).seconds_left == pytest.approx(100)
        chain = [training(1, "teacher/kd", 99.0, share=0.5)]
        chain.append(training(2, "teacher/kd/kd", 99.0, share=0.5, needs=frozenset({1, 77})))  # 77 is done already
        assert Progress(chain).estimate(0.0).seconds_left == pytest.approx(200)

    def test_students_that_another_job_trains_take_no_time_of_their_own(self):
        recipes = ["teacher/kd", "teacher/at", "hard/at"]
        progress = Progress([training(number, recipe) for number, recipe in enumerate(recipes)])
        progress.trains_beside(0, ["kd", "at"])
        assert progress.estimate(606.0).total == {0: 201, 1: 1, 2: 101}
        progress.start(0, 0.0)
        progress.finish(0, 402.0)
        assert progress.estimate(606.0).total[2] == pytest.approx(202)

    def test_a_job_that_failed_and_starts_again(self):
        progress = Progress([training(1, "teacher/kd")])
        progress.start(1, 0.0)
        progress.fail(1)
        assert progress.failed == {1} and not progress.started
        progress.start(1, 5.0)
        assert not progress.failed

    def test_a_deep_chain_needs_no_recursion(self):
        jobs = [training(number, "teacher/kd", 0.0, needs=frozenset({number - 1})) for number in range(5000)]
        progress = Progress(reversed(jobs))
        assert progress.estimate(0.0).seconds_left == pytest.approx(5000)


class TestLogs:
    def test_the_log_of_an_earlier_run_is_not_read(self, tmp_path):
        log = tmp_path / "kd.log"
        log.write_text("2026-01-01 00:00:00  epoch   3/15  learning rate 0.1\n")
        os.utime(log, (100, 100))
        assert job_log.epochs(job_log.read(log, 99)[1]) == (3.0, 15)
        assert job_log.read(log, 101) == ("", "")
        assert job_log.read(tmp_path / "none", 0) == ("", "")
        assert job_log.read(tmp_path, 0) == ("", "")

    def test_of_a_long_log_the_beginning_and_the_end_count(self, tmp_path):
        log = tmp_path / "kd.log"
        epochs = "".join(f"2026-01-01 00:00:00  kd: epoch {epoch:>3}/900  learning rate\n" for epoch in range(1, 801))
        log.write_text("2026-01-01 00:00:00  2 students side by side: dkd,alpha=1, kd\n" + epochs)
        first, last = job_log.read(log)
        assert len(first) + len(last) < 2 * 4096 + 1
        assert job_log.beside(first) == ["dkd,alpha=1", "kd"] and job_log.beside(last) == []
        assert job_log.epochs(last) == (800.0, 900)

    def test_the_loop_writes_epochs_as_they_are_read(self):
        from kdq.train.loop import describe

        row = {"epoch": 7, "learning_rate": 0.1, "loss_kd": 1.0, "training_accuracy": 0.5, "images_per_second": 9.0}
        assert job_log.epochs(describe({**row, "validation_accuracy": 0.5}, 30)) == (7.0, 30)

    def test_the_error_of_a_job_is_the_last_of_its_log(self):
        assert job_log.error("2026-01-01 00:00:00  error: a\n2026-01-01 00:00:00  error: b: c\n") == "b: c"
        assert job_log.error("Traceback\n2026-01-01 00:00:00  error: KeyError: 1\n") == "KeyError: 1"
        assert job_log.error("") == "its log is empty"
        assert job_log.error("a\nsaved\n") == "it ended without an error in its log, whose last line is: saved"


class TestWhy:
    def test_a_line_per_change_counts_what_follows(self):
        def dkd(change):
            return {"causes": (Cause("dkd", change, "student"),)}

        changed = "kdq/distill/methods/dkd.py changed"
        jobs = [training(n, f"teacher/dkd,alpha={n}", **dkd(changed)) for n in range(9)]
        jobs += [
            job(20 + n, "quantize", f"teacher/dkd,alpha=0/rtn,bits={n}", "model.safetensors", needs=frozenset({0}))
            for n in range(2, 8)
        ]
        jobs += [evaluation(40, "teacher/dkd,alpha=0", [0])]
        assert why(jobs) == [f"dkd: {changed}: 9 students, 15 cells"]
        assert makes_again(jobs)

    def test_several_stages_of_a_role_are_named_by_it(self):
        causes = [("hard", "student"), ("kd", "student"), ("teacher", "teacher")]
        jobs = [
            training(n, f"teacher/{s}", causes=(Cause(s, "epochs 15 -> 16", r),)) for n, (s, r) in enumerate(causes)
        ]
        assert why(jobs) == ["student, teacher: epochs 15 -> 16: 3 students, 3 cells"]
        assert why(jobs[:1]) == ["hard: epochs 15 -> 16: 1 student, 1 cell"]

    def test_evaluations_make_no_cell(self):
        cause = (Cause("metrics", "kdq/evaluate/metrics.py changed"),)
        jobs = [evaluation(n, f"teacher/kd,epochs={n}", [], causes=cause) for n in range(31)]
        jobs.append(PlannedJob(99, "table", ("results/studies/digits/table.json",), frozenset(range(31))))
        assert why(jobs) == ["metrics: kdq/evaluate/metrics.py changed: 31 evaluations, 1 job behind"]

    def test_two_changes_of_a_job_are_two_lines_the_wider_first(self):
        both = (Cause("kd", "epochs 3 -> 4", "student"), Cause("kd", "kdq/train/loop.py changed", "student"))
        jobs = [
            training(1, "teacher/kd", causes=both),
            training(2, "teacher/at", causes=(Cause("at", both[1].change),)),
        ]
        assert why(jobs) == [
            "kd, at: kdq/train/loop.py changed: 2 students, 2 cells",
            "kd: epochs 3 -> 4: 1 student, 1 cell",
        ]

    def test_what_is_new_is_counted(self):
        new = (Cause("kd", NEW, "student"),)
        jobs = [training(n, f"teacher/kd,epochs={n}", causes=new) for n in range(30)]
        jobs += [evaluation(100 + n, f"teacher/kd,epochs={n}", [n], causes=(Cause("metrics", NEW),)) for n in range(30)]
        assert why(jobs) == ["new: 30 cells"] and not makes_again(jobs)
        latencies = [
            job(n, "latency", f"hard/rtn,bits={n}", "latency.json", causes=(Cause("latency", NEW),)) for n in (2, 3)
        ]
        assert why(latencies) == ["new: 2 latencies"]
        assert why([]) == []

    def test_an_upgrade_that_changes_everything_stays_short(self):
        causes = tuple(Cause("kd", f"kdq/{n}.py changed") for n in range(40))
        assert len(why([training(1, "teacher/kd", causes=causes)])) == 11
        wide = [job(n, f"rule{n}", f"hard,epochs={n}", "a.json", causes=(Cause(f"stage{n}", "c"),)) for n in range(9)]
        assert why(wide) == ["stage0, stage1, stage2, stage3 and 5 more: c: 9 jobs"]


METRICS = {"test": {"top1": 0.9675}, "file_bytes": 34512}


class TestRun:
    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.now = 0.0
        jobs = [
            training(1, "teacher/kd", log="logs/kd.log", share=0.5),
            evaluation(2, "teacher/kd", [1], share=0.5, log="logs/metrics.log"),
            evaluation(3, "hard", [], share=0.5),
        ]
        (tmp_path / "logs").mkdir()
        return Run("digits", jobs, lambda: self.now)

    def test_a_finished_cell_has_its_recipe_accuracy_and_bytes(self, run):
        write_json(f"{SEED}/teacher/kd/metrics.json", METRICS)
        run.start(1, "Distilling digits seed 0: teacher/kd")
        assert run.finish(1, 80) == ""
        run.start(2, "Evaluating digits seed 0: teacher/kd")
        assert run.finish(2, 80).split() == ["1/2", "teacher/kd", "test", "96.75%", "34.5", "kB"]
        run.start(3, "Evaluating digits seed 0: hard")
        assert run.finish(3, 80) == ""  # its file is missing, which is for Snakemake to say

    def test_running_jobs_are_named_with_their_epochs(self, run, tmp_path):
        run.start(1, "Distilling digits seed 0: teacher/kd")
        self.now = 60.0
        (tmp_path / "logs/kd.log").write_text("2026-01-01 00:00:00  epoch   3/4  learning rate 0.1\n")
        (tmp_path / "logs/kd.log").touch()
        os.utime("logs/kd.log", (2**33, 2**33))
        first, last = run.frame(80, unicode=False)
        assert first.split() == ["Distilling", "teacher/kd", "############----", "epoch", "4/4", "1", "min"]
        assert "about 2" in last and last.startswith("digits: 0/2 cells")
        run.start(3, "Evaluating digits seed 0: hard")
        run.finish(3, 80)
        assert run.frame(80, unicode=False)[-1].split()[3:] == last.split()[3:]  # of the same second
        self.now = 61.0
        assert "about 2" in run.frame(80)[-1] and run.time_left().startswith("about 2")
        assert all(len(line) <= 80 for line in run.frame(80))

    def test_a_failure_names_recipe_error_and_log(self, run, tmp_path):
        run.start(1, "Distilling digits seed 0: teacher/kd")
        (tmp_path / "logs/kd.log").write_text("2026-01-01 00:00:00  error: epoch 2, step 3: the loss is nan\n")
        expected = ["failed: Distilling teacher/kd", "error: epoch 2, step 3: the loss is nan", "log: logs/kd.log"]
        assert run.fail(1, "logs/kd.log") == expected
        assert run.closing() == [
            "failed: Distilling teacher/kd  (log: logs/kd.log)",
            "0 of 3 jobs done, 0 of 2 cells; the next run goes on from here",
        ]
        run.start(1, "Distilling digits seed 0: teacher/kd")  # a second attempt
        assert not run.failed

    def test_jobs_of_an_interrupted_run_have_not_failed(self, run):
        run.start(1, "Distilling digits seed 0: teacher/kd")
        run.interrupted = True
        assert run.fail(1, "logs/kd.log") == []
        assert run.closing() == ["interrupted: 0 of 3 jobs done, 0 of 2 cells; the next run goes on from here"]

    def test_a_large_study_is_shown_at_little_cost(self):
        recipes = [f"teacher/kd,epochs={number}" for number in range(5000)]
        jobs = [training(number, recipe) for number, recipe in enumerate(recipes)]
        jobs += [evaluation(5000 + number, recipe, [number]) for number, recipe in enumerate(recipes)]
        run, estimates = Run("large", jobs), []
        estimate = run.progress.estimate
        run.progress.estimate = lambda *arguments: estimates.append(1) or estimate(*arguments)
        began = time.perf_counter()
        while time.perf_counter() - began < 2:
            run.frame(80)
        assert len(estimates) <= 3

    def test_many_running_jobs_are_counted(self):
        run = Run("cluster", [training(number, f"teacher/kd,epochs={number}") for number in range(30)])
        for number in range(30):
            run.start(number, "Distilling")
        assert len(run.frame(80)) == 10 and run.frame(80)[-2] == "  and 22 more jobs"

    def test_why_stands_at_the_beginning_if_something_is_made_again(self):
        cause = Cause("kd", "epochs 1 -> 2", "student")
        again = Run("digits", [training(1, "teacher/kd", causes=(cause,))])
        assert again.opening() == ["digits: 1 job", "kd: epochs 1 -> 2: 1 student, 1 cell"]
        assert again.opening(reasons=False) == ["digits: 1 job"]
        assert len(Run("digits", [training(1, "teacher/kd", causes=(Cause("kd", NEW),))]).opening()) == 1


def test_names_leave_out_what_all_cells_share():
    from kdq.recipe.path import Cell

    one, two = Cell("digits", 0, "hard"), Cell("digits", 1, "hard")
    assert lines.Names([one]).of(one) == "hard"
    assert lines.Names([one, two]).of(two) == "seed 1  hard"
    assert lines.Names([one, Cell("cifar10", 0, "hard")]).of(one) == "digits  hard"
    assert lines.Names([one]).job("Drawing digits: bits", None) == "Drawing digits: bits"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_only_a_terminal_that_can_move_its_cursor_gets_what_changes(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen(Terminal(), True, False), Plain)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(screen(io.StringIO(), True, False), Plain)
    assert isinstance(screen(Terminal(), False, False), Plain)


def test_what_jobs_write_stands_above_what_changes():
    """Standard error of a job, whole lines and a last one without its end, never in the middle of a line."""
    reader, terminal = os.openpty()
    stream = os.fdopen(terminal, "w", encoding="utf-8")
    live = Live(stream)
    live.start(lambda width, unicode: ["running"])
    os.write(stream.fileno(), b"a job's line\n10%\r20%\rlast words")
    live.show("a cell")
    live.close()
    os.write(stream.fileno(), b"after\n")
    shown = ""
    while not shown.endswith("after\r\n"):
        shown += os.read(reader, 100_000).decode()
    assert shown.count("a job's line\r\n") == 1 and shown.count("20%") == 0 and "last words\r\n" in shown
    assert "a cell\r\n" in shown and "running" in shown
    assert shown.rfind("\x1b[2K") > shown.rfind("running")  # nothing that changes is left
    stream.close()
