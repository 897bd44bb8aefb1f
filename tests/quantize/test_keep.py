"""The key `keep`, and other layers that stay float: which they are, and what they count."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdq.errors import UserError
from kdq.evaluate.stage import evaluate
from kdq.models import archive
from kdq.models import file as model_file
from kdq.models import load as load_model
from kdq.models.codes import Codes
from kdq.quantize.bits.budget import bits_under_budget
from kdq.quantize.bits.sensitivity import measure
from kdq.quantize.bits.sensitivity_table import write
from kdq.quantize.execution.network import quantize
from kdq.quantize.execution.selection import named, select
from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import quantize_stage
from kdq.recipe.path import Cell
from tests.quantize.small import ORDER, Small, network, part, silent

IMAGES = part(40).images
CELL = Cell("digits", 0, "hard/gpfq")


def run(model, log=silent, method="gpfq", **keys):
    return quantize(model, IMAGES, quantizer_of(f"kdq.quantize.methods.{method}", keys, 0), log=log)


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("first", ["stem"]),
        ("first+last", ["stem", "fc"]),
        ("wide", ["wide"]),
        ("last+grouped+shortcut", ["grouped", "shortcut", "fc"]),
        ("fc+last", ["fc"]),
    ],
)
@pytest.mark.parametrize("method", ["gpfq", "rtn", "gptq", "qronos", "spfq", "sparse", "adaround", "brecq"])
def test_the_layers_that_keep_names_stay_as_they_are(method, keep, kept):
    model, before, lines = network(), network(), []
    layers = run(
        model, lines.append, method, keep=keep, **({"iterations": 5} if method in ("adaround", "brecq") else {})
    )
    assert [name for name in ORDER if name not in layers] == kept
    assert layers.kept.keys() == {*kept}
    for name in ORDER:
        same = model.get_submodule(name).weight.equal(before.get_submodule(name).weight)
        assert same == (name in kept)
    for name in kept:
        facts = {"weights": before.get_submodule(name).weight.numel(), "reason": "named by the key keep"}
        assert layers.kept[name] == facts and f"{name}: stays float, named by the key keep" in lines


@pytest.mark.parametrize("memory", [4.0, 1e-6])
def test_later_layers_see_float_ones_and_draw_the_same_patches(memory):
    """With the last layer kept, all others have the codes that they would have had."""
    plain, kept = (run(network(), keep=keep, memory=memory, patches=60) for keep in ("", "last"))
    assert kept.keys() == plain.keys() - {"fc"}
    assert all(layer.codes.equal(plain[name].codes) for name, layer in kept.items())


def test_a_module_stands_for_all_layers_in_it():
    layers = ["layer1.0.conv", "layer1.1.conv", "layer10.0.conv", "fc"]
    assert named("layer1", layers, layers) == layers[:2]
    assert named("layer1.1+last", layers, layers) == ["layer1.1.conv", "fc"]
    assert named("layer10.0.conv", layers, layers) == ["layer10.0.conv"]


@pytest.mark.parametrize(
    ("keep", "hint"),
    [("fd", "; did you mean 'fc'?"), ("wide.0", "; did you mean 'wide'?"), ("firts", "'first'"), ("9", "")],
)
def test_a_name_of_no_layer_is_refused_in_one_line(keep, hint):
    model = network()
    with pytest.raises(UserError, match=f"^keep: found '{keep}', expected first, last, or a layer .*") as caught:
        run(model, keep=keep)
    assert hint in str(caught.value) and "\n" not in str(caught.value)
    assert model.fc.weight.equal(network().fc.weight)


def test_to_keep_everything_is_refused_in_one_line():
    with pytest.raises(
        UserError, match="no layer is left for this stage .*key keep.*, expected at least one"
    ) as caught:
        run(network(), keep="+".join(ORDER))
    assert "\n" not in str(caught.value)


class TestSpelling:
    @pytest.mark.parametrize("text", ["+", "first+", "+last", "a b", "a++b", "layer/1", "*"])
    def test_what_is_no_list_of_names_is_refused(self, text):
        with pytest.raises(ValueError, match="names of layers joined by"):
            Quantizing(keep=text)

    def test_one_choice_has_one_spelling(self):
        assert Quantizing(keep="last+first+last").keep == "first+last"
        assert Quantizing().keep == ""

    def test_the_measurement_is_the_same(self):
        assert "keep" not in Quantizing.measurement_keys({"keep": "first", "images": 9})


class Uncalled(Small):
    """Has a layer that never runs, one that a function calls, and one that computes in its own way."""

    def __init__(self):
        super().__init__()
        self.spare, self.functional, self.scaled = nn.Linear(3, 4), nn.Linear(12, 12), Scaled(12, 12)

    def forward(self, x):
        x = self.bn(self.stem(x)).relu()
        y = self.grouped(self.wide(x).relu()) + self.shortcut(x)
        y = y.relu().mean((2, 3))
        y = F.linear(self.scaled(y), self.functional.weight, bias=self.functional.bias)
        return self.fc(y)


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def uncalled():
    torch.manual_seed(0)
    return Uncalled().eval()


@pytest.mark.parametrize("keys", [{}, {"memory": 1e-6}, {"bias": "correct"}, {"batchnorm": "reestimate"}], ids=str)
def test_layers_that_cannot_be_quantized_stay_float_and_a_function_call_is_one(keys):
    model, before, lines = uncalled(), uncalled(), []
    layers = run(model, lines.append, bits=8, **keys)
    assert list(layers) == [*ORDER[:-1], "functional", "fc"]
    reasons = {name: facts["reason"] for name, facts in layers.kept.items()}
    assert reasons == {"spare": "never called in a forward pass", "scaled": "Scaled computes in its own way"}
    assert {f"{name}: stays float, {reason}" for name, reason in reasons.items()} <= {*lines}
    assert model.functional.weight.equal(layers["functional"].decode())
    assert 0 < layers["functional"].facts["relative_error"] < 0.02
    batch, share = IMAGES / 255, 0.3 if "batchnorm" in keys else 0.05
    assert (model(batch) - before(batch)).norm() < share * before(batch).norm()


def test_a_function_call_equals_a_module_call():
    class Called(Uncalled):
        def forward(self, x):
            x = self.bn(self.stem(x)).relu()
            y = (self.grouped(self.wide(x).relu()) + self.shortcut(x)).relu().mean((2, 3))
            return self.fc(self.functional(self.scaled(y)))

    torch.manual_seed(0)
    by_module, by_function = run(Called().eval()), run(uncalled())
    assert list(by_module) == list(by_function)
    assert all(layer.codes.equal(by_module[name].codes) for name, layer in by_function.items())
    assert all(layer.facts == by_module[name].facts for name, layer in by_function.items())


def test_a_function_call_is_measured():
    rows = measure(uncalled(), part(), quantizer_of("kdq.quantize.methods.rtn", {}, 0), log=silent)
    assert list(dict.fromkeys(row.layer for row in rows)) == [*ORDER[:-1], "functional", "fc"]
    assert all(row.kl > 0 for row in rows if row.layer == "functional")


class Bias(Small):
    """Adds a bias that a small network makes of a constant, like the position bias of SwinV2."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 64))
        self.vector, self.table = nn.Linear(3, 1), torch.tensor([[[0.5, -1.0]]])

    def forward(self, x):
        shift = self.vector(torch.tensor([1.0, -2.0, 0.5]))
        return super().forward(x + self.mlp(self.table).view(8, 8) + shift)


