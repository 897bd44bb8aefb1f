"""A folder to give away: what is in it is what other libraries expect, and what the card says of it is true."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import onnxruntime
import pytest
import torch
import transformers
import yaml
from huggingface_hub import HfApi, ModelCard
from PIL import Image

from kdq import models
from kdq.data import prepared as data_file
from kdq.deploy import model_folder
from kdq.deploy.export import export, input_of
from kdq.deploy.file_scores import score
from kdq.deploy.graph_nodes import FLOAT32_NCHW, UINT8_NHWC
from kdq.deploy.hub_configs import torchvision_name
from kdq.deploy.latency import compared
from kdq.deploy.model_card import checked
from kdq.errors import UserError
from kdq.evaluate import predictions as predictions_file
from kdq.evaluate.stage import evaluate
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.provenance.files import sha256, write_json, write_tensors
from kdq.recipe.path import Cell
from tests.deploy.conftest import images

HOME = Path(__file__).resolve().parents[2]
ROLES = {"card": "README.md", "onnx": "model.onnx", "model": "model.safetensors", "config": "config.json"}
ROLES |= {"preprocessor": "preprocessor_config.json", "license": "LICENSE"}
STAGES = [
    {"stage": "teacher", "keys": {"epochs": 2, "source": "train"}},
    {"stage": "kd", "keys": {"temperature": 4.0, "teacher_cache": False}},
]
QUANTIZER = {"stage": "gpfq,activations=8,bits=4", "keys": {"activations": 8, "bits": 4}}
CPU = torch.device("cpu")


class Place:
    """A cell with its files below ``folder``, as its jobs would write them, and its folder to give away."""

    def __init__(
        self, folder: Path, file: model_file.ModelFile, recipe: str, dataset="cifar10", size=16, form=FLOAT32_NCHW
    ):
        cell = Cell(dataset, 3, recipe)
        self.folder, self.file = folder, file
        self.inputs = {role: folder / cell.path(name) for role, name in (("model", "model.safetensors"),)}
        self.inputs["data"] = folder / "results/cifar10/data/split=0.safetensors"
        self.prepared = made_up(file.header["architecture"])
        data_file.write(self.inputs["data"], self.prepared)
        header = {**cell.identity, "keys": {}, "provenance": {"code": "0", "inputs": {}}}
        network, model = model_file.to_network(file, integer=False), self.inputs["model"]
        model_file.save(model, network, file.header["architecture"], file.codes, **header)
        written = model_file.read(model)
        self.inputs["metrics"] = model.with_name("metrics.json")
        metrics, of_model = evaluate(written, model, self.prepared, None, CPU)
        write_json(self.inputs["metrics"], metrics)
        parent = Cell("cifar10", 3, "teacher/kd")
        if file.codes:  # a float parent that is right on every other image
            of_model["test_class"] = self.prepared.test.labels.short()
            of_model["test_class"][::2] = (of_model["test_class"][::2] + 1) % len(self.prepared.classes)
        self.inputs["float"] = folder / parent.path("predictions.safetensors")
        write_tensors(self.inputs["float"], of_model, {"format": predictions_file.FORMAT, **parent.identity})
        self.inputs["onnx"] = model.with_name("model.onnx")
        export(written, model, self.inputs["onnx"], self.prepared, sha256(model), form)
        self.inputs["record"] = model.with_name("model.onnx.json")
        facts = {"input": input_of(self.prepared.test.images, form), "outputs": {"onnx": sha256(self.inputs["onnx"])}}
        write_json(self.inputs["record"], cell.identity | facts)
        self.hub = model.parent / "hub"
        self.output = {role: str(self.hub / name) for role, name in ROLES.items()}

    def write(self, stages=None, **further):
        stages = stages or STAGES + [QUANTIZER] * bool(self.file.codes)
        inputs = {role: str(path) for role, path in {**self.inputs, **further}.items()}
        return model_folder.write(self.output, inputs, HOME / "LICENSE", stages, CPU)

    @property
    def card(self) -> ModelCard:
        return ModelCard.load(self.hub / "README.md")


def made_up(architecture):
    """Images of noise, in three equal parts."""
    part = images(60)[:, : architecture["channels"]]
    labels = torch.arange(60) % architecture["classes"]
    parts = {name: data_file.Split(part.clone(), labels.clone()) for name in data_file.PARTS}
    classes = [f"class {index}" for index in range(architecture["classes"])]
    statistics = {"mean": architecture["mean"], "std": architecture["std"]}
    return data_file.Prepared(**parts, classes=classes, **statistics, dataset="cifar10", source={}, split_seed=0)


@pytest.fixture(scope="module")
def float_place(network_of, model_of, tmp_path_factory):
    def float_place(stem, channels=3, width=1.0, architecture="resnet18") -> Place:
        statistics = {"mean": [0.4, 0.45, 0.5][:channels], "std": [0.2, 0.25, 0.3][:channels]}
        network = network_of(architecture, width=width, stem=stem, channels=channels, **statistics)
        file = model_file.ModelFile({"architecture": network.architecture, "layers": {}}, network.state_dict(), Codes())
        place = Place(tmp_path_factory.mktemp("place"), file, "teacher/kd")
        place.write()
        return place

    return cache(float_place)


@pytest.fixture(scope="module")
def small_stem(float_place):
    return float_place("cifar")


@pytest.fixture(scope="module")
def quantized(model_of, tmp_path_factory):
    file = model_of(bits=4, activations=8)
    place = Place(tmp_path_factory.mktemp("place"), file, "teacher/kd/gpfq,activations=8,bits=4")
    place.write()
    return place


def blocks(place: Place) -> list[str]:
    """The programs in the card."""
    return re.findall(r"```python\n(.*?)```", str(place.card), re.DOTALL)


def run(place: Place, *programs: str, python=sys.executable) -> np.ndarray:
    """Run programs of the card, one after the other, on an image of another size; return the logits they end with."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 18, 3), np.uint8)
    Image.fromarray(picture).save(place.hub.parent / "image.png")
    program = "\n".join(programs).replace('"image.png"', '"../image.png"')
    end = '\nlogits = getattr(logits, "detach", lambda: logits)()\nnp.save("../logits.npy", np.asarray(logits))'
    environment = os.environ | {"PYTHONPATH": str(HOME)}  # the package need not be installed
    command = [python, "-c", program + end]
    done = subprocess.run(command, cwd=place.hub, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(place.hub.parent / "logits.npy")


class TestFiles:
    def test_the_model_files_are_the_cell_s(self, quantized):
        for role in ("onnx", "model"):
            assert sha256(quantized.output[role]) == sha256(quantized.inputs[role])

    def test_there_is_nothing_else(self, quantized):
        assert {path.name for path in quantized.hub.iterdir()} == set(ROLES.values())

    def test_nothing_names_this_machine(self, quantized, small_stem):
        for place in (quantized, small_stem):
            for path in place.hub.iterdir():
                content = path.read_bytes()
                assert str(HOME).encode() not in content and str(place.folder).encode() not in content, path

    def test_the_classes_are_in_the_config(self, quantized):
        config = json.loads((quantized.hub / "config.json").read_text())
        assert config["id2label"]["6"] == "class 6" and config["label2id"]["class 6"] == 6
        assert config["kdq"]["recipe"] == "teacher/kd/gpfq,activations=8,bits=4"
        assert "pretrained_cfg" not in config  # timm can't load codes

    def test_equal_inputs_give_equal_bytes(self, quantized):
        before = {path.name: path.read_bytes() for path in quantized.hub.iterdir()}
        quantized.write()
        assert before == {path.name: path.read_bytes() for path in quantized.hub.iterdir()}


class TestScores:
    def test_are_of_the_files_beside_the_float_parent(self, quantized):
        onnx, ours = quantized.write()
        test = quantized.prepared.test
        session = onnxruntime.InferenceSession(quantized.output["onnx"])
        predicted = session.run(None, {"images": (test.images.float() / 255).numpy()})[0].argmax(1)
        assert onnx.top1 == pytest.approx((predicted == test.labels.numpy()).mean())
        assert ours.top1 == pytest.approx(json.loads(quantized.inputs["metrics"].read_text())["test"]["top1"])
        for each in (onnx, ours):
            assert each.difference == pytest.approx(each.top1 - 0.5)
            assert each.low < each.difference < each.high
            assert each.size_bytes == (quantized.hub / each.file).stat().st_size

    def test_a_float_model_is_its_own_parent(self, small_stem):
        _, ours = small_stem.write()
        assert (ours.difference, ours.low, ours.high, ours.agreement) == (0, 0, 0, 1)

    def test_the_interval_covers_the_difference(self, tmp_path):
        labels = torch.arange(400) % 5
        path = tmp_path / "model.onnx"
        path.write_bytes(b"abc")
        worse = labels.clone()
        worse[:40] += 1
        result = score(path, worse, labels, labels)
        assert (result.top1, result.difference, result.agreement) == pytest.approx((0.9, -0.1, 0.9))
        assert -0.14 < result.low < -0.12 < -0.08 < result.high < -0.06  # 1.96 sqrt(0.1 0.9 / 400) = 0.029

    def test_a_corrupted_model_is_no_folder(self, quantized, tmp_path):
        content = bytearray(Path(quantized.inputs["model"]).read_bytes())
        broken = quantized.inputs["model"].with_name("broken.safetensors")
        broken.write_bytes(content[:-5])
        with pytest.raises(UserError, match=r"broken\.safetensors: "):
            quantized.write(model=broken)


class TestCard:
    def test_has_metadata_of_the_hub(self, quantized):
        data = quantized.card.data
        assert (data.license, data.pipeline_tag, data.library_name) == ("mit", "image-classification", "kdq")
        assert data.datasets == ["uoft-cs/cifar10"] and {"onnx", "quantized", "resnet18"} <= set(data.tags)
        results = {result.metric_name: result.metric_value for result in data.eval_results}
        onnx, ours = quantized.write()
        assert results == {
            "top-1 accuracy of model.onnx in ONNX Runtime": onnx.top1,
            "top-1 accuracy of model.safetensors in KDQ": ours.top1,
        }

    def test_has_the_stages_in_words_with_their_keys(self, quantized):
        text = str(quantized.card)
        assert "1. `teacher`: The teacher: a large network" in text
        assert "2. `kd`: Knowledge distillation: the student matches" in text and "`teacher_cache=false`" in text
        assert "3. `gpfq,activations=8,bits=4`: GPFQ: greedy path-following" in text and "`activations=8`" in text

    def test_has_the_scores_and_bytes_of_the_files(self, quantized):
        text, scores = str(quantized.card), quantized.write()
        for each in scores:
            assert f"| {each.size_bytes:,} | {each.top1:.2%} |" in text
            assert f"({100 * each.low:+.2f} to {100 * each.high:+.2f}) | {each.agreement:.2%} |" in text
        assert "The float parent is `teacher/kd`, with a top-1 accuracy of\n50.00%" in text
        assert "weights of 4 bits, activations of 8 bits" in text

    def test_has_milliseconds_if_they_were_measured(self, quantized, tmp_path):
        assert "ms at batch 1" not in str(quantized.card)
        series = {"model": (0.00127, 0.1), "float": (0.00635, 0.4), "float@bfloat16": (0.00254, 0.2)}
        times = {}
        for name, seconds in series.items():
            batches = zip(("1", "128"), seconds, strict=True)
            times[name] = {batch: {"wall": [each], "processor": [each]} for batch, each in batches}
        facts = {"processor": {"name": "Some CPU"}, "threads": 1, "load": 0.5, "busy": ""}
        in_torch = compared({"float": times["float"]})
        runtimes = {"openvino": {"version": "1.2", **compared(times)}, "torch": {"version": "2.14", **in_torch}}
        write_json(tmp_path / "latency.json", facts | {"runtimes": runtimes})
        quantized.write(latency=tmp_path / "latency.json")
        text = str(quantized.card)
        assert "| openvino 1.2 | `model.onnx` | 1.27 (1.27) | 1,280 |  |" in text
        assert "| openvino 1.2 | float parent | 6.35 (6.35) | 320 | 5.00 (5.00 to 5.00) |" in text
        assert "| openvino 1.2 | float parent, in bfloat16 | 2.54 (2.54) | 640 | 2.00 (2.00 to 2.00) |" in text
        assert "| torch 2.14 | float parent | 6.35 (6.35) | 320 |  |" in text
        assert "On Some CPU, 1 thread, load 0.5" in text
        write_json(tmp_path / "latency.json", facts | {"busy": "too busy", "runtimes": {}})
        quantized.write(latency=tmp_path / "latency.json")
        assert "ms at batch 1" not in str(quantized.card)

    def test_of_an_imported_root_has_another_license(self, quantized):
        quantized.write([{"stage": "teacher", "keys": {"source": "hub", "repository": "owner/name"}}, *STAGES[1:]])
        assert quantized.card.data.license == "other" and "imported from owner/name" in str(quantized.card)
        quantized.write()

    @pytest.mark.parametrize("text", ["no metadata", "---\nlicense: [\n---\n", "---\nlicense: mit\n---\n"])
    def test_others_are_refused(self, text):
        with pytest.raises(UserError, match=r"README\.md: no valid model card"):
            checked("README.md", text)


@pytest.mark.slow
class TestPrograms:
    def test_of_a_quantized_model_give_its_logits(self, quantized):
        picture, in_onnxruntime, in_kdq = blocks(quantized)
        ours, theirs = run(quantized, picture, in_kdq), run(quantized, picture, in_onnxruntime)
        assert theirs.shape == (1, 7) and np.abs(theirs - ours).max() < 0.05 * np.abs(ours).max()

    def test_of_a_file_for_bytes_give_its_logits(self, model_of, tmp_path):
        recipe = "teacher/kd/gpfq,activations=8,bits=4"
        place = Place(tmp_path, model_of(bits=4, activations=8), recipe, form=UINT8_NHWC)
        place.write()
        assert "Input `images` of `model.onnx`: uint8 (N, 16, 16, 3)" in str(place.card)
        picture, in_onnxruntime, in_kdq = blocks(place)
        ours, theirs = run(place, picture, in_kdq), run(place, picture, in_onnxruntime)
        assert np.abs(theirs - ours).max() < 0.05 * np.abs(ours).max()

    @pytest.mark.parametrize("stem", ["cifar", "imagenet"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_a_float_resnet_load_it_strictly_in_torchvision(self, float_place, stem, channels):
        place = float_place(stem, channels)
        picture, in_onnxruntime, in_kdq, in_torchvision, _ = blocks(place)
        ours = run(place, picture, in_kdq)
        assert np.allclose(run(place, picture, in_onnxruntime), ours, rtol=1e-3, atol=1e-3)
        assert np.allclose(run(place, picture, in_torchvision, normalised(place)), ours, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("stem", ["cifar", "imagenet"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_a_float_resnet_load_it_strictly_in_timm(self, float_place, stem, channels):
        pytest.importorskip("timm", reason="timm is not among the pins; its tests need it")
        place = float_place(stem, channels)
        picture, _, in_kdq, _, in_timm = blocks(place)
        assert ("local-dir" in in_timm) == (stem == "imagenet")
        theirs = run(place, picture, in_timm, normalised(place))
        assert np.allclose(theirs, run(place, picture, in_kdq), rtol=1e-3, atol=1e-3)

    def test_of_other_widths_and_networks_name_no_other_library(self, float_place):
        assert len(blocks(float_place("cifar", width=0.25))) == 3
        assert len(blocks(float_place("cifar", width=0.25, architecture="mobilenetv2"))) == 3

    def test_of_pruned_networks_name_no_other_library(self, small_stem):
        file = small_stem.file
        assert torchvision_name(file) == "resnet18"
        assert not torchvision_name(replace(file, masks={"conv1": torch.ones(1, dtype=torch.bool)}))
        smaller = file.header["architecture"] | {"shrunk": {"conv1": [2, 3, 3, 3]}}
        assert not torchvision_name(replace(file, header=file.header | {"architecture": smaller}))


def normalised(place: Place) -> str:
    """A program that gives the logits of ``network`` for normalised images, as the card says."""
    statistics = [place.file.header["architecture"][key] for key in ("mean", "std")]
    mean, std = (f"torch.tensor({values}).view(1, -1, 1, 1)" for values in statistics)
    return f"import torch\nlogits = network.eval()((torch.from_numpy(images) - {mean}) / {std})"


@pytest.mark.parametrize(("stem", "channels", "width"), [("cifar", 1, 0.25), ("cifar", 3, 0.25), ("imagenet", 3, 1.0)])
def test_an_image_processor_of_transformers_gives_what_the_network_expects(float_place, stem, channels, width):
    """It resizes and scales; the network itself normalises, so it must not."""
    place = float_place(stem, channels, width=width)
    processor = transformers.AutoImageProcessor.from_pretrained(place.hub)
    batch = place.prepared.test.images[:5]
    pixels = processor(list(batch.permute(0, 2, 3, 1).numpy()), return_tensors="np", input_data_format="channels_last")
    logits = onnxruntime.InferenceSession(place.output["onnx"]).run(None, {"images": pixels["pixel_values"]})[0]
    with torch.no_grad():
        ours = models.load(place.output["model"])(batch.float() / 255)
    assert np.allclose(logits, ours.numpy(), rtol=1e-3, atol=1e-3)
    larger = processor(np.zeros((40, 30, channels), np.uint8), return_tensors="np", input_data_format="channels_last")
    assert larger["pixel_values"].shape == (1, channels, 16, 16)


class Hub(BaseHTTPRequestHandler):
    """What a hub answers to an upload: it checks the card's metadata and takes files, large ones by another way."""

    def answer(self, content=None, status=200):
        body = json.dumps(content if content is not None else {}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_PUT(self):
        self.server.large[self.path.rpartition("/")[2]] = self.body()
        self.answer()

    def do_POST(self):
        body, server = self.body(), self.server
        match self.path.split("/")[1:]:
            case ["api", "validate-yaml"]:
                metadata = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
                errors = [{"message": f"{key} is missing"} for key in ("license", "model-index") if key not in metadata]
                self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)
            case ["api", "models", _, _, "preupload", "main"]:
                modes = [
                    {"path": file["path"], "shouldIgnore": False, "uploadMode": mode_of(file["path"])}
                    for file in json.loads(body)["files"]
                ]
                self.answer({"files": modes})
            case [_, _, "info", "lfs", "objects", "batch"]:
                objects = json.loads(body)["objects"]
                place = f"http://127.0.0.1:{server.server_port}/large"
                uploads = [
                    {**entry, "actions": {"upload": {"href": f"{place}/{entry['oid']}", "header": {}}}}
                    for entry in objects
                ]
                self.answer({"transfer": "basic", "objects": uploads})
            case ["api", "models", _, _, "commit", "main"]:
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        server.files[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        server.files[value["path"]] = server.large[value["oid"]]
                self.answer({"commitUrl": "http://127.0.0.1/owner/name/commit/0", "commitOid": "0" * 40})
            case _:
                self.answer({"error": f"unexpected {self.path}"}, 404)

    def log_message(self, *arguments):
        pass


def mode_of(path: str) -> str:
    return "lfs" if path.endswith((".onnx", ".safetensors")) else "regular"


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.large = {}, {}
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    server.api = HfApi(endpoint=address, token="hf_none")
    yield server
    server.shutdown()
    server.server_close()


class TestHub:
    def test_validates_the_card(self, hub, quantized):
        quantized.card.validate()
        with pytest.raises(ValueError, match="model-index is missing"):
            ModelCard("---\nlicense: mit\n---\n").validate()

    def test_takes_the_folder_as_it_is(self, hub, quantized, small_stem):
        for place in (quantized, small_stem):
            hub.files.clear()
            hub.api.upload_folder(repo_id="owner/name", folder_path=place.hub)
            assert hub.files == {path.name: path.read_bytes() for path in place.hub.iterdir()}
