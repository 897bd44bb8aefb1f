"""What a change reruns and what it does not: each set of planned outputs is asserted exactly."""

import ast
import json
import subprocess
import time

import pytest

from kdq.report.page import assets
from tests.workflow.study import touch

REPORT = "results/studies/overlay"  # of overlay.yaml
FIGURES = f"{REPORT}/figures/digits"
TABLES = {f"{REPORT}/{name}.csv" for name in ("table", "summary", "layers", "comparisons")}
TABLES |= {f"{REPORT}/{name}.json" for name in ("table", "comparisons")}  # what they were made from
PAGE = {f"{REPORT}/index.html", f"{REPORT}/index.json"}
TABLES |= PAGE


def figures(*names) -> set[str]:
    return {f"{FIGURES}/{name}.{form}" for name in names for form in ("png", "svg", "json")}


# the tables and what is drawn from them: behind every metrics.json
OVERVIEW = TABLES | figures(
    "accuracy_vs_bit_operations", "accuracy_vs_bits", "accuracy_vs_bytes", "comparisons", "layer_errors"
)
ALL_FIGURES = figures(
    "accuracy_vs_bit_operations",
    "accuracy_vs_bits",
    "accuracy_vs_bytes",
    "comparisons",
    "dkd_curves",
    "dkd_heatmap",
    "layer_errors",
    "training_curves",
)

BITS = (2, 3, 4)
QUANTIZERS = ("rtn", "gpfq")
DKD = [f"teacher/dkd,alpha={alpha},beta={beta}" for alpha in ("0.5", "1", "2") for beta in (4, 8, 10)]
STUDENTS = ["hard", "teacher/kd", "teacher/mixup", *DKD]
TRAINED = ["teacher", *STUDENTS]
QUANTIZED_NETWORKS = ["teacher", "hard", "teacher/kd", "teacher/mixup", "teacher/dkd,alpha=1,beta=8"]


def quantized(networks=QUANTIZED_NETWORKS, quantizers=QUANTIZERS, bits=BITS) -> list[str]:
    return [f"{network}/{name},bits={b}" for network in networks for name in quantizers for b in bits]


def files(recipes, *names) -> set[str]:
    return {f"results/digits/seed=0/{recipe}/{name}" for recipe in recipes for name in names}


def evaluated(recipes) -> set[str]:
    return files(recipes, "metrics.json", "predictions.safetensors")


def made(trained=(), others=()) -> set[str]:
    """Return all files of the ``trained`` cells and of ``others``, the quantized ones."""
    return (
        evaluated([*trained, *others]) | files([*trained, *others], "model.safetensors") | files(trained, "history.csv")
    )


def appended(line: str):
    return lambda text: f"{text}\n\n{line}\n"


@pytest.mark.smoke
def test_a_finished_study_has_nothing_to_do(finished):
    assert finished.plan() == set()


@pytest.mark.smoke
def test_an_edit_of_a_method_reruns_its_cells_and_their_descendants(finished):
    expected = made(["teacher/kd"], quantized(["teacher/kd"]))
    expected |= OVERVIEW | figures("training_curves")
    with finished.edited("kdq/distill/methods/kd.py", appended("EDITED = 1")):
        assert finished.plan() == expected
    assert finished.plan() == set()


def test_an_edit_of_a_quantizer_reruns_its_cells(finished):
    expected = made(others=quantized(quantizers=["gpfq"])) | OVERVIEW
    with finished.edited("kdq/quantize/methods/gpfq.py", appended("EDITED = 1")):
        assert finished.plan() == expected


def without_comments(text: str) -> str:
    """Return the same code without comments, formatted anew."""
    return ast.unparse(ast.parse(text)) + "\n"


# Every kind of edit in every kind of file: tests/test_fingerprint.py
@pytest.mark.parametrize(
    ("path", "change"),
    [("scripts/distill.py", touch), ("kdq/train/loop.py", without_comments)],
    ids=["touch", "comments and formatting"],
)
def test_what_does_not_change_the_code_reruns_nothing(finished, path, change):
    with finished.edited(path, change):
        assert finished.plan() == set()


def test_a_git_checkout_and_back_reruns_nothing(finished):
    def git(*arguments):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=finished.folder, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    git("add", "kdq", "scripts", "rules", "Snakefile", "config.yaml")
    git("commit", "--message", "as it was")
    git("checkout", "-b", "other")
    method = finished.folder / "kdq/distill/methods/kd.py"
    method.write_text(method.read_text() + "\nEDITED = 1\n")
    script = finished.folder / "scripts/distill.py"
    script.write_text(script.read_text() + "\nEDITED = 1\n")
    git("commit", "--all", "--message", "edited")
    assert finished.plan() != set()
    git("checkout", "main")
    assert finished.plan() == set()


