"""Quantized activations: their points and ranges, the network that computes with them, and quantizers that see them."""

import copy

import pytest
import torch
from torch import nn

from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.activations import SECOND, fake_quantized, groups, quantized_activations, readers
from kdq.models.codes import Codes
from kdq.models.integer import to_integer
from kdq.quantize.activation_ranges import measured_points
from kdq.quantize.bits.sensitivity import measure
from kdq.quantize.execution import network as execution
from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from kdq.recipe.stages import find_stages, settle
from kdq.study.config import read_study
from tests.deploy.conftest import images, network_of  # noqa: F401, a fixture
from tests.models.classifiers import transformers_classifier
from tests.quantize import small

METHODS = ("gpfq", "gptq", "qronos", "adaround", "rtn")


def names_of(network) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def quantized(network, method="gpfq", **keys):
    network = copy.deepcopy(network)
    quantizer = quantizer_of(f"kdq.quantize.methods.{method}", {"bits": 4, **keys}, 0)
    return network, quantize(network, images(16), quantizer, log=lambda line: None)


class TestPoints:
    def test_of_a_residual_network(self, network_of):  # noqa: F811
        """Per block 4 tensors: its input, that between its convolutions, the branch, the shortcut if it computes."""
        network = network_of("resnet18")
        points = groups(network, readers(network, names_of(network)), images(1).float())
        assert points[0] == ("conv1",)
        assert points[1] == ("layer1.0.conv1", "layer1.0.add" + SECOND)
        assert ("layer2.0.downsample.0", "layer2.0.conv1") in points or (
            "layer2.0.conv1",
            "layer2.0.downsample.0",
        ) in points
        assert len(points) == 1 + 8 * 3 + 3 + 2  # images; blocks; shortcuts that compute; pooling and classifier

    def test_a_batchnorm_that_no_convolution_precedes_reads_a_point(self, network_of):  # noqa: F811
        network = network_of("wrn16-2")
        points = groups(network, readers(network, names_of(network)), images(1).float())
        assert any(reader.endswith("bn0") for readers_ in points for reader in readers_)


class TestRanges:
    @pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
    @pytest.mark.parametrize("bits", [4, 8])
    def test_activations_behind_a_relu_start_at_0(self, network_of, bits, method):  # noqa: F811
        network = network_of("resnet18")
        points = {point.name: point for point in measured_points(network, names_of(network), images(8), bits, method)}
        assert points["layer1.0.conv2"].zero_point == 0 and points["fc"].zero_point == 0
        assert 0 < points["conv1"].zero_point < 2**bits - 1

    def test_least_squares_beat_all_values_and_the_percentile(self, network_of):  # noqa: F811
        network, caught = network_of("resnet18"), {}
        layer = network.get_submodule("layer1.0.conv2")
        layer.register_forward_pre_hook(lambda module, inputs: caught.update(x=inputs[0]))
        errors = {}
        for method in ("minmax", "percentile", "mse"):
            points = measured_points(network, names_of(network), images(8), 4, method)
            point = next(point for point in points if "layer1.0.conv2" in point.readers)
            with torch.no_grad():
                network(images(8).float() / 255)
            x = caught["x"]
            errors[method] = float((fake_quantized(x, point.scale, point.zero_point, 4) - x).square().mean())
        assert errors["mse"] < 1.01 * min(errors.values()) and errors["mse"] < 0.9 * errors["minmax"]

    def test_minmax_reaches_the_largest_value(self, network_of):  # noqa: F811
        network = network_of("resnet18")
        point = measured_points(network, names_of(network), images(8), 8, "minmax")[0]
        x = (images(8).float() / 255 - 0.4) / 0.3
        assert point.readers == ("conv1",)
        assert torch.isclose(point.scale * 255, x.max() - x.min())
        assert abs(float(point.scale) * point.zero_point + float(x.min())) <= float(point.scale) / 2 + 1e-6

    def test_infinite_activations_are_refused(self, network_of):  # noqa: F811
        network = network_of("resnet18")
        network.layer1[0].bn1.bias.data.fill_(torch.inf)
        with pytest.raises(UserError, match=r"layer1\.0\.conv2: infinite or NaN inputs"):
            measured_points(network, names_of(network), images(4), 8, "minmax")