@pytest.mark.parametrize("keys", [{}, {"memory": 1e-6}, {"bias": "correct"}, {"patches": 1}], ids=str)
@pytest.mark.parametrize("method", ["gpfq", "gptq", "qronos", "spfq", "sparse", "rtn"])
def test_layers_with_a_constant_input_are_quantized_first(method, keys):
    torch.manual_seed(0)
    model = Bias().eval()
    model.stem.bias = nn.Parameter(torch.zeros(6))
    model.stem.in_channels, before = 1, copy.deepcopy(model)
    layers = run(model, method=method, bits=8, **keys)
    assert set(layers) == {*ORDER, "vector", "mlp.0", "mlp.2"} and not layers.kept
    for name in ("vector", "mlp.0", "mlp.2"):
        assert layers[name].facts["relative_error"] < 0.05, name
        assert model.get_submodule(name).weight.equal(layers[name].decode())
    batch = IMAGES / 255
    assert (model(batch) - before(batch)).norm() < 0.25 * before(batch).norm()


def test_the_second_layer_of_a_constant_sees_the_first_one_quantized():
    """Its codes are those of GPFQ on what the quantized first layer gives, not the float one."""
    torch.manual_seed(0)
    model = Bias().eval()
    before, layers = copy.deepcopy(model), run(model, bits=3, scale=0.9)
    with torch.no_grad():
        x, xq = (of.mlp[1](of.mlp[0](of.table)).reshape(1, -1).double() for of in (before, model))
    from kdq.quantize.methods.gpfq import gpfq

    step = layers["mlp.2"].step
    expected = gpfq(before.mlp[2].weight.detach().double(), xq.mT @ x, xq.mT @ xq, step, -4, 3)
    assert layers["mlp.2"].codes.equal(expected)


@torch.no_grad()
def test_a_constant_layer_is_measured_and_comes_first_in_any_order(tmp_path, few):
    torch.manual_seed(0)
    rows = measure(Bias().eval(), part(), quantizer_of("kdq.quantize.methods.rtn", {}, 0), log=silent)
    names = list(dict.fromkeys(row.layer for row in rows))
    assert {"vector", "mlp.0", "mlp.2"} < {*names}
    torch.manual_seed(0)
    quantizer = quantizer_of("kdq.quantize.methods.rtn", {"order": "iterative"}, 0)
    assert set(quantize(Bias().eval(), IMAGES, quantizer, log=silent, order=names[::-1])) == {*names}


@pytest.fixture(scope="module")
def rows():
    return measure(network(), part(), quantizer_of("kdq.quantize.methods.rtn", {}, 0), log=silent)


