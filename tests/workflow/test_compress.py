"""The smallest model within a drop of accuracy, by the real workflow: found, made once, found again."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from kdq.compress.search import BUDGETS
from tests.workflow.study import Workflow

HOME = Path(__file__).resolve().parents[2]
NAMED = ["--data", "digits", "--name", "small", "--cores", "2"]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(HOME)}
    command = [sys.executable, "-m", "kdq.workflow.compress", *NAMED, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def models(folder: Path) -> dict[Path, int]:
    """Return the time of every model of the study."""
    study = folder / "compressed/small/study"
    return {path: path.stat().st_mtime_ns for path in study.glob("results/**/model.safetensors")}


def candidates(folder: Path) -> dict[float, dict]:
    with open(folder / "compressed/small/candidates.csv", encoding="utf-8") as file:
        return {float(row["budget"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A narrow network, trained by a study of its own for some epochs."""
    study = Workflow(tmp_path_factory.mktemp("study"))
    study.configure({"student": {"width": 0.0625, "epochs": 6}})
    target = "results/digits/seed=0/hard/model.safetensors"
    done = study.run("--cores", "1", target)
    assert done.returncode == 0, done.stderr[-4000:]
    return str(study.folder / target)


def test_a_model_is_compressed_and_a_wider_drop_makes_new_candidates_alone(model, tmp_path):
    done = run(tmp_path, "--model", model, "--max-drop", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "compressed/small"
    report = json.loads((folder / "compress.json").read_text())
    tried, best = candidates(tmp_path), report["chosen"]
    assert best["within"] and best["drop_points"] <= 3
    assert "batchnorm" not in best["recipe"]  # of a network of ours
    assert set(tried) <= set(BUDGETS)
    assert all(row["within"] == "False" for budget, row in tried.items() if budget < best["budget"])
    assert report["chosen_on"].endswith("validation images")  # the model's study held them out

    metrics = json.loads((folder / "study/results/digits/seed=0" / best["recipe"] / "metrics.json").read_text())
    assert report["drop"]["top1"] == pytest.approx(metrics["test"]["top1"])
    assert (folder / "model.onnx").stat().st_size == report["onnx_bytes"] < report["float_onnx_bytes"] / 4
    assert onnxruntime.InferenceSession(folder / "model.onnx").get_inputs()[0].name == "images"
    assert f"`{best['recipe']}`" in (folder / "report.md").read_text()

    before = models(tmp_path)
    wider = run(tmp_path, "--model", model, "--max-drop", "30")
    assert wider.returncode == 0, wider.stdout + wider.stderr
    after = models(tmp_path)
    assert {path: after[path] for path in before} == before
    assert min(candidates(tmp_path)) < best["budget"] or best["budget"] == min(BUDGETS)


def test_classes_that_do_not_fit_are_refused_in_one_line(model, tmp_path):
    for name in ("cat", "dog", "owl"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    done = run(tmp_path, "--model", model, "--image-size", "8", "--data", "images")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "a network of 10 classes, the data set has 3" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "resnet18"], "error: MODEL: 'resnet18' is a network without weights"),
        (["--model", "nothing", "--max-drop", "-1"], "error: MAX_DROP: found -1"),
    ],
)
def test_wrong_words_end_before_anything_is_written(words, message, tmp_path):
    done = run(tmp_path, *words)
    assert done.returncode == 2 and done.stderr.startswith(message) and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_network_without_weights_is_trained_first(tmp_path):
    pytest.importorskip("timm")
    described = tmp_path / "network.yaml"
    described.write_text("teacher: {architecture: timm/test_efficientnet, epochs: 1, precision: float32, resize: 32}\n")
    done = run(tmp_path, "--model", str(described), "--max-drop", "90")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training" in done.stdout and "importing" not in done.stdout
    report = json.loads((tmp_path / "compressed/small/compress.json").read_text())
    assert report["chosen_on"].endswith("validation images") and report["chosen"]["within"]
    assert "batchnorm=fold" in report["chosen"]["recipe"]  # of a library's network


def test_make_passes_every_word_on():
    words = ["DATA=my images", "MODEL=m", "MAX_DROP=2", "SURE=0.9", "NAME=n", "IMAGE_SIZE=64", "CORES=3"]
    command = ["make", "--dry-run", "--assume-old", ".venv/ready", "compress", *words]
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # of a `make` that these tests may run in
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    done = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True)
    line = " ".join(done.stdout.replace("\\\n", " ").split())
    assert line == (
        'python -m kdq.workflow.compress --data "my images" --model "m" --max-drop "2" --sure "0.9" '
        '--image-size "64" --name "n" --cores 3'
    ), done.stderr
