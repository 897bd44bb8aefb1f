"""The studies in docs/your_model.md run as they stand: on small images, and for one epoch."""

import json
import re
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from kdq import models
from kdq.recipe.grammar import expand
from tests.roots.hub import COMMIT
from tests.workflow.study import HOME

CLASSES = ("ant", "bee", "cat")
STUDIES = re.findall(r"```yaml\n(.*?)```", (HOME / "docs/your_model.md").read_text(encoding="utf-8"), re.DOTALL)
SHORT = {"data": {"image_size": 32}, "teacher": {"epochs": 1}, "student": {"epochs": 1}}
TABLE = "results/studies/my_study/table.csv"
ONNX = "results/folder/seed=0/teacher/kd/gpfq,activations=8,bits=4/model.onnx"


def paint(root):
    """Make 20 images of each class, noise of its colour, not square."""
    generator = torch.Generator().manual_seed(0)
    for label, name in enumerate(CLASSES):
        for number in range(20):
            pixels = torch.randint(0, 120, (40, 48, 3), generator=generator, dtype=torch.uint8)
            pixels[..., label] += 120
            path = root / f"{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.numpy()).save(path)


def checkpoint(folder):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    folder.mkdir()
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), folder / "resnet18.pth")


def vit(folder):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    names = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: label for label, name in enumerate(CLASSES)}}
    config = transformers.ViTConfig(image_size=32, patch_size=8, **sizes, **names)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def run(workflow, *arguments):
    command = [sys.executable, "-m", "snakemake", "--configfile", "my_study.yaml", "short.yaml", *arguments]
    return subprocess.run(command, cwd=workflow.folder, env=workflow.environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_a_study_of_the_page(fresh, number):
    pytest.importorskip("timm")
    study = yaml.safe_load(STUDIES[number])
    paint(fresh.folder / "images")
    checkpoint(fresh.folder / "checkpoint")
    vit(fresh.folder / "vit")
    (fresh.folder / "my_study.yaml").write_text(STUDIES[number], encoding="utf-8")
    resident = {"resident": "false"} if number == 2 else {}
    short = SHORT | {"data": SHORT["data"] | resident, "name": "my_study"}
    (fresh.folder / "short.yaml").write_text(yaml.safe_dump(short), encoding="utf-8")
    recipes = expand(study["recipes"])
    targets = [*(f"results/folder/seed=0/{recipe}/metrics.json" for recipe in recipes), TABLE, ONNX]
    done = run(fresh, "--cores", "2", *targets)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    seed = fresh.folder / "results/folder/seed=0"
    metrics = {
        path.parent.relative_to(seed).as_posix(): json.loads(path.read_text()) for path in seed.rglob("metrics.json")
    }
    assert {"teacher", "teacher/kd", "teacher/kd/gpfq,activations=8,bits=4"} <= metrics.keys()
    student = models.load(seed / "teacher/kd/model.safetensors")
    assert student.architecture["architecture"] == study["student"]["architecture"]
    assert student(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    quantized = metrics["teacher/kd/gpfq,activations=8,bits=4"]
    assert quantized["file_bytes"] < 0.35 * metrics["teacher/kd"]["file_bytes"]
    assert quantized["macs"] == metrics["teacher/kd"]["macs"] > 0
    library, _, version = metrics["teacher/kd"]["provenance"]["library"].partition(" ")
    assert study["student"]["architecture"].startswith(f"{library}/") and version == student.architecture["library"]
    onnxruntime = pytest.importorskip("onnxruntime")
    images = torch.rand(4, 3, 32, 32)
    logits = onnxruntime.InferenceSession(fresh.folder / ONNX).run(["logits"], {"images": images.numpy()})[0]
    expected = models.load((fresh.folder / ONNX).with_name("model.safetensors"))(images).detach().numpy()
    assert abs(logits - expected).max() < 0.05 * abs(expected).max()
    if number == 2:
        log = (fresh.folder / "logs/root/folder/seed=0/teacher.log").read_text()
        assert "read from their file batch by batch (data.resident=false)" in log

    again = run(fresh, "-n", *targets)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr
    verify = [sys.executable, "-m", "kdq.provenance.verify", "--quiet", "--configfile", "my_study.yaml", "short.yaml"]
    judged = subprocess.run(verify, cwd=fresh.folder, env=fresh.environment, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout[-3000:] + judged.stderr[-2000:]


@pytest.mark.slow
def test_a_pretrained_network_keeps_its_own_classes(fresh):
    timm = pytest.importorskip("timm")
    repository = fresh.folder / "cache/models--timm--test_resnet.r160_in1k"  # as the hub's client keeps it
    (repository / f"snapshots/{COMMIT}").mkdir(parents=True)
    torch.manual_seed(0)
    given = timm.create_model("test_resnet").state_dict()
    save_file(given, repository / f"snapshots/{COMMIT}/model.safetensors")
    pixels = torch.randint(0, 256, (4000, 8, 8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for index, name in enumerate(timm.data.ImageNetInfo("imagenet-1k").label_names()):
        for number, part in enumerate(["train"] * 3 + ["test"]):
            path = fresh.folder / f"imagenet/{part}/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[4 * index + number].numpy()).save(path)
    study = {
        **{
            "datasets": ["folder"],
            "seeds": [0],
            "recipes": ["teacher/rtn,bits=4"],
            "stages": {"teacher": {"source": "library"}},
        },
        "teacher": {"architecture": "timm/test_resnet", "weights": f"r160_in1k@{COMMIT}", "resize": 32},
        "data": {"image_folder": "imagenet", "image_size": 32, "validation_fraction": 0.34},
    }
    (fresh.folder / "my_study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    (fresh.folder / "short.yaml").write_text("name: my_study\n")
    fresh.environment |= {"HF_HUB_CACHE": str(fresh.folder / "cache"), "HF_HUB_OFFLINE": "1"}
    seed = "results/folder/seed=0/teacher"
    targets = [f"{seed}/metrics.json", f"{seed}/rtn,bits=4/metrics.json", f"{seed}/rtn,bits=4/model.onnx"]
    done = run(fresh, "--cores", "2", *targets)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    teacher = models.load(fresh.folder / seed / "model.safetensors")
    assert torch.equal(teacher.network.fc.weight, given["fc.weight"])
    session = pytest.importorskip("onnxruntime").InferenceSession(fresh.folder / targets[-1])
    assert session.run(["logits"], {"images": torch.rand(2, 3, 32, 32).numpy()})[0].shape == (2, 1000)
    verify = [sys.executable, "-m", "kdq.provenance.verify", "--quiet", "--configfile", "my_study.yaml", "short.yaml"]
    judged = subprocess.run(verify, cwd=fresh.folder, env=fresh.environment, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout[-3000:] + judged.stderr[-2000:]


def test_a_name_that_does_not_exist_gets_one_line_before_anything_runs(fresh):
    pytest.importorskip("timm")
    fresh.configure({"recipes": ["hard"], "student": {"architecture": "timm/resnet81"}})
    done = fresh.run("-n")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "has no such classifier; did you mean 'resnet" in lines[0]
    assert "Traceback" not in done.stderr + done.stdout
    fresh.configure({"recipes": ["hard,architecture=timm/resnet18"]})
    done = fresh.run("-n")
    assert done.returncode == 1 and "a recipe is a path, so such a name is written in the config" in done.stderr