class TestBudget:
    def test_kept_weights_take_32_bits_of_it(self, rows):
        weights = {row.layer: row.weights for row in rows}
        others, total = [row for row in rows if row.layer != "stem"], sum(weights.values())
        bits = bits_under_budget(others, 5.0, "kl", "2^b", weights["stem"])
        spent = 32 * weights["stem"] + sum(weights[name] * b for name, b in bits.items())
        assert 4.9 * total < spent <= 5 * total and "stem" not in bits

    def test_too_small_a_budget_is_one_line(self, rows):
        others = [row for row in rows if row.layer != "wide"]
        expected = (
            r"^budget: found 4.0 bits per weight, expected at least 17.*: 648 of 1,266 weights stay float, at 32 bits$"
        )
        with pytest.raises(UserError, match=expected):
            bits_under_budget(others, 4.0, "kl", "2^b", 648)

    @pytest.mark.parametrize(
        "keys", [{"budget": 6.0}, {"order": "iterative"}, {"budget": 7.0, "order": "iterative"}], ids=str
    )
    def test_a_stage_keeps_layers_under_a_budget_and_in_another_order(self, few, build, tmp_path, keys):
        model = build().eval()
        quantizer = quantizer_of("kdq.quantize.methods.rtn", {"images": 24, "keep": "first+last", **keys}, 0)
        path = tmp_path / CELL.path("sensitivity.csv")
        write(path, measure(copy.deepcopy(model), few.train, quantizer, log=silent), CELL)
        codes = quantize_stage(model, few, quantizer, seed=0, device="cpu", log=silent, sensitivity=path)
        assert codes.kept.keys() == {"conv1", "fc"} and "conv1" not in codes
        weights = sum(layer.codes.numel() for layer in codes.values())
        kept = sum(layer["weights"] for layer in codes.kept.values())
        spent = sum(layer.codes.numel() * layer.facts["bits"] for layer in codes.values()) + 32 * kept
        assert spent <= keys.get("budget", 32) * (weights + kept)


@torch.no_grad()
def test_kept_layers_count_32_bits_in_metrics_and_are_in_file_and_archive(few, build, tmp_path):
    model = build().eval()
    quantizer = quantizer_of("kdq.quantize.methods.rtn", {"images": 24, "keep": "first+last"}, 0)
    codes = quantize_stage(model, few, quantizer, seed=0, device="cpu", log=silent)
    path, packed = tmp_path / "model.safetensors", tmp_path / "packed"
    header = {"recipe": "hard/rtn", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
    model_file.save(path, model, model.architecture, codes, **header)
    archive.pack(path, packed)
    for file in (model_file.read(path), archive.read(packed)):
        assert file.codes.kept == codes.kept == file.header["kept"]
    metrics, _ = evaluate(model_file.read(path), path, few, None, torch.device("cpu"))
    quantized = sum(layer.codes.numel() for layer in codes.values())
    kept = model.conv1.weight.numel() + model.fc.weight.numel()
    assert metrics["nominal_bits"] == pytest.approx((4 * quantized + 32 * kept) / (quantized + kept))
    assert metrics["quantized_weights"] == quantized
    rows = {layer["name"]: layer for layer in metrics["layers"]}
    assert rows.keys() == codes.keys() | {"conv1", "fc"}
    assert rows["fc"] == {"name": "fc", "weights": model.fc.weight.numel(), "bits": 32, "levels": "float"}
    assert load_model(packed)(few.test.images[:3] / 255).equal(model(few.test.images[:3] / 255))


@pytest.mark.parametrize("kept", [["fc"], {"fc": 3}, {"fc": {"weights": "3", "reason": ""}}, {"fc": {"weights": 3}}])
def test_a_damaged_list_of_kept_layers_is_one_line(build, tmp_path, kept):
    model = build().eval()
    model_file.save(tmp_path / "model", model, model.architecture, Codes(), kept=kept)
    with pytest.raises(UserError, match="model: corrupted"):
        model_file.read(tmp_path / "model")


def test_a_model_without_kept_layers_has_no_such_header(build, tmp_path):
    model = build().eval()
    model_file.save(tmp_path / "model", model, model.architecture, Codes())
    header = model_file.read(tmp_path / "model").header
    assert "kept" not in header and "plain_layers" not in header["architecture"]


def test_samples_along_another_dimension_stay_float():
    class Sequence(Small):
        """Its linear layer gets (positions, samples, features)."""

        def __init__(self):
            super().__init__()
            self.mixer = nn.Linear(6, 6)

        def forward(self, x):
            y = self.stem(x).flatten(2).permute(2, 0, 1)
            x = self.bn(self.mixer(y).permute(1, 2, 0).unflatten(2, (8, 8))).relu()
            return self.fc((self.grouped(self.wide(x).relu()) + self.shortcut(x)).relu().mean((2, 3)))

    torch.manual_seed(0)
    selection = select(Sequence().eval(), IMAGES[:32])  # 64 positions: as many as two networks' samples
    assert selection.reasons == {
        "mixer": "inputs (64, 1, 6) of one image, (64, 2, 6) of two: samples not in dimension 0"
    }
