"""An imported teacher in the real workflow: made, used, and remade if its source changes."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys

import pytest
import torch

from kdq import models
from kdq.data.prepared import read as read_data
from kdq.provenance.files import sha256
from tests.roots.hub import COMMIT, OTHER_COMMIT, Hub
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
    targets = sorted(files(["hard", *CHILDREN], "metrics.json")) + ["results/studies/overlay/table.csv"]
    done = fresh.run("--cores", "1", *targets)
    assert done.returncode == 0, done.stderr[-4000:]

    model = fresh.folder / FOLDER / "model.safetensors"
    assert torch.equal(models.load(model).fc.weight, network.fc.weight)
    metrics = json.loads((fresh.folder / FOLDER / "metrics.json").read_text())
    assert metrics["keys"]["revision"] == COMMIT
    assert metrics["provenance"]["inputs"]["weights"] == source["sha256"]
    assert len((fresh.folder / FOLDER / "history.csv").read_text().splitlines()) == 1
    assert fresh.plan(*targets) == set()

    configure(COMMIT, epochs=50)  # nothing is trained
    assert fresh.plan(*targets) == set()
    assert not stale(fresh)
    configure(OTHER_COMMIT)
    expected = made(["teacher", "teacher/kd"], ["teacher/rtn,bits=4"])
    tables = {f"results/studies/overlay/{name}" for name in ("table.csv", "summary.csv", "layers.csv", "table.json")}
    assert fresh.plan(*targets) == expected | tables

    configure("f" * 40)  # unknown to the hub
    done = fresh.run("--cores", "1", f"{FOLDER}/model.safetensors")
    assert done.returncode != 0
    assert "error: owner/name, commit ffffffffffff, file pytorch_model.bin: not to be downloaded (404" in done.stderr


def test_a_vision_transformer_is_evaluated_distilled_from_and_quantized(fresh):
    transformers = pytest.importorskip("transformers")
    from tests.roots.test_classifier import labels, vit

    published = fresh.folder / "published"
    processor = transformers.ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.3], image_std=[0.4])
    vit(published, processor, num_channels=1, **labels(map(str, range(10))))
    fresh.configure(
        {
            "recipes": ["hard", *CHILDREN],
            "student": {"epochs": 1, "width": 0.0625},
            "stages": {"teacher": {"source": "transformers", "folder": "published"}},
        }
    )
    targets = sorted(files(["hard", *CHILDREN], "metrics.json")) + ["results/studies/overlay/table.csv"]
    done = fresh.run("--cores", "1", *targets)
    assert done.returncode == 0, done.stderr[-4000:]

    place = fresh.folder / FOLDER
    images = read_data(fresh.folder / "results/digits/data/split=0.safetensors").test.images
    theirs = transformers.AutoModelForImageClassification.from_pretrained(published).eval()
    with torch.no_grad():
        expected = theirs(processor(list(images), return_tensors="pt")["pixel_values"]).logits.argmax(1)
        predicted, quantized = (
            models.load(file)(images.float() / 255).argmax(1)
            for file in (place / "model.safetensors", place / "rtn,bits=4/model.safetensors")
        )
    assert (predicted == expected).double().mean() > 0.98
    metrics, child = (json.loads((folder / "metrics.json").read_text()) for folder in (place, place / "rtn,bits=4"))
    assert metrics["provenance"]["inputs"]["weights"] == sha256(published / "model.safetensors")
    assert child["test"]["agreement_parent"] == pytest.approx(
        (predicted == quantized).double().mean().item(), abs=0.005
    )
    assert child["file_bytes"] < metrics["file_bytes"] and child["nominal_bits"] == 4
    loss = (place / "kd/history.csv").read_text().splitlines()[0].split(",").index("loss_distillation")
    assert float((place / "kd/history.csv").read_text().splitlines()[1].split(",")[loss]) > 0
    assert fresh.plan(*targets) == set()
    assert not stale(fresh)
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        with exchanged(published / name):
            assert {f"{FOLDER}/model.safetensors", f"{FOLDER}/kd/model.safetensors"} <= fresh.plan(*targets), name
            role = "weights" if name == "model.safetensors" else name
            assert f"({role} {name} has another digest)" in stale(fresh)[f"{FOLDER}/model.safetensors"]
            assert f"{FOLDER}/kd/model.safetensors" in stale(fresh)
        os.utime(published / name)  # newer than the results, of the same content
        assert fresh.plan(*targets) == set() and not stale(fresh), name
    (published / "config.json").unlink()
    assert "has no file config.json" in stale(fresh)[f"{FOLDER}/model.safetensors"]
    done = fresh.run("-n")
    assert done.returncode != 0 and "has no file config.json" in done.stderr + done.stdout


def stale(workflow) -> dict[str, str]:
    """What ``verify`` calls not fresh: its lines by path."""
    program = [sys.executable, "-m", "kdq.provenance.verify", "--quiet", "--configfile", str(workflow.overlay)]
    done = subprocess.run(program, cwd=workflow.folder, env=workflow.environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return {line.split()[1]: line for line in done.stdout.splitlines()[:-1]}


@contextlib.contextmanager
def exchanged(path):
    """Exchange a file for one of the same size with an older time, within the block."""
    before, status = path.read_bytes(), path.stat()
    after = bytearray(before)
    place = len(after) - 2 if path.suffix == ".safetensors" else before.index(b"0.4") if b"0.4" in before else 4
    after[place] ^= 1
    path.unlink()
    path.write_bytes(after)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10**13))
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
