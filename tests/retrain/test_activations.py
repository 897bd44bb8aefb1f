"""Learned scales of activations: gradients, exact ends, what each method keeps or changes, and what the file holds."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdq import models
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.activations import quantized_activations
from kdq.models.codes import Codes, Point
from kdq.models.model import Model
from kdq.recipe.stages import find_stages, settle
from kdq.retrain.lsq import LEAST, LearnedScale, LearnedStepsTask, attach, detach
from kdq.retrain.methods import qat
from kdq.retrain.stage import load, with_activations
from kdq.train.stage import save
from tests.distill.samples import killed_at
from tests.retrain.conftest import CPU, HEADER

SILENT = {"log": lambda line: None}


@pytest.fixture(scope="module")
def seen(files, quantized, tmp_path_factory):
    """The file of the trained network at 4 bits, with activations of 8 bits."""
    model = quantized(load(files["float"], CPU).network, bits=4, activations=8)
    path = tmp_path_factory.mktemp("seen") / "model.safetensors"
    model_file.save(path, model.network, model.architecture, model.codes, **HEADER)
    return path


def point(bits: int = 8, zero_point: int = 0, scale: float = 0.1) -> Point:
    return Point(("fc",), bits, torch.tensor(scale), zero_point)


def explicit(x, scale, low, high, gain):
    """The paper's formula in torch's own operations, with the two tricks of straight-through code."""
    scale = scale * gain + (scale - scale * gain).detach()
    clipped = (x / scale).clamp(low, high)
    return (clipped + (clipped.round() - clipped).detach()) * scale


class TestGradients:
    @given(st.integers(0, 10**6), st.integers(4, 8), st.floats(0, 1), st.integers(1, 5))
    def test_are_those_of_the_explicit_formula(self, seed, bits, share, batch):
        zero_point = round(share * (2**bits - 1))
        quantizer = LearnedScale(point(bits, zero_point, 2 / 2**bits))
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(batch, 3, 4, 4, generator=generator, requires_grad=True)
        incoming = torch.randn(x.shape, generator=generator)
        low, high, gain = -zero_point, 2**bits - 1 - zero_point, (48 * (2**bits - 1)) ** -0.5
        outputs = [quantizer(x), explicit(x, quantizer.scale, low, high, gain)]
        torch.testing.assert_close(*outputs)
        gradients = [torch.autograd.grad(output, (x, quantizer.scale), incoming) for output in outputs]
        for actual, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)

    def test_of_a_scale_are_the_error_within_and_the_last_code_beyond(self):
        """Worked by hand: codes 1, 2 and -1 around zero point 1 of ratios 0.7, 3 and -5; 3 numbers, last code 3."""
        quantizer = LearnedScale(point(bits=2, zero_point=1, scale=1.0))
        quantizer(torch.tensor([[0.7, 3.0, -5.0]])).sum().backward()
        assert quantizer.scale.grad.item() == pytest.approx((0.3 + 2 - 1) / 9**0.5)

    def test_beyond_the_range_they_are_finite_differences(self):
        quantizer, x = LearnedScale(point(bits=4, zero_point=5)), torch.tensor([[4.0, -3.0, 2.0, -9.0]])
        quantizer(x).square().sum().backward()
        below, above = (LearnedScale(point(4, 5, scale))(x).square().sum().item() for scale in (0.099, 0.101))
        assert quantizer.scale.grad.item() == pytest.approx((above - below) / 0.002 * (4 * 15) ** -0.5, rel=1e-3)

    def test_do_not_depend_on_how_many_samples_share_a_mean(self):
        gradients = []
        for count in (1, 7):
            quantizer = LearnedScale(point())
            quantizer(torch.linspace(-1, 40, 50).expand(count, 50)).sum(1).mean().backward()
            gradients.append(quantizer.scale.grad)
        torch.testing.assert_close(*gradients)

    def test_codes_are_those_of_float32_in_bfloat16(self):
        """Its 8 bits hold every code up to 255, but x / scale would be rounded before it is rounded to a code."""
        quantizer = LearnedScale(point(bits=8, zero_point=3, scale=0.0137))
        x = torch.linspace(-0.1, 3.6, 4001).bfloat16()[None]
        with torch.no_grad():
            assert quantizer(x).dtype == torch.bfloat16
            assert torch.equal(quantizer(x), quantizer(x.float()).bfloat16())
            codes = (quantizer(x).float() / quantizer.scale).round()
            assert torch.equal(codes, (x.float() / quantizer.scale).clamp(-3, 252).round())

    @pytest.mark.parametrize("driven", [0.0, -0.3, -1e6])
    def test_a_scale_stays_positive_and_can_come_back(self, driven):
        quantizer = LearnedScale(point(scale=0.2))
        quantizer.scale.data.fill_(driven)
        output = quantizer(torch.full((1, 8), 5.0))
        assert quantizer.positive().item() == pytest.approx(LEAST * 0.2, rel=1e-6) and (output > 0).all()
        (5 - output).square().sum().backward()
        assert quantizer.scale.grad < 0  # a step against it makes the scale larger


class TestEnds:
    def test_at_the_start_it_is_the_parent_to_the_last_bit(self, seen, few):
        parent, images = load(seen, CPU), few.test.images.float() / 255
        before = copy.deepcopy(parent)
        with torch.no_grad(), quantized_activations(before.network, parent.codes.points):
            expected = before.network(images)
        network = attach(parent)
        assert torch.equal(network(images), expected)
        codes = detach(network, parent.codes)
        assert codes.points == parent.codes.points  # the very same scales
        torch.testing.assert_close(network(images), before.network(images), rtol=1e-4, atol=1e-4)

    def test_the_file_computes_what_was_evaluated(self, seen, few, tmp_path):
        """After steps so large that scales move, some below 0."""
        parent, images = load(seen, CPU), few.test.images.float() / 255
        network = attach(parent)
        for _ in range(3):
            network.zero_grad()
            network.train()(images).square().mean().backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter -= 0.02 * parameter.grad
        quantizers = list(network.activation_quantizers)
        quantizers[3].scale.data.fill_(-1.0)
        averaged = copy.deepcopy(network)
        task = LearnedStepsTask(network)
        for evaluated in (network, averaged):
            task.before_validation({"network": evaluated})
        expected = network.eval()(images)
        assert torch.equal(averaged.eval()(images), expected)
        codes = detach(network, parent.codes)
        scales = [point.scale for point in codes.points]
        assert all(scale > 0 for scale in scales) and scales[3] == quantizers[3].positive()
        assert sum(not torch.equal(a, p.scale) for a, p in zip(scales, parent.codes.points, strict=True)) > 10
        with quantized_activations(network, codes.points):
            assert torch.equal(network(images), expected)
        path = tmp_path / "model.safetensors"
        model_file.save(path, network, parent.architecture, codes, **HEADER)
        with torch.no_grad():
            computed = models.load(path)(images)
        assert (computed - expected).abs().amax(1).median() < 1e-5 * expected.abs().max()


def bits_of(codes: Codes) -> set[int]:
    return {point.bits for point in codes.points}


@torch.no_grad()
def accuracy_with_points(network, points, part) -> float:
    with quantized_activations(network, points):
        return (network(part.images.float() / 255).argmax(1) == part.labels).double().mean().item()


class TestMethods:
    @pytest.mark.parametrize(
        ("name", "parent", "activations", "expected"),
        [
            ("qat", "rtn", "parent", set()),
            ("qat", "rtn", 8, {8}),
            ("qat", "rtn", 0, set()),
            ("qat", "seen", "parent", {8}),
            ("qat", "seen", 4, {4}),
            ("qat", "seen", 0, set()),
            ("qkd", "rtn", 4, {4}),
            ("qkd", "seen", "parent", {8}),
            ("dcq", "rtn", 4, {4}),
            ("dcq", "seen", "parent", {8}),
        ],
    )
    def test_learn_scales_of_the_bits_that_are_asked_for(
        self, files, seen, run, few, tmp_path, monkeypatch, name, parent, activations, expected
    ):
        monkeypatch.setitem(files, "rtn", {"rtn": files["rtn"], "seen": seen}[parent])
        trained = run(name, epochs=2, learning_rate=0.02, activations=activations, **SILENT)
        assert bits_of(trained.codes) == expected
        before = load(files["rtn"], CPU).codes.points
        if parent == "seen" and activations == "parent":
            assert [p.readers for p in trained.codes.points] == [p.readers for p in before]
            assert any(a.scale != b.scale for a, b in zip(trained.codes.points, before, strict=True))
        path = tmp_path / "model.safetensors"
        save(path, tmp_path / "history.csv", trained, **HEADER)
        saved, best = load(path, CPU), max(row["validation_accuracy"] for row in trained.history)
        assert accuracy_with_points(saved.network, saved.codes.points, few.validation) == pytest.approx(best, abs=1e-6)
        assert accuracy_with_points(models.load(path), (), few.validation) == pytest.approx(best, abs=1e-6)

    def test_kept_layers_read_floats(self, files, quantized, few):
        model = quantized(load(files["float"], CPU).network, bits=4, keep="first+last")
        points = with_activations(model, qat.Parameters(activations=8), few, 0).codes.points
        read = {reader for point in points for reader in point.readers}
        assert not read & {"conv1", "fc"} and "layer1.0.conv1" in read

    def test_start_from_the_float_ancestors_weights(self, files, seen, run, monkeypatch):
        monkeypatch.setitem(files, "rtn", seen)
        assert bits_of(run("qat", start="float", teacher="float", epochs=1, **SILENT).codes) == {8}

    def test_ranges_are_drawn_by_the_seed(self, files, few):
        few = replace(few, train=replace(few.train, images=few.train.images.roll(7, 0)))
        few = replace(few, train=type(few.train)(few.train.images.repeat(3, 1, 1, 1), few.train.labels.repeat(3)))
        model, keys = load(files["rtn"], CPU), qat.Parameters(activations=8, activation_range="minmax")
        scales = [
            torch.stack([point.scale for point in with_activations(model, keys, few, seed).codes.points])
            for seed in (0, 0, 1)
        ]
        assert torch.equal(scales[0], scales[1]) and not torch.equal(scales[0], scales[2])

    def test_a_range_without_new_bits_is_refused(self, home):
        keys = find_stages(home / "kdq")["qat"].keys
        with pytest.raises(UserError, match="activation_range: found 'minmax': no activations get new bits"):
            settle(keys, {}, {"activation_range": "minmax"}, "recipe")
        assert settle(keys, {}, {"activations": 8}, "recipe")["activation_range"] == "mse"
        assert "activation_range" not in settle(keys, {}, {}, "recipe")

    def test_resumed_runs_end_with_the_same_bytes(self, files, seen, run, tmp_path, monkeypatch):
        monkeypatch.setitem(files, "rtn", seen)
        keys = {"epochs": 3, "averaging": 0.8, "activations": 4, **SILENT}
        with killed_at(12):
            run("qat", checkpoint="disturbed", **keys)
        written = []
        for checkpoint in ("disturbed", "straight"):
            path = tmp_path / f"{checkpoint}.safetensors"
            save(path, tmp_path / "history.csv", run("qat", checkpoint=checkpoint, **keys), **HEADER)
            written.append(path.read_bytes())
        assert written[0] == written[1]

    def test_bfloat16_trains_them_too(self, files, seen, run, monkeypatch):
        monkeypatch.setitem(files, "rtn", seen)
        trained = run("qat", epochs=2, learning_rate=0.02, precision="bfloat16", **SILENT)
        scales = torch.stack([point.scale for point in trained.codes.points])
        assert scales.dtype == torch.float32 and scales.isfinite().all() and (scales > 0).all()


class TestRandomHead:
    def test_activations_before_it_stay_quantized(self, files, seen, run, few, tmp_path, monkeypatch):
        monkeypatch.setitem(files, "rtn", seen)
        before = load(seen, CPU).codes.points
        small = {"neurons": 60, "last_neurons": 30, "zeros": 0.5}
        trained = run("ntklc", epochs=2, learning_rate=1.0, **small, **SILENT)
        assert trained.codes.points == tuple(point for point in before if point.readers != ("fc",))
        assert len(trained.codes.points) == len(before) - 1
        path = tmp_path / "model.safetensors"
        save(path, tmp_path / "history.csv", trained, **HEADER)
        images, saved = few.validation.images.float() / 255, load(path, CPU)
        right = accuracy_with_points(saved.network, saved.codes.points, few.validation)
        assert right == pytest.approx(max(row["validation_accuracy"] for row in trained.history), abs=1e-6)
        with torch.no_grad():
            actual = models.load(path)(images, taps=("embedding",))[1]["embedding"]
            floats = saved.network(images, taps=("embedding",))[1]["embedding"]
            with quantized_activations(saved.network, saved.codes.points):
                expected = saved.network(images, taps=("embedding",))[1]["embedding"]
        assert (actual - expected).norm() < 0.05 * expected.norm() and not torch.equal(floats, expected)

    def test_the_parent_itself_stays_float_if_it_was(self, files, run):
        assert run("ntklc", epochs=1, neurons=60, last_neurons=30, **SILENT).codes.points == ()


def test_a_models_points_are_dropped_only_if_asked(files, seen, few):
    model = load(seen, CPU)
    assert with_activations(model, qat.Parameters(), few, 0) is model
    assert with_activations(model, qat.Parameters(activations=8), few, 0) is model
    floats = with_activations(model, qat.Parameters(activations=0), few, 0)
    assert isinstance(floats, Model) and floats.codes.points == () and floats.codes.keys() == model.codes.keys()
