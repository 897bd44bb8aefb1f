"""Networks of torchvision, timm and transformers: quantized, saved, loaded into another instance, exported, run."""

from collections import Counter

import onnx
import onnxruntime
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import kdq
from kdq.models.folded_norms import FoldedNorm, FoldedNormAct
from kdq.models.logits import logits_of
from tests.library.networks import NETWORKS, network_and_images

# Convolutions that compute on integers in ONNX Runtime; the rest of a network's stay float.
INTEGER = {"resnet18": 20, "mobilenet_v3_small": 52, "timm/test_efficientnet": None, "transformers/resnet": None}


@torch.no_grad()
def logits(network, pictures):
    return logits_of(network(pictures))


def run(path, pictures, folder) -> tuple[torch.Tensor, Counter]:
    """Return the logits of ONNX Runtime, and the operators of the graph that it makes of the file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimized.onnx"), 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    actual = torch.from_numpy(session.run(None, {"images": pictures.numpy()})[0])
    return actual, Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.slow
@pytest.mark.parametrize("activations", [0, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_and_its_files(name, activations, tmp_path):
    network, pictures = network_and_images(name)
    before, state = logits(network, pictures), {key: value.clone() for key, value in network.state_dict().items()}
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
    quantized = kdq.quantize(network, pictures, scale="mse", bits=4, activations=activations)

    assert len(quantized.layers) >= layers and not quantized.kept
    assert all(layer.codes.min() >= -8 and layer.codes.max() <= 7 for layer in quantized.layers.values())
    assert all(0 <= layer.relative_error < 1 and layer.bits == 4 for layer in quantized.layers.values())
    ours = logits(quantized, pictures)
    assert 0 < (ours - before).norm() < 0.5 * before.norm()
    assert all(network.state_dict()[key].equal(value) for key, value in state.items())
    assert logits(network, pictures).equal(before)

    kdq.save(tmp_path / "model.safetensors", quantized)
    loaded = kdq.load(tmp_path / "model.safetensors", into=NETWORKS[name][1]())
    assert logits(loaded, pictures).equal(ours)
    assert loaded.header["keys"] == quantized.header["keys"] and loaded.points == quantized.points

    kdq.export(loaded, tmp_path / "model.onnx")
    actual, kinds = run(tmp_path / "model.onnx", pictures, tmp_path)
    assert (actual - ours).norm() < (0.1 if activations else 1e-4) * ours.norm()
    if activations and name in INTEGER:
        convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
        assert kinds["QLinearConv"] == (INTEGER[name] or convolutions) == convolutions
        assert not kinds.keys() & {"Conv", "FusedConv", "BatchNormalization"}
        assert any(isinstance(module, FoldedNorm | FoldedNormAct) for module in loaded.modules())


@pytest.mark.slow
def test_sums_of_a_resnet_are_integer_ones(tmp_path):
    network, pictures = network_and_images("resnet18")
    quantized = kdq.quantize(network, pictures, method="rtn", scale="mse", activations=8)
    kdq.export(quantized, tmp_path / "model.onnx")
    kinds = run(tmp_path / "model.onnx", pictures, tmp_path)[1]
    assert kinds["QLinearAdd"] == 7 and kinds["Add"] == 1, "the last sum is averaged as floats"
    assert kinds["QGemm"] == 1 and "Gemm" not in kinds


@pytest.mark.slow
def test_a_trained_network_computes_in_a_runtime_what_it_computes_here(tmp_path):
    """On random weights rounding that flips is amplified; on a trained network little is left of it."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = functional.interpolate(images, (32, 32), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    labels = torch.tensor(digits.target)
    network = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.SGD(network.parameters(), 0.02, momentum=0.9)
    for batch in [part for _ in range(3) for part in torch.randperm(1200).split(50)]:
        optimizer.zero_grad()
        functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimizer.step()
    quantized = kdq.quantize(network.eval(), images[:256], bits=4, activations=8)
    kdq.export(quantized, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    theirs = torch.tensor(session.run(None, {session.get_inputs()[0].name: images[1200:].numpy()})[0])
    with torch.no_grad():
        ours = quantized(images[1200:])
    assert (theirs.argmax(1) == ours.argmax(1)).float().mean() >= 0.995
    assert (theirs - ours).norm() <= 0.02 * ours.norm()
