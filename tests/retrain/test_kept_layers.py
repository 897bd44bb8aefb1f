"""Layers that stay float are trained as float weights, and stay so in the retrained model's file."""

import pytest
import torch

from kdq.models import file as model_file
from kdq.models import load
from kdq.models.model import Model
from kdq.quantize.methods import rtn
from kdq.quantize.stage import quantize_stage
from kdq.retrain.lsq import attach, detach
from kdq.train.stage import save
from tests.models.classifiers import transformers_classifier
from tests.retrain.conftest import CPU, HEADER

SILENT = {"log": lambda line: None}


@pytest.fixture
def kept(few, files, tmp_path):
    """The float model with its first and last layer kept, as the parent of the retraining."""
    network = load(files["float"])
    keys = rtn.Parameters(scale=0.8, images=16, bits=3, keep="first+last")
    codes = quantize_stage(network, few, rtn.RTN(keys), seed=0, device=CPU, **SILENT)
    path = tmp_path / "kept.safetensors"
    model_file.save(path, network, network.architecture, codes, **HEADER)
    return path


@pytest.mark.parametrize("name", ["qat", "qkd", "dcq", "adaptive", "ntklc"])
def test_a_retrained_model_keeps_them(files, kept, run, tmp_path, name, monkeypatch):
    before = model_file.read(kept)
    monkeypatch.setitem(files, "rtn", kept)
    trained = run(name, epochs=2, **SILENT)
    expected = {"conv1"} if name == "ntklc" else {"conv1", "fc"}  # its random layers replace the classifier
    path = tmp_path / "retrained.safetensors"
    save(path, tmp_path / "history.csv", trained, **HEADER)
    file = model_file.read(path)
    assert file.codes.kept == {layer: before.codes.kept[layer] for layer in expected}
    assert not file.codes.keys() & expected
    moved = not file.floats["conv1.weight"].equal(before.floats["conv1.weight"])
    assert moved == (name != "ntklc")  # it trains the readout alone


@torch.no_grad()
def test_steps_are_learned_for_an_attentions_projections(tmp_path):
    from kdq.quantize.execution.network import quantize

    network, architecture, images = transformers_classifier("siglip")
    codes = quantize(network, images, rtn.RTN(rtn.Parameters(bits=4)), log=SILENT["log"])
    path, expected = tmp_path / "model.safetensors", network(images / 255)
    model_file.save(path, network, architecture, codes, **HEADER)
    file = model_file.read(path)
    model = Model(model_file.to_network(file), file.header["architecture"], file.codes)
    attached = attach(model)
    torch.testing.assert_close(attached(images / 255), expected)
    after = detach(attached, model.codes)
    assert {layer for layer in after if layer.endswith("attention.q_proj")} and after.keys() == codes.keys()
    model_file.save(path, attached, model.architecture, after, **HEADER)
    torch.testing.assert_close(load(path)(images / 255), expected)
