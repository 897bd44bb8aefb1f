"""An imported teacher in the real workflow: made, used, and remade if its source changes."""

import hashlib
import io
import json

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
    with fresh.edited("published/preprocessor_config.json", lambda text: f"{text}\n"):
        assert {f"{FOLDER}/model.safetensors", f"{FOLDER}/kd/model.safetensors"} <= fresh.plan(*targets)
