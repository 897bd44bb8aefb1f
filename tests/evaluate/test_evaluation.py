"""The evaluation of a model file: plain values, the predictions it keeps, and its comparison with its relatives."""

import json
import math

import pytest
import torch
from torch import nn

from kdq import models
from kdq.errors import UserError
from kdq.evaluate import predictions as predictions_file
from kdq.evaluate.metrics import cross_entropy, top_k_accuracy
from kdq.evaluate.stage import describe, evaluate, predict
from kdq.models import archive
from kdq.models import file as model_file
from kdq.models.codes import Codes, QuantizedWeight
from kdq.provenance.files import write_tensors

ARCHITECTURE = {"architecture": "resnet18", "classes": 10, "channels": 1, "stem": "cifar", "width": 0.0625}
ARCHITECTURE |= {"mean": [0.3], "std": [0.4]}
HEADER = {"recipe": "hard/rtn,bits=3", "dataset": "digits", "seed": 0, "keys": {"bits": 3}, "provenance": {"code": "x"}}
CPU = torch.device("cpu")


@pytest.fixture
def write(build, tmp_path):
    """Write a small network, at ``bits`` bits or float, and give its path."""

    def write(bits=None, seed=0, change=lambda network: None):
        network = build(seed=seed)
        change(network)
        codes = Codes()
        for name, module in network.named_modules():
            if bits and isinstance(module, nn.Conv2d | nn.Linear):
                low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
                values = torch.randint(low, high + 1, module.weight.shape).short()
                facts = {"bits": bits, "levels": "2^b", "relative_error": 0.5}
                codes[name] = QuantizedWeight(values, torch.full((1,), 0.02), low, high, bits, facts)
        path = tmp_path / f"model-{bits}-{seed}.safetensors"
        model_file.save(path, network, ARCHITECTURE, codes, **HEADER)
        return path

    return write


def measure(path, data, parent=None):
    return evaluate(model_file.read(path), path, data, parent, CPU)


def keep(predictions, path):
    write_tensors(path, predictions, {"format": predictions_file.FORMAT})
    return path


class TestMetrics:
    def test_are_those_of_the_networks_logits(self, write, few):
        path = write()
        metrics, predictions = measure(path, few)
        network = models.load(path)
        for part in ("validation", "test"):
            split = getattr(few, part)
            with torch.no_grad():
                logits = network(split.images.float() / 255)
            assert metrics[part]["images"] == len(split.labels)
            assert metrics[part]["top1"] == top_k_accuracy(logits, split.labels, 1)
            assert metrics[part]["top5"] >= metrics[part]["top1"]
            assert metrics[part]["cross_entropy"] == pytest.approx(cross_entropy(logits, split.labels), rel=1e-4)
            assert torch.equal(predictions[f"{part}_class"].long(), logits.argmax(1))
            mean = -predictions[f"{part}_log_likelihood"].double().mean().item()
            assert mean == pytest.approx(metrics[part]["cross_entropy"], rel=1e-5)

    def test_the_same_file_gives_the_same_values(self, write, few):
        path = write(bits=3)
        first, second = measure(path, few), measure(path, few)
        assert first[0] == second[0]
        assert all(torch.equal(value, second[1][name]) for name, value in first[1].items())

    def test_plain_values_with_how_the_model_was_made(self, write, few):
        metrics = measure(write(bits=3), few)[0]
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
        assert {key: metrics[key] for key in HEADER} == HEADER
        assert "\n" not in describe(metrics)

    def test_no_augmentation_and_no_remainder(self, build, digits):
        """All images, also those after the last whole batch of 500."""
        logits = predict(build(), digits.train.images, CPU)
        assert len(logits) == len(digits.train.images) > 500
        torch.testing.assert_close(predict(build(), digits.train.images[-3:], CPU), logits[-3:], rtol=1e-4, atol=1e-4)


class TestRelatives:
    def test_agreement_with_itself_is_whole_and_with_another_counted(self, write, few, tmp_path):
        root, other = (measure(write(seed=seed), few)[1] for seed in (0, 1))
        child, of_child = measure(write(seed=1), few, keep(root, tmp_path / "root"))
        grandchild, _ = measure(write(seed=1), few, keep(of_child, tmp_path / "child"))
        for part in ("validation", "test"):
            same = (root[f"{part}_class"] == other[f"{part}_class"]).double().mean().item()
            assert same < 1
            assert child[part]["agreement_parent"] == child[part]["agreement_root"] == same
            assert (grandchild[part]["agreement_parent"], grandchild[part]["agreement_root"]) == (1, same)

    def test_a_root_has_none(self, write, few):
        assert not any("agreement" in key for key in measure(write(), few)[0]["test"])

    def test_a_file_that_holds_no_predictions(self, write):
        with pytest.raises(UserError, match="format 'kdq-model/1', expected 'kdq-predictions/1'"):
            predictions_file.read(write())


class TestSizes:
    def test_of_a_float_model(self, write, few):
        path = write()
        metrics = measure(path, few)[0]
        assert metrics["file_bytes"] == path.stat().st_size
        assert (
            metrics["quantized_weights"] == 0
            and metrics["nominal_bits"] == 32.0
            and metrics["entropy_bytes"] is None
            and metrics["layers"] == []
        )
        assert metrics["parameters"] == sum(p.numel() for p in models.load(path).parameters())

    @pytest.mark.parametrize("bits", [2, 3, 8])
    def test_of_a_quantized_one(self, write, few, bits):
        path = write(bits)
        metrics = measure(path, few)[0]
        layers = [m for m in models.load(path).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert metrics["quantized_weights"] == sum(layer.weight.numel() for layer in layers)
        assert metrics["nominal_bits"] == bits
        archive.pack(path, path.with_name("archive"))
        assert metrics["entropy_bytes"] == path.with_name("archive").stat().st_size
        assert metrics["parameters"] == measure(write(), few)[0]["parameters"]
        assert len(metrics["layers"]) == len(layers)
        assert all(layer["relative_error"] == 0.5 and layer["bits"] == bits for layer in metrics["layers"])

    def test_nominal_bits_are_the_logarithm_of_the_levels(self, build, few, tmp_path):
        codes = Codes({"fc": QuantizedWeight(torch.zeros(10, 32).short(), torch.ones(1), -2, 2, 3, {})})
        model_file.save(tmp_path / "model", build(), ARCHITECTURE, codes, **HEADER)
        assert measure(tmp_path / "model", few)[0]["nominal_bits"] == pytest.approx(math.log2(5))

    def test_layers_are_in_the_order_of_the_network(self, write, few):
        path = write(bits=3)
        names = [n for n, m in models.load(path).named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert [layer["name"] for layer in measure(path, few)[0]["layers"]] == names


class TestBroken:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_logits_that_are_not_finite(self, write, few, value):
        path = write(change=lambda network: network.fc.bias.data.fill_(value))
        with pytest.raises(
            UserError, match="model-None-0.safetensors: its logits on the validation part are not finite"
        ):
            measure(path, few)
