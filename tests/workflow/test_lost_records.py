"""Without Snakemake's records the headers decide: the same is made again as with them, and a run reports it."""

import shutil

import pytest

from tests.workflow.test_adopt import command, not_fresh
from tests.workflow.test_reruns import DKD, OVERVIEW, appended, figures, made, quantized

KD = "kdq/distill/methods/kd.py"
AFTER_KD = made(["teacher/kd"], quantized(["teacher/kd"])) | OVERVIEW | figures("training_curves")


@pytest.fixture
def forgotten(finished):
    """A finished study whose ``.snakemake`` was removed."""
    shutil.rmtree(finished.folder / ".snakemake")
    return finished


def test_unchanged_results_are_not_made_again_and_adopt_records_them(forgotten):
    assert forgotten.plan() == set()
    lines = [line for line in forgotten.run("-n").stderr.splitlines() if "no record in .snakemake" in line]
    assert len(lines) == 1 and "make adopt" in lines[0]
    assert command(forgotten, "kdq.workflow.adopt").returncode == 0
    assert "no record" not in forgotten.run("-n").stderr
    assert forgotten.plan() == set()


def test_an_edit_makes_the_same_again_as_with_records_and_verify_agrees(forgotten):
    with forgotten.edited(KD, appended("EDITED = 1")):
        assert forgotten.plan() == AFTER_KD
        assert not_fresh(command(forgotten, "kdq.provenance.verify")) == AFTER_KD
        told = forgotten.run("-n").stderr
        first = "results/digits/seed=0/teacher/kd/model.safetensors"
        assert f"made with other code or keys, and made again: 1 of them, first {first}\n" in told
        assert forgotten.plan("results/digits/seed=0/hard/metrics.json") == set()


def test_a_run_after_the_edit_makes_it_and_records_it(forgotten):
    target = "results/digits/seed=0/teacher/kd/model.safetensors"
    before = (forgotten.folder / target).read_bytes()
    with forgotten.edited(KD, appended("EDITED = 1")):
        done = forgotten.run("--cores", "1", target)
        assert done.returncode == 0, done.stderr
        assert (forgotten.folder / target).read_bytes() != before  # its header names the code
        assert forgotten.plan(target) == set()
    assert forgotten.plan(target) == {target, target.replace("model.safetensors", "history.csv")}


def test_a_changed_key_and_a_changed_table_are_seen_too(forgotten):
    expected = made(DKD, quantized(["teacher/dkd,alpha=1,beta=8"])) | OVERVIEW
    with forgotten.configured({"stages": {"dkd": {"warmup": 0.5}}}):
        assert forgotten.plan() == expected | figures("dkd_curves", "dkd_heatmap", "training_curves")
    with forgotten.edited("kdq/report/figures/comparisons.py", appended("EDITED = 1")):
        assert forgotten.plan() == figures("comparisons")


def test_who_asks_for_times_alone_is_told_what_stays(forgotten):
    with forgotten.edited(KD, appended("EDITED = 1")):
        told = forgotten.run("-n", "--rerun-triggers", "mtime")
    assert "Nothing to be done" in told.stdout + told.stderr
    assert "left as it is, since params is not among --rerun-triggers: 1 of them" in told.stderr