def test_a_default_in_the_config_reruns_the_cells_that_use_it(finished):
    descendants = quantized(["teacher/dkd,alpha=1,beta=8"])
    expected = made(DKD, descendants) | OVERVIEW
    expected |= figures("dkd_curves", "dkd_heatmap", "training_curves")
    with finished.configured({"stages": {"dkd": {"warmup": 0.5}}}):
        assert finished.plan() == expected


def test_an_edit_of_the_metrics_reruns_no_training(finished):
    expected = evaluated([*TRAINED, *quantized()]) | OVERVIEW | figures("dkd_heatmap")
    with finished.edited("kdq/evaluate/metrics.py", appended("EDITED = 1")):
        assert finished.plan() == expected


COMPARISONS = {f"{REPORT}/comparisons.csv", f"{REPORT}/comparisons.json"} | figures("comparisons") | PAGE


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("kdq/evaluate/significance.py", COMPARISONS),
        ("kdq/report/tables/comparisons.py", COMPARISONS),
        ("kdq/report/figures/comparisons.py", figures("comparisons")),
        ("kdq/report/dkd_choice.py", OVERVIEW | figures("dkd_heatmap")),
        ("kdq/report/page/findings.py", PAGE),
    ],
)
def test_an_edit_of_the_statistics_reruns_them_and_their_figure(finished, path, expected):
    with finished.edited(path, appended("EDITED = 1")):
        assert finished.plan() == expected


@pytest.mark.parametrize("name", assets.NAMES)
def test_an_edit_of_a_part_of_the_page_reruns_the_page_alone(finished, name):
    with finished.edited(f"kdq/report/page/{name}", lambda text: f"{text}\n"):
        assert finished.plan() == PAGE


def test_a_root_that_seeds_share_is_copied_and_never_trained_twice(finished):
    original, shared = "results/digits/seed=0/teacher", "results/digits/seed=3/teacher,seed=0"
    student = "results/digits/seed=3/teacher,seed=0/kd"
    copied = {f"{shared}/{name}" for name in ("model.safetensors", "metrics.json", "predictions.safetensors")}
    of_student = {f"{student}/{name}" for name in ("model.safetensors", "history.csv", "metrics.json")}
    wanted = [f"{shared}/metrics.json", f"{shared}/history.csv"]
    assert finished.plan(f"{student}/metrics.json") == copied | of_student | {f"{student}/predictions.safetensors"}
    done = finished.run("--cores", "2", *wanted)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "history.csv"):
        assert (finished.folder / shared / name).read_bytes() == (finished.folder / original / name).read_bytes()
    metrics, of_original = (
        json.loads((finished.folder / folder / "metrics.json").read_text()) for folder in (shared, original)
    )
    assert (metrics["seed"], metrics["recipe"]) == (3, "teacher,seed=0")
    assert metrics["test"] == of_original["test"]
    assert finished.plan(*wanted) == finished.plan() == set()
    with finished.edited("kdq/roots/methods/teacher.py", appended("EDITED = 1")):
        retrained = {f"{original}/model.safetensors", f"{original}/history.csv"}
        assert finished.plan(*wanted) == copied | retrained | {f"{shared}/history.csv"}


def test_an_edit_of_the_training_loop_reruns_every_trained_model(finished):
    expected = made(TRAINED, quantized()) | TABLES | ALL_FIGURES
    with finished.edited("kdq/train/loop.py", appended("EDITED = 1")):
        assert finished.plan() == expected


def test_an_added_bit_width_makes_its_cells_and_the_tables(finished):
    recipes = [*TRAINED, *quantized(), *quantized(bits=[5])]
    expected = made(others=quantized(bits=[5])) | OVERVIEW
    with finished.configured({"recipes": recipes}):
        assert finished.plan() == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("metrics.json", evaluated(["hard/rtn,bits=4"]) | OVERVIEW),
        ("model.safetensors", made(others=["hard/rtn,bits=4"]) | OVERVIEW),
    ],
)
def test_a_lost_file_is_made_again(finished, name, expected):
    lost = finished.folder / "results/digits/seed=0/hard/rtn,bits=4" / name
    aside = lost.with_suffix(".aside")
    lost.rename(aside)
    try:
        assert finished.plan() == expected
    finally:
        aside.rename(lost)


def test_an_edit_while_a_job_runs_reruns_that_job_next_time(fresh):
    folder = "results/digits/seed=0/hard"
    target = f"{folder}/model.safetensors"
    fresh.configure({"student": {"epochs": 12}})
    job = subprocess.Popen(
        fresh.command("--cores", "1", target),
        cwd=fresh.folder,
        env=fresh.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = fresh.folder / "logs/root/digits/seed=0/hard.log"
    while not (log.is_file() and "epoch   1/" in log.read_text()):
        assert job.poll() is None, job.stdout.read()
        time.sleep(0.05)
    with fresh.edited("kdq/train/task.py", appended("EDITED = 1")):
        output, _ = job.communicate()
        assert job.returncode == 0, output
        assert fresh.plan(target) == {target, f"{folder}/history.csv"}
    assert fresh.plan(target) == set()
