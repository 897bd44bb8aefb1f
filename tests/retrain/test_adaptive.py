"""Adaptive bits: the choice follows the present weights, stays in the room of the parent, and survives a kill."""

import copy
import itertools
from unittest import mock

import pytest
import torch
from torch import nn

from kdq.data.prepared import Split
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes, QuantizedWeight
from kdq.models.model import Model
from kdq.recipe.stages import check, find_stages
from kdq.retrain import allocation
from kdq.retrain.lsq import attach, detach
from kdq.retrain.methods import adaptive
from kdq.retrain.stage import load
from kdq.train.stage import save
from tests.distill.samples import killed_at
from tests.retrain.conftest import CPU, HEADER

SILENT = {"log": lambda line: None}
BITS = range(2, 9)
SHARES = (0.2, 0.24, 0.29, 0.35, 0.41, 0.48, 0.55, 0.62, 0.69, 0.76, 0.83, 0.89, 0.95, 1.0, 1.06)


class Toy(nn.Module):
    """Three layers of different sizes; images (B, 1, 2, 3) to logits (B, 4)."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 4)

    def forward(self, x):
        return self.third(self.second(self.first(x.flatten(1)).relu()).relu())


def toy(bits=4, seed=0, levels="2^b") -> Model:
    """Return the network rounded to ``bits`` with arbitrary steps, one per row."""
    network, codes = Toy(seed), {}
    for name, module in network.named_children():
        step = module.weight.detach().abs().amax(1) / 2 ** (bits - 1)
        high = 2 ** (bits - 1) - 1
        values = (module.weight.detach() / step[:, None]).round().clamp(-high - (levels == "2^b"), high)
        low = -high - (levels == "2^b")
        codes[name] = QuantizedWeight(values.short(), step, low, high, bits, {"bits": bits, "levels": levels})
        module.weight.data = codes[name].decode()
    return Model(network.eval(), {}, Codes(codes))


def images(count=40, seed=5) -> Split:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 2, 3), generator=generator, dtype=torch.uint8)
    return Split(pixels, torch.randint(0, 4, (count,), generator=generator))


def rounded(weight, bits):
    """Per row, the best of the steps with the largest level at one of SHARES of the largest weight, by plain loops."""
    low, high, rows = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, []
    for row in weight.double():
        options = []
        for share in SHARES:
            step = float((share * row.abs().max() / high).float())
            values = torch.tensor([min(max(int((w / step + 0.5).floor()), low), high) * step for w in row])
            options.append((float((row - values).square().sum()), values))
        rows.append(min(options, key=lambda option: option[0])[1])
    return torch.stack(rows).float()


def straight(weights: dict, network: nn.Module, part: Split, parent_bits: int) -> tuple[dict, dict]:
    """Return the costs by layer and the best bits, by trying all combinations; ``network`` is changed."""
    pixels = part.images.float() / 255

    def predictions():
        with torch.no_grad():
            return network(pixels).double().log_softmax(1)

    for name, weight in weights.items():
        network.get_submodule(name).weight.data = weight.clone()
    reference, table = predictions(), {}
    for name, weight in weights.items():
        module, row = network.get_submodule(name), []
        for bits in BITS:
            module.weight.data = rounded(weight, bits)
            row.append(float((reference.exp() * (reference - predictions())).sum(1).mean()))
        module.weight.data = weight.clone()
        table[name] = row
    room = parent_bits * sum(weight.numel() for weight in weights.values())
    options = []
    for bits in itertools.product(BITS, repeat=len(weights)):
        size = sum(b * weight.numel() for b, weight in zip(bits, weights.values(), strict=True))
        if size <= room:  # more bits never cost more: the costs of few images are noisy
            cost = sum(max(table[name][b - 2 :]) for name, b in zip(table, bits, strict=True))
            options.append((cost, size, bits))
    return table, dict(zip(weights, min(options)[2], strict=True))


def trained(model: Model, seed=3) -> nn.Module:
    """Return the model's network with learned steps after float weights have moved far."""
    network = attach(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name in model.codes:
            network.get_submodule(name).parametrizations.weight.original.add_(torch.randn(()) * 0.1).mul_(1.3)
            weight = network.get_submodule(name).parametrizations.weight.original
            weight.add_(0.2 * torch.randn(weight.shape))
    return network.eval()


def bits_of(network: nn.Module, layers) -> dict[str, int]:
    steps = {name: allocation.learned_step(network, name) for name in layers}
    return {name: (step.high - step.low).bit_length() for name, step in steps.items()}


class TestChoice:
    @pytest.mark.parametrize("bits", [3, 4, 6])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_is_that_of_a_straight_implementation(self, bits, seed):
        model, part = toy(bits, seed), images()
        network = trained(model, seed)
        weights = {
            name: network.get_submodule(name).parametrizations.weight.original.detach().clone() for name in model.codes
        }
        biases = Toy()
        biases.load_state_dict(
            {name: value for name, value in network.state_dict().items() if "bias" in name}, strict=False
        )
        table, expected = straight(weights, biases, part, bits)
        measured = allocation.costs(allocation.floating(network, part), model.codes, part, "kl")
        for row, name in zip(measured, table, strict=True):
            assert row == pytest.approx(table[name], rel=1e-4, abs=1e-9)
        assert allocation.reallocate(network, model.codes, part, "kl") == expected == bits_of(network, model.codes)
        for name, weight in weights.items():  # the network goes on with the nearest levels wherever bits changed
            if expected[name] != bits:
                torch.testing.assert_close(network.get_submodule(name).weight, rounded(weight, expected[name]))
            assert torch.equal(network.get_submodule(name).parametrizations.weight.original, weight)

    def test_changes_when_sensitivities_change(self):
        """Weights that are levels of few bits need no more: the room goes to the other layers."""
        part, chosen = images(), []
        for coarse in ("first", "second"):
            model = toy(4)
            network = trained(model)
            with torch.no_grad():
                weight = network.get_submodule(coarse).parametrizations.weight.original
                weight.copy_(weight.sign() * 0.3)  # -0.3 and 0.3 are levels of any alphabet: 0.3 = high * step
            chosen.append(allocation.reallocate(network, model.codes, part, "kl"))
        assert chosen[0]["first"] == chosen[1]["second"] == 2
        assert min(chosen[0]["second"], chosen[1]["first"]) >= 4 and min(bits["third"] for bits in chosen) > 4

    def test_layers_whose_bits_stay_keep_their_steps(self):
        model, part = toy(4), images()
        network = trained(model)
        chosen = allocation.reallocate(network, model.codes, part, "kl")
        steps = {name: allocation.learned_step(network, name).step.clone() for name in model.codes}
        with torch.no_grad():
            for name in model.codes:
                allocation.learned_step(network, name).step.mul_(1.01)
        assert allocation.reallocate(network, model.codes, part, "kl") == chosen
        for name in model.codes:
            assert torch.equal(allocation.learned_step(network, name).step, steps[name] * 1.01)

    def test_the_room_is_that_of_the_first_codes_however_often_it_is_chosen(self):
        model, part = toy(4), images()
        room, network = sum(4 * codes.codes.numel() for codes in model.codes.values()), trained(model)
        sizes = []
        for seed in range(6):
            with torch.no_grad():
                for name in model.codes:
                    weight = network.get_submodule(name).parametrizations.weight.original
                    weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
            chosen = allocation.reallocate(network, model.codes, part, "kl")
            sizes.append(sum(bits * model.codes[name].codes.numel() for name, bits in chosen.items()))
        assert max(sizes) <= room and min(sizes) > room - 48  # no layer could get another bit

    def test_the_copy_that_is_measured_is_another_network(self):
        model, part = toy(3), images()
        network = trained(model)
        before, expected = copy.deepcopy(network.state_dict()), network(part.images / 255)
        allocation.costs(allocation.floating(network, part), model.codes, part, "loss")
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert torch.equal(network(part.images / 255), expected)

    def test_the_codes_at_the_end_have_the_present_alphabets(self):
        model, part = toy(4), images()
        network = trained(model)
        chosen = allocation.reallocate(network, model.codes, part, "kl")
        expected = network(part.images / 255)
        codes = detach(network, allocation.in_alphabets(network, model.codes))
        assert {name: layer.facts for name, layer in codes.items()} == {
            name: {"bits": bits, "levels": "2^b"} for name, bits in chosen.items()
        }
        for name, bits in chosen.items():
            assert (codes[name].low, codes[name].high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            assert codes[name].storage_bits == bits
            network.get_submodule(name).weight.data = codes[name].decode()
        torch.testing.assert_close(network(part.images / 255), expected)


KEYS = {"epochs": 5, "every": 1, "adapting": 0.8, "images": 32, "learning_rate": 0.02}


@pytest.fixture
def four(files, quantized, tmp_path, monkeypatch):
    """The parent is the trained network at 4 bits."""
    model = quantized(load(files["float"], CPU).network, bits=4)
    path = tmp_path / "four.safetensors"
    model_file.save(path, model.network, model.architecture, model.codes, **HEADER)
    monkeypatch.setitem(files, "rtn", path)
    return path


def sizes(codes) -> int:
    return sum(layer.codes.numel() * layer.storage_bits for layer in codes.values())


class TestTraining:
    def test_the_file_has_the_parents_size_and_computes_what_was_evaluated(self, run, four, few, accuracy, tmp_path):
        chosen, reallocate = [], allocation.reallocate

        def noted(network, first, *others):
            chosen.append(reallocate(network, first, *others))
            return chosen[-1]

        with mock.patch.object(adaptive, "reallocate", noted):
            result = run("adaptive", **KEYS, **SILENT)
        assert len(chosen) == 4 and chosen[0] != chosen[-1]
        first = model_file.read(four).codes
        room = sizes(first)
        for bits in chosen:
            assert sum(bits[name] * first[name].codes.numel() for name in first) <= room
        path = tmp_path / "model.safetensors"
        save(path, tmp_path / "history.csv", result, **HEADER)
        file = model_file.read(path)
        assert sizes(file.codes) <= room and path.stat().st_size <= four.stat().st_size
        assert {layer.facts["bits"] for layer in file.codes.values()} != {4}
        right = accuracy(model_file.to_network(file), few.validation)
        assert right == max(row["validation_accuracy"] for row in result.history)
        assert set(result.history[0]) >= {"loss_cross_entropy", "loss_distillation"}

    def test_killed_thrice_it_ends_with_the_bytes_of_the_uninterrupted_run(self, run, four, tmp_path):
        """In the first epoch, and in the second and third one after it goes on: an epoch has 5 steps."""
        contents = []
        for name, steps in (("whole", []), ("killed", [4, 9, 9])):
            for step in steps:
                with killed_at(step):
                    run("adaptive", name, **KEYS, **SILENT)
                torch.manual_seed(99)
            save(tmp_path / name, tmp_path / "history.csv", run("adaptive", name, **KEYS, **SILENT), **HEADER)
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1]

    def test_the_epoch_that_is_saved_has_its_own_bits(self, run, four, few, accuracy):
        """Not those of the last epoch: the best one on validation may have come before a change."""
        seen = []

        def random_bits(network, first, *others):
            bits = {name: 2 + (len(seen) + place) % 3 for place, name in enumerate(first)}
            for name, codes in first.items():
                nearest = allocation.nearest(network.get_submodule(name), codes, bits[name])
                allocation.learned_step(network, name).restart(nearest)
            seen.append(bits)
            return bits

        keys = {**KEYS, "learning_rate": 1e-6, "every": 2}
        with mock.patch.object(adaptive, "reallocate", random_bits):
            result = run("adaptive", **keys, **SILENT)
        best = max(result.history, key=lambda row: row["validation_accuracy"])
        assert best["epoch"] <= 2 < result.history[-1]["epoch"]  # at 4 bits, before the first change
        assert {layer.facts["bits"] for layer in result.codes.values()} == {4}
        assert accuracy(result.network, few.validation) == best["validation_accuracy"]

    def test_layers_that_keep_names_have_the_parents_bits(self, files, quantized, run, tmp_path, monkeypatch):
        model = quantized(load(files["float"], CPU).network, bits=3)
        eight = quantized(load(files["float"], CPU).network, bits=8)
        for name in ("conv1", "fc"):
            model.codes[name] = eight.codes[name]
            model.network.get_submodule(name).weight.data = eight.codes[name].decode()
        path = tmp_path / "mixed.safetensors"
        model_file.save(path, model.network, model.architecture, model.codes, **HEADER)
        monkeypatch.setitem(files, "rtn", path)
        result = run("adaptive", keep="first+last", **KEYS, **SILENT)
        assert {name: result.codes[name].facts["bits"] for name in ("conv1", "fc")} == {"conv1": 8, "fc": 8}
        assert len({layer.facts["bits"] for layer in result.codes.values()}) > 2
        assert sizes(result.codes) <= sizes(model.codes)

    def test_a_wrong_name_is_one_line(self, run, four):
        with pytest.raises(UserError, match=r"keep: found 'conv', expected first, last, or a layer or module"):
            run("adaptive", keep="conv", **KEYS, **SILENT)

    def test_quantized_activations_are_in_sight_of_the_measurement(self, run, four):
        seen, floating = [], allocation.floating

        def noted(network, part):
            seen.append(floating(network, part))
            return seen[-1]

        with mock.patch.object(allocation, "floating", noted):
            result = run("adaptive", activations=8, **KEYS, **SILENT)
        assert {point.bits for point in result.codes.points} == {8}
        assert all(len(copied.activation_quantizers) == len(result.codes.points) for copied in seen)


@pytest.mark.parametrize(
    ("every", "last", "expected"), [(2, 5, [3, 5]), (1, 3, [2, 3, 4]), (3, 10, [4, 7, 10]), (4, 3, [])]
)
def test_the_epochs_at_which_bits_are_chosen(every, last, expected):
    keys = adaptive.Parameters(every=every)
    task = adaptive.AdaptiveTraining(nn.Identity(), None, keys, {}, None, last, print)
    assert [epoch for epoch in range(1, 11) if task.is_due(epoch)] == expected


def test_averages_are_refused(home):
    with pytest.raises(UserError, match="averaging: found 0.9: codes of different bits have no average"):
        check(find_stages(home / "kdq")["adaptive"].keys, {"averaging": 0.9}, "recipe")


@pytest.mark.parametrize("keys", [{"epochs": 4}, {"epochs": 3, "adapting": 0.0}, {"epochs": 3, "every": 1}])
def test_bits_change_or_are_meant_to_stay(home, keys):
    assert check(find_stages(home / "kdq")["adaptive"].keys, keys, "recipe")["epochs"] == keys["epochs"]


def test_bits_that_would_never_change_are_refused(home):
    expected = "every: found 2 beside epochs=3 and adapting=0.5, expected at most 1.5, their product, or no bits would"
    with pytest.raises(UserError, match=expected):
        check(find_stages(home / "kdq")["adaptive"].keys, {"epochs": 3}, "recipe")