class TestNetwork:
    @pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "wrn16-2", "mobilenetv2", "vgg16_bn"])
    def test_with_16_bits_nothing_changes_but_rounding(self, network_of, architecture):  # noqa: F811
        network = network_of(architecture)
        points = measured_points(network, names_of(network), images(8), 16, "minmax")
        x = images(8).float() / 255
        with torch.no_grad():
            expected = network(x)
            with quantized_activations(network, points):
                actual = network(x)
        assert not torch.equal(actual, expected)
        assert (actual - expected).norm() < 2e-3 * expected.norm()

    @pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "wrn16-2", "mobilenetv2", "vgg16_bn"])
    def test_folded_is_unfolded(self, network_of, architecture):  # noqa: F811
        """What differs is the rounding of biases to int32, and of sums: a few activations fall into the next code."""
        network, codes = quantized(network_of(architecture), "rtn", activations=8)
        x = images(16).float() / 255
        with torch.no_grad():
            with quantized_activations(network, codes.points):
                expected = network(x)
            actual = to_integer(copy.deepcopy(network), codes)(x)
        assert (actual - expected).norm() < 0.05 * expected.norm()

    def test_it_can_be_copied_and_moved(self, network_of):  # noqa: F811
        network, codes = quantized(network_of("resnet18"), "rtn", activations=6)
        integer, x = to_integer(network, codes), images(4).float() / 255
        copied = copy.deepcopy(integer)
        with torch.no_grad():
            expected = integer(x)
            integer.activation_quantizers[0].scale *= 5
            assert torch.equal(copied(x), expected) and not torch.equal(integer(x), expected)
        assert integer.double().activation_quantizers[0].scale.dtype == torch.float64


class TestQuantizers:
    @pytest.mark.parametrize("method", METHODS)
    def test_see_what_a_layer_will_get(self, network_of, method):  # noqa: F811
        """On the calibration images the error is less than that of codes for float activations, coarse as they are."""
        network, keys = network_of("resnet18", 0.25), {"activations": 4, "bits": 3}
        x = images(16).float() / 255
        errors = {}
        for name, own in (("seen", keys), ("unseen", keys | {"activations": 0})):
            model, codes = quantized(network, method, **own)
            codes.points = tuple(measured_points(network, codes, images(16), 4, "mse"))
            with torch.no_grad(), quantized_activations(model, codes.points):
                errors[name] = float((model(x) - network(x)).norm() / network(x).norm())
        assert errors["seen"] < errors["unseen"] if method != "rtn" else errors["seen"] > 0

    def test_order_and_memory_change_no_code(self, network_of):  # noqa: F811
        network = network_of("resnet18")
        _, whole = quantized(network, activations=8)
        _, apart = quantized(network, activations=8, memory=0.0001)
        assert all(torch.equal(whole[name].codes, apart[name].codes) for name in whole)
        assert [point.readers for point in whole.points] == [point.readers for point in apart.points]

    def test_last_are_the_codes_for_floats_and_the_same_ranges(self, network_of):  # noqa: F811
        network = network_of("resnet18")
        _, floats = quantized(network, bits=3)
        _, first = quantized(network, activations=4, bits=3)
        _, last = quantized(network, activation_order="last", activations=4, bits=3)
        assert all(torch.equal(last[name].codes, floats[name].codes) for name in floats)
        assert not all(torch.equal(last[name].codes, first[name].codes) for name in first)
        assert [(p.readers, p.scale) for p in last.points] == [(p.readers, p.scale) for p in first.points]

    @pytest.mark.parametrize(("key", "value"), [("activation_order", "last"), ("activation_range", "mse")])
    def test_keys_that_float_activations_do_not_read_are_refused(self, home, key, value):
        with pytest.raises(UserError, match=f"{key}: found '{value}': activations are float"):
            settle(find_stages(home / "kdq")["gpfq"].keys, {}, {key: value}, "recipe")

    def test_kept_layers_read_floats(self, network_of):  # noqa: F811
        _, codes = quantized(network_of("resnet18"), activations=8, keep="first+last")
        read = {reader for point in codes.points for reader in point.readers}
        assert not read & {"conv1", "fc"} and "layer1.0.conv1" in read and "average" in read

    def test_without_the_key_there_are_none(self, network_of):  # noqa: F811
        assert quantized(network_of("resnet18"))[1].points == ()

    @pytest.mark.parametrize("method", ["gptq", "qronos", "spfq", "sparse"])
    def test_memory_changes_no_code_of_any_method(self, network_of, method):  # noqa: F811
        keys = {"activations": 5, "scale": "mse", "patches": 256}
        network = network_of("resnet18")
        _, whole = quantized(network, method, **keys)
        _, apart = quantized(network, method, memory=0.0001, **keys)
        assert all(torch.equal(whole[name].codes, apart[name].codes) for name in whole)


def outputs(network, points, names, batch):
    """Return the outputs of modules by name, channels first, of a network with quantized activations."""
    caught = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: caught.__setitem__(name, output.clone().movedim(1, 0).flatten(1))
        )
        for name in names
    ]
    with torch.no_grad(), quantized_activations(network, points):
        network(batch)
    for hook in hooks:
        hook.remove()
    return caught


