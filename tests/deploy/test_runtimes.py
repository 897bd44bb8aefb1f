"""A trained network's ONNX file in the runtimes: they predict what the network of the model file predicts."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from scipy.stats import binomtest

from benchmarks.rivals.old_runtimes import compared
from kdq.data.catalog import prepare
from kdq.data.prepared import Prepared
from kdq.deploy.export import run
from kdq.deploy.onnx_file import read, to_onnx
from kdq.deploy.timing import RUNTIMES
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.file import ModelFile, to_network
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import quantize_stage
from kdq.recipe.stages import find_stages
from kdq.train.stage import train_root

OLD_RUNTIMES = tuple(filter(None, os.environ.get("KDQ_OLD_RUNTIMES", "").split(os.pathsep)))
GENUINE = os.environ.get("KDQ_CIFAR")
needs_genuine = pytest.mark.skipif(not GENUINE, reason="KDQ_CIFAR names no folder with the genuine CIFAR files")
DATA = ["digits", pytest.param("cifar10", marks=needs_genuine)]
TRAINING = {
    "digits": {"epochs": 15, "learning_rate": 0.05, "batch_size": 64, "flip": False, "crop": 1},
    "cifar10": {"epochs": 2, "learning_rate": 0.2, "batch_size": 128, "schedule": "onecycle"},
}
LEAST_ACCURACY = {"digits": 0.9, "cifar10": 0.35}
# OpenVINO keeps other tensors in integers; of the weak network many images are near ties
OPENVINO_AGREEMENT = {"digits": 0.985, "cifar10": 0.97}
LEAST_PROBABILITY = 0.05 / 24  # 24 comparisons are made
KINDS = [(8, 8), (4, 8), (3, 8), (2, 8), (4, 4), (3, 0)]  # bits of weights and of activations
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def trained(home, tmp_path_factory, digits):
    """Return the data, and the model file of a student of 15 epochs on the digits, or of 2 on the genuine CIFAR-10."""
    made: dict[str, tuple[Prepared, Path]] = {}

    def trained(dataset: str) -> tuple[Prepared, Path]:
        if dataset not in made:
            prepared = (
                digits if dataset == "digits" else prepare(dataset, {"folder": GENUINE, "download": False}, 0.1, 0)
            )
            keys = find_stages(home / "kdq")["hard"].keys(width=0.125, **TRAINING[dataset]).model_dump()
            folder = tmp_path_factory.mktemp(dataset)
            places = {"checkpoint": folder / "checkpoint.pt", "identity": "hard", "log": lambda line: None}
            model = train_root(prepared, keys, seed=0, threads=1, **places)
            model_file.save(folder / "model.safetensors", model.network, model.architecture, Codes(), keys=keys)
            made[dataset] = prepared, folder / "model.safetensors"
        return made[dataset]

    return trained


@pytest.fixture(scope="session")
def exported(trained):
    """Return test images, their labels, the quantized model's file, its ONNX file and its own predictions."""
    made = {}

    def exported(dataset: str, bits: int, activations: int):
        kind = dataset, bits, activations
        if kind not in made:
            prepared, path = trained(dataset)
            file = quantized(model_file.read(path), prepared, bits, activations)
            onnx_path = path.with_name(f"{bits}-{activations}.onnx")
            onnx.save(to_onnx(file, path, {}), onnx_path)
            made[kind] = prepared.test, onnx_path, predicted_by(to_network(file), prepared.test.images)
        return made[kind]

    return exported


def quantized(file: ModelFile, prepared: Prepared, bits: int, activations: int) -> ModelFile:
    network, keys = to_network(file), {"bits": bits, "activations": activations, "images": 128}
    quantizer = quantizer_of("kdq.quantize.methods.gpfq", keys, 0)
    codes = quantize_stage(network, prepared, quantizer, seed=0, device=CPU, log=lambda line: None)
    floats = {name: value for name, value in network.state_dict().items() if name.removesuffix(".weight") not in codes}
    return ModelFile(file.header, floats, codes)


def agreement(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a == b).double().mean().item()


