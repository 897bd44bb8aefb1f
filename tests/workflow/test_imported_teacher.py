"""A teacher from a hub in the real workflow: made, used, and made again when its revision changes, and only then."""

import hashlib
import io
import json

import pytest
import torch

from kdq import models
from tests.root.hub import COMMIT, OTHER_COMMIT, Hub
from tests.workflow.test_reruns import files, made

CHILDREN = ["teacher/kd", "teacher/rtn,bits=4"]
FOLDER = "results/digits/seed=0/teacher"


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.stop()


def test_a_revision_reruns_the_teacher_and_what_descends_from_it(fresh, hub, build):
    network = build("resnet18", seed=5)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    for revision in (COMMIT, OTHER_COMMIT):
        hub.files["owner/name", revision, "pytorch_model.bin"] = buffer.getvalue()
    source = {"source": "hub", "repository": "owner/name", "mean": [0.3], "std": [0.4]}
    source["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()

    def configure(revision, **role):
        fresh.configure(
            {
                "recipes": ["hard", *CHILDREN],
                "teacher": {"architecture": "resnet18", "width": 0.0625, **role},
                "student": {"epochs": 1, "width": 0.0625},
                "stages": {"teacher": {**source, "revision": revision}},
            }
        )

    fresh.environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(fresh.folder / "hub"), "NO_PROXY": "127.0.0.1"}
    configure(COMMIT)
    targets = sorted(files(["hard", *CHILDREN], "metrics.json")) + ["results/table.csv"]
    done = fresh.run("--cores", "1", *targets)
    assert done.returncode == 0, done.stderr[-4000:]

    model = fresh.folder / FOLDER / "model.safetensors"
    assert torch.equal(models.load(model).fc.weight, network.fc.weight)
    metrics = json.loads((fresh.folder / FOLDER / "metrics.json").read_text())
    assert metrics["keys"]["revision"] == COMMIT
    assert metrics["provenance"]["inputs"]["weights"] == source["sha256"]
    assert len((fresh.folder / FOLDER / "history.csv").read_text().splitlines()) == 1
    assert fresh.plan(*targets) == set()

    configure(COMMIT, epochs=50)  # of a training that there is not
    assert fresh.plan(*targets) == set()
    configure(OTHER_COMMIT)
    expected = made(["teacher", "teacher/kd"], ["teacher/rtn,bits=4"])
    tables = {f"results/{name}" for name in ("table.csv", "summary.csv", "layers.csv", "table.json")}
    assert fresh.plan(*targets) == expected | tables

    configure("f" * 40)  # which the hub has not
    done = fresh.run("--cores", "1", f"{FOLDER}/model.safetensors")
    assert done.returncode != 0
    assert "error: owner/name, commit ffffffffffff, file pytorch_model.bin: not to be downloaded (404" in done.stderr
