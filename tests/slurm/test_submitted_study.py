"""A study on SLURM gives the same bytes as here."""

import re

import pytest

from tests.slurm.submission import end
from tests.workflow.study import Workflow

ALIKE = ("model.safetensors", "predictions.safetensors", "metrics.json")


def test_every_model_is_the_locally_built_one_byte_for_byte(submitted, overlay, tmp_path_factory):
    submitted.configure(overlay)
    run = submitted.start()
    output = end(run)
    assert run.returncode == 0, output
    here = Workflow(tmp_path_factory.mktemp("here"))
    here.overlay.write_text(submitted.overlay.read_text())
    done = here.run("--cores", "2")
    assert done.returncode == 0, done.stderr
    files = {path.relative_to(here.folder) for name in ALIKE for path in here.folder.glob(f"results/**/{name}")}
    assert files == {
        path.relative_to(submitted.folder) for name in ALIKE for path in submitted.folder.glob(f"results/**/{name}")
    }
    assert len(files) >= 12
    differ = [path for path in files if (here.folder / path).read_bytes() != (submitted.folder / path).read_bytes()]
    assert differ == []
    table = "results/studies/overlay/table.csv"
    assert (here.folder / table).read_bytes() == (submitted.folder / table).read_bytes()


@pytest.mark.minutes
def test_jobs_ask_for_what_they_need(submitted):
    """Memory and time of every job; a GPU in the GPU partition for what trains; more at the next attempt."""
    submitted.configure({"recipes": ["hard,epochs=100000"]})
    run = submitted.start("--retries", "1")
    number = submitted.running("root", run)
    asked = submitted.cluster.run("scontrol", "show", "job", number)
    assert "Partition=gpu" in asked and re.search("gres[:/]gpu[:=]1", asked)
    submitted.cluster.run("scancel", number)
    again = submitted.running("root", run)
    while again == number:
        again = submitted.running("root", run)
    more = submitted.cluster.run("scontrol", "show", "job", again)
    limits = [field(asked, name) for name in ("TimeLimit", "MinMemoryNode")]
    assert all(before != field(more, name) for before, name in zip(limits, ("TimeLimit", "MinMemoryNode"), strict=True))
    run.terminate()
    submitted.cluster.run("scancel", again)
    end(run)


def field(job: str, name: str) -> str:
    return next(word.partition("=")[2] for word in job.split() if word.startswith(f"{name}="))