class TestAfterwards:
    @pytest.mark.parametrize("memory", [4, 0.0001])
    def test_corrected_means_are_those_of_the_network_with_quantized_activations(self, network_of, memory):  # noqa: F811
        network, batch = network_of("resnet18"), images(16).float() / 255
        norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
        expected = outputs(network, (), [*norms, "fc"], batch)
        largest = {}
        for bias in ("keep", "correct"):
            model, codes = quantized(network, "rtn", activations=4, bias=bias, memory=memory)
            actual = outputs(model, codes.points, [*norms, "fc"], batch)
            shifts = [(actual[name] - expected[name]).mean(1).abs().max() for name in expected]
            largest[bias] = float(max(shifts))
        assert largest["correct"] < 0.01 < 0.05 < largest["keep"]

    def test_statistics_measured_again_are_those_of_quantized_activations(self, network_of):  # noqa: F811
        network, batch = network_of("resnet18"), images(16).float() / 255
        layer, norm = "layer2.0.conv2", "layer2.0.bn2"
        model, codes = quantized(network, activations=4, batchnorm="reestimate")
        reached, floats = (outputs(model, points, [layer], batch)[layer] for points in (codes.points, ()))
        statistics = model.get_submodule(norm)
        assert torch.allclose(statistics.running_var, reached.var(1), rtol=0.02)
        assert torch.allclose(statistics.running_mean, reached.mean(1), atol=0.02 * float(reached.std()))
        assert not torch.allclose(statistics.running_var, floats.var(1), rtol=0.02)

    def test_any_order_sees_them(self):
        """Last to first, every layer gets float weights' activations, quantized: as when it is measured alone."""
        keys = {"bits": 3, "scale": "mse", "activations": 4}
        quantizer, quiet = quantizer_of("kdq.quantize.methods.gpfq", keys, 0), {"log": lambda line: None}
        codes = quantize(small.network(), small.part().images, quantizer, order=small.ORDER[::-1], **quiet)
        alone = {row.layer: row for row in measure(small.network(), small.part(), quantizer, **quiet) if row.bits == 3}
        for name, row in alone.items():
            assert row.relative_error == pytest.approx(codes[name].facts["relative_error"], rel=1e-4)
        floats = quantizer_of("kdq.quantize.methods.gpfq", keys | {"activations": 0}, 0)
        unseen = quantize(small.network(), small.part().images, floats, order=small.ORDER[::-1], **quiet)
        errors = [[layers[name].facts["relative_error"] for name in small.ORDER] for layers in (codes, unseen)]
        assert all(seen != error for seen, error in zip(*errors, strict=True))

    def test_measurements_are_of_one_setting(self, home):
        """Budgets of one setting share a table of costs; another setting has its own."""
        budgets = ("gpfq,activations=8,budget=3", "gpfq,activations=8,budget=2.5", "gpfq,activations=4,budget=3")
        recipes = [f"hard/{stage}" for stage in (*budgets, "gpfq,budget=3")]
        study = read_study({"datasets": ["digits"], "seeds": [0], "recipes": recipes}, home / "kdq")
        measured = [study.grammar.parse(recipe).measured for recipe in recipes]
        assert measured == ["hard/gpfq,activations=8"] * 2 + ["hard/gpfq,activations=4", "hard/gpfq"]


class Twice(nn.Module):
    """A convolution that is called twice, and one behind it."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 3)

    def forward(self, x):
        return self.last(self.conv(self.conv(x).relu()).relu()).mean((2, 3))


def test_later_calls_are_quantized_too(monkeypatch):
    torch.manual_seed(0)
    network, seen = Twice().eval(), {}
    make = execution.Calibration
    monkeypatch.setattr(
        execution, "Calibration", lambda *given: (seen.setdefault(id(given[0]), given), make(*given))[1]
    )
    conv = copy.deepcopy(network.conv)
    _, codes = quantized(network, activations=4)
    (_, analog, reached, *_), _ = seen.values()
    point = next(point for point in codes.points if "conv" in point.readers)
    x = images(16).float() / 255
    quantizer = lambda x: fake_quantized(x, point.scale, point.zero_point, 4)  # noqa: E731
    with torch.no_grad():
        expected = conv(quantizer(x)).relu()
        assert torch.allclose(torch.cat(list(analog[-1:])), conv(x).relu(), atol=1e-6)
        assert (reached[-1] - quantizer(expected)).abs().max() <= float(point.scale) * 1.01
        assert torch.equal(quantizer(reached[-1]), reached[-1])


@pytest.mark.parametrize("name", ["vit", "siglip", "swinv2", "resnet", "mobilevit"])
def test_a_classifier_of_transformers_and_its_file(tmp_path, name):
    """BatchNorm stays float there; the projections of an attention read one point."""
    network, architecture, pictures = transformers_classifier(name)
    batch = pictures.float() / 255
    with torch.no_grad():
        analog = network(batch)
        quantizer = quantizer_of("kdq.quantize.methods.gpfq", {"scale": "mse", "bits": 8, "activations": 8}, 0)
        codes = quantize(network, pictures, quantizer, log=lambda line: None)
        with quantized_activations(network, codes.points):
            expected = network(batch)
        model_file.save(tmp_path / "model.safetensors", network, architecture, codes, keys={})
        actual = model_file.load(tmp_path / "model.safetensors")(batch)
    assert (actual - expected).norm() < 0.01 * expected.norm() and (expected - analog).norm() < 0.03 * analog.norm()
    together = [point.readers for point in codes.points if len(point.readers) == 3]
    assert bool(together) == (name != "resnet")
    assert all(len({reader.rpartition(".")[0] for reader in readers}) == 1 for readers in together)


def test_codes_hold_no_points_by_default():
    assert Codes().points == ()
