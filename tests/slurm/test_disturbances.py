"""Disturbances of a cluster cost time alone: the model is that of the undisturbed run, byte for byte."""

import re

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.submission import Submitted, end
from tests.workflow.study import Workflow

# long enough to be disturbed in training, on a fast machine too
RECIPE = "hard,epochs=80,select=last"
MODEL = f"results/digits/seed=0/{RECIPE}/model.safetensors"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> bytes:
    here = Workflow(tmp_path_factory.mktemp("here"))
    here.configure({"recipes": [RECIPE]})
    done = here.run("--cores", "1", MODEL)
    assert done.returncode == 0, done.stderr
    return (here.folder / MODEL).read_bytes()


def train(study: Submitted, disturb, *arguments) -> str:
    """Train on the cluster and ``disturb(cluster, number of the job)`` after an epoch; return Snakemake's output."""
    study.configure({"recipes": [RECIPE]})
    run = study.start(MODEL, *arguments)
    number = study.running("root", run)
    study.cluster.wait_for(lambda: "epoch   2/" in study.log("root"), seconds=600)
    disturb(study.cluster, number)
    output = end(run)
    assert run.returncode == 0, output
    return output


@pytest.mark.minutes
def test_cancelled_it_is_submitted_again(submitted, undisturbed):
    output = train(submitted, Cluster.cancel)
    assert "Trying to restart" in output
    assert re.search(r"going on after epoch \d+", submitted.log("root"))
    assert (submitted.folder / MODEL).read_bytes() == undisturbed


def test_stopped_by_sigterm_as_at_a_time_limit(submitted, undisturbed):
    output = train(submitted, Cluster.stop_job)
    assert re.search(r"error: stopped by SIGTERM in epoch \d+ of 80; started again it goes on after epoch \d+", output)
    assert re.search(r"going on after epoch \d+", submitted.log("root"))
    assert (submitted.folder / MODEL).read_bytes() == undisturbed


@pytest.mark.minutes
def test_requeued_by_the_cluster(submitted, undisturbed):
    output = train(submitted, Cluster.requeue)
    assert "Trying to restart" not in output
    assert re.search(r"going on after epoch \d+", submitted.log("root"))
    assert (submitted.folder / MODEL).read_bytes() == undisturbed


@pytest.mark.minutes
def test_preempted_by_an_urgent_job(submitted, undisturbed):
    output = train(submitted, Cluster.preempt)
    assert "Trying to restart" not in output
    assert re.search(r"going on after epoch \d+", submitted.log("root"))
    assert (submitted.folder / MODEL).read_bytes() == undisturbed


@pytest.mark.minutes
def test_node_down_and_back(submitted, undisturbed):
    train(submitted, Cluster.node_down_and_back)
    assert re.search(r"going on after epoch \d+", submitted.log("root"))
    assert (submitted.folder / MODEL).read_bytes() == undisturbed


@pytest.mark.minutes
def test_controller_restarted(submitted, undisturbed):
    train(submitted, Cluster.restart_controller)
    assert "going on" not in submitted.log("root"), "the job does not notice"
    assert (submitted.folder / MODEL).read_bytes() == undisturbed


@pytest.mark.minutes
def test_forgotten_by_the_controller(submitted, undisturbed):
    output = train(submitted, Cluster.lose_jobs)
    assert "SLURM no longer knows the job" in output and "Trying to restart" in output
    assert re.search(r"going on after epoch \d+", submitted.log("root"))
    assert (submitted.folder / MODEL).read_bytes() == undisturbed