def assert_as_accurate(predicted: torch.Tensor, reference: torch.Tensor, labels: torch.Tensor) -> None:
    """Of the images on which one alone is right, either is right on about half: the exact test of McNemar.

    A bootstrap over images would call five images of 10,000 a difference if they were all of one side.
    """
    right, expected = predicted == labels, reference == labels
    better, worse = int((right & ~expected).sum()), int((expected & ~right).sum())
    assert better == worse or binomtest(better, better + worse).pvalue > LEAST_PROBABILITY, (better, worse)


@torch.no_grad()
def predicted_by(compute, images: torch.Tensor) -> torch.Tensor:
    """Return the classes of uint8 images by a function of float images in [0, 1]."""
    return torch.cat([torch.as_tensor(compute(batch.float() / 255)) for batch in images.split(128)]).argmax(1)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", DATA)
@pytest.mark.parametrize(("bits", "activations"), KINDS)
class TestAgreement:
    def test_of_onnx_runtime(self, exported, dataset, bits, activations):
        """With its optimizer and without it, and with the network of the model file."""
        test, path, ours = exported(dataset, bits, activations)
        assert agreement(ours, test.labels) > LEAST_ACCURACY[dataset]
        optimized, plain = (run(path, test.images, optimized).argmax(1) for optimized in (True, False))
        assert agreement(optimized, plain) >= 0.999
        assert agreement(optimized, ours) >= 0.995
        assert_as_accurate(optimized, ours, test.labels)

    def test_of_openvino(self, exported, dataset, bits, activations):
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
        test, path, ours = exported(dataset, bits, activations)
        compute = RUNTIMES["openvino"](str(path), 1)[""]
        predicted = predicted_by(lambda batch: compute(batch.numpy()), test.images)
        assert agreement(predicted, ours) >= OPENVINO_AGREEMENT[dataset]
        assert_as_accurate(predicted, ours, test.labels)


@pytest.mark.slow
@pytest.mark.skipif(not OLD_RUNTIMES, reason="KDQ_OLD_RUNTIMES names no Python with an old ONNX Runtime")
@pytest.mark.parametrize("python", OLD_RUNTIMES)
@pytest.mark.parametrize(("bits", "activations"), KINDS)
def test_old_versions_of_onnx_runtime(exported, python, bits, activations, tmp_path):
    """They compute in the integer operators that the installed version uses, and predict the same."""
    test, path, _ = exported("digits", bits, activations)
    np.save(tmp_path / "images.npy", test.images.numpy())
    facts = compared(python, sys.executable, path, tmp_path / "images.npy", tmp_path)
    assert facts["agreement"] == 1.0
    assert facts["integer_convolutions"] == facts["expected_integer_convolutions"] == (20 if activations else 0)


class TestRefusals:
    """Each in one line that names the file."""

    def refused(self, path, message):
        with pytest.raises(UserError, match=message) as caught:
            run(path, torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)

    @pytest.fixture
    def model(self, model_of):
        return to_onnx(model_of(activations=8), "m", {})

    def test_another_opset(self, model, tmp_path):
        model.opset_import[0].version = 99
        onnx.save(model, tmp_path / "model.onnx")
        self.refused(tmp_path / "model.onnx", "ONNX Runtime can't load it .*[Oo]pset")
        with pytest.raises(UserError, match=r"model\.onnx: of opset 99, expected at most \d+$"):
            read(tmp_path / "model.onnx")

    def test_a_missing_operator(self, model, tmp_path):
        next(node for node in model.graph.node if node.op_type == "Conv").op_type = "Convolve"
        onnx.save(model, tmp_path / "model.onnx")
        self.refused(tmp_path / "model.onnx", "ONNX Runtime can't load it .*Convolve")
        with pytest.raises(UserError, match=r"model\.onnx: not readable as ONNX \(.*Convolve"):
            read(tmp_path / "model.onnx")

    def test_a_truncated_file(self, model, tmp_path):
        content = model.SerializeToString()
        for size in (0, 100, len(content) // 2, len(content) - 1):
            (tmp_path / "model.onnx").write_bytes(content[:size])
            self.refused(tmp_path / "model.onnx", "ONNX Runtime can't load it")

    def test_a_missing_file(self, tmp_path):
        self.refused(tmp_path / "model.onnx", "can't load it .*[Ee]xist")
