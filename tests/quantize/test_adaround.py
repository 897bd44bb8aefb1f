"""AdaRound against rounding to nearest, and against all roundings that there are."""

import itertools

import pytest
import torch

from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.bits.scale import choose
from kdq.quantize.execution.network import quantize
from kdq.quantize.gram.calibration import Calibration, weight_matrix
from kdq.quantize.methods.adaround import adaround, adaround_before_relu
from kdq.quantize.methods.rtn import rtn
from kdq.quantize.quantizer import quantizer_of
from tests.quantize import small
from tests.quantize.problems import correlated, gram_matrices, problem, squared_errors


def layer(seed=0, bits=3, share=0.6, **shape):
    """A weight with inputs, steps that clip some weights, and the bounds of the codes."""
    weight, analog, quantized = correlated(seed, **{"rows": 8, "inputs": 40, "samples": 200, "drift": 0.2} | shape)
    high = 2 ** (bits - 1) - 1
    return weight, analog, quantized, share * weight.abs().amax(1) / high, -high - 1, high


def test_every_code_is_one_of_the_two_next_to_its_weight():
    weight, analog, quantized, step, low, high = layer()
    codes = adaround(weight, *gram_matrices(analog, quantized), step, low, high, iterations=200)
    below = (weight / step[:, None]).floor()
    assert codes.dtype == torch.int16
    assert ((codes == below.clamp(low, high)) | (codes == (below + 1).clamp(low, high))).all()
    assert (codes != rtn(weight, None, None, step, low, high)).double().mean() > 0.05


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_row_has_more_error_than_nearest_codes_and_all_have_far_less(bits):
    errors = {rtn: 0.0, adaround: 0.0}
    for seed in range(3):
        weight, analog, quantized, step, *bounds = layer(seed, bits)
        matrices, rows = gram_matrices(analog, quantized), {}
        for quantizer in errors:
            codes = quantizer(weight, *matrices, step, *bounds)
            rows[quantizer] = squared_errors(weight, analog, quantized, codes, step)
            errors[quantizer] += float(rows[quantizer].sum())
        assert (rows[adaround] <= rows[rtn] * (1 + 1e-4)).all()
    assert errors[adaround] < 0.7 * errors[rtn]


def test_a_descent_that_ends_halfway_makes_no_row_worse():
    """Without regularization the h stay between 0 and 1, and what they become in the end may be a bad rounding."""
    weight, analog, quantized, step, *bounds = layer(3, bits=4, share=0.9, rows=40)
    arguments = weight, *gram_matrices(analog, quantized), step, *bounds
    errors = [
        squared_errors(weight, analog, quantized, codes, step)
        for codes in (adaround(*arguments, iterations=40, regularization=0.0), rtn(*arguments))
    ]
    assert (errors[0] <= errors[1] * (1 + 1e-4)).all() and (errors[0] < 0.99 * errors[1]).any()


def test_comes_close_to_the_best_of_all_roundings():
    """Of the error that nearest codes leave beyond that of the best of 512 roundings, hardly any remains."""
    totals = {"best": 0.0, "adaround": 0.0, "nearest": 0.0}
    for seed in range(12):
        weight, analog, quantized, step, low, high = layer(seed, bits=4, share=1.0, rows=1, inputs=9, drift=0.1)
        below = (weight / step[:, None]).floor()
        every = torch.stack([below + torch.tensor(up) for up in itertools.product((0.0, 1.0), repeat=9)])
        every = every.clamp(low, high)
        errors = squared_errors(weight, analog, quantized, every, step.expand(512, 1))
        totals["best"] += float(errors.min())
        arguments = weight, *gram_matrices(analog, quantized), step, low, high
        for name, quantizer in (("adaround", adaround), ("nearest", rtn)):
            totals[name] += float(squared_errors(weight, analog, quantized, quantizer(*arguments), step).sum())
    beyond = {name: total - totals["best"] for name, total in totals.items()}
    assert -1e-6 < beyond["adaround"] < 0.1 * beyond["nearest"], totals


def test_orthogonal_inputs_make_it_round_to_nearest():
    weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    gram = torch.diag(torch.arange(1.0, 17.0))
    assert adaround(weight, gram, gram, 0.25, -4, 3).equal(rtn(weight, gram, gram, 0.25, -4, 3))


def test_makes_up_for_changed_inputs():
    """Where the quantized network's inputs are 1.5 times as large, weights of 0.9 and 0.6 had better be 0.6 and 0.4."""
    weight, gram = torch.tensor([[0.9, 0.6]]), 1.5**2 * torch.eye(2)
    assert adaround(weight, gram, gram, 1.0, -2, 1).tolist() == [[1, 1]]
    assert adaround(weight, gram / 1.5, gram, 1.0, -2, 1).tolist() == [[1, 0]]


def test_the_same_every_time_and_whatever_the_unit_of_the_inputs():
    weight, analog, quantized, *rest = layer(1)
    cross, gram = gram_matrices(analog, quantized)
    first = adaround(weight, cross, gram, *rest, iterations=100)
    assert first.equal(adaround(weight, cross, gram, *rest, iterations=100))
    assert first.equal(adaround(weight, 1024 * cross, 1024 * gram, *rest, iterations=100))


def test_a_longer_descent_leaves_less_error():
    weight, analog, quantized, step, *bounds = layer(2, rows=20)
    errors = [
        float(squared_errors(weight, analog, quantized, codes, step).sum())
        for iterations in (1, 100, 1000)
        for codes in [adaround(weight, *gram_matrices(analog, quantized), step, *bounds, iterations)]
    ]
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.95 * errors[1]


def test_weights_on_the_grid_and_dead_inputs_stay():
    weight = torch.arange(-4.0, 4.0).repeat(2, 1) * 0.5
    _, analog, quantized = problem(4, 2, 8, 30)
    assert adaround(weight, *gram_matrices(analog, analog), 0.5, -4, 3).equal((weight * 2).to(torch.int16))
    zero = torch.zeros(8, 8)
    assert adaround(weight + 0.1, zero, zero, 0.5, -4, 3).equal((weight * 2).to(torch.int16))


def before_relu(weight, analog, quantized, bound, step, *bounds, **keys):
    """The codes (N, d) of the descent on max(y, bound), of one group."""
    rows = [inputs[None].float() for inputs in (analog, quantized)]
    passed = torch.stack([torch.as_tensor(bound).expand(1, len(weight)), torch.full((1, len(weight)), torch.inf)])
    return adaround_before_relu(weight[None], rows, passed, step.expand(1, 1, len(weight)), *bounds, **keys)[0, 0]


def errors_behind(weight, analog, quantized, bound, codes, step):
    """The squared errors (..., N) of max(y, bound)."""
    outputs = (analog.double() @ weight.double().mT).clamp(min=bound)
    levels = codes.double() * torch.as_tensor(step).double()[..., None]
    return (outputs - (quantized.double() @ levels.mT).clamp(min=bound)).square().sum(-2)


class TestBeforeRelu:
    @pytest.mark.parametrize("bits", [2, 3])
    def test_the_error_behind_is_less_than_that_of_the_linear_and_of_nearest_codes(self, bits):
        totals = dict.fromkeys(("behind", "linear", "nearest"), 0.0)
        for seed in range(3):
            weight, analog, quantized, step, *bounds = layer(seed, bits, samples=600)
            bound = 0.5 * float((analog @ weight.mT).std())
            matrices = gram_matrices(analog, quantized)
            found = {
                "behind": before_relu(weight, analog, quantized, bound, step, *bounds),
                "linear": adaround(weight, *matrices, step, *bounds),
                "nearest": rtn(weight, *matrices, step, *bounds),
            }
            errors = {name: errors_behind(weight, analog, quantized, bound, q, step) for name, q in found.items()}
            assert (errors["behind"] <= errors["nearest"] * (1 + 1e-4)).all()
            totals = {name: totals[name] + float(error.sum()) for name, error in errors.items()}
        assert totals["behind"] < 0.97 * totals["linear"] < 0.8 * totals["nearest"], totals

    def test_comes_close_to_the_best_of_all_roundings(self):
        totals = dict.fromkeys(("best", "behind", "nearest"), 0.0)
        for seed in range(8):
            weight, analog, quantized, step, low, high = layer(seed, 4, 1.0, rows=1, inputs=9, drift=0.1)
            below = (weight / step[:, None]).floor()
            every = torch.stack([below + torch.tensor(up) for up in itertools.product((0.0, 1.0), repeat=9)])
            every = every.clamp(low, high)
            totals["best"] += float(errors_behind(weight, analog, quantized, 0.0, every, step.expand(512, 1)).min())
            behind = before_relu(weight, analog, quantized, 0.0, step, low, high)
            for name, codes in (("behind", behind), ("nearest", rtn(weight, None, None, step, low, high))):
                totals[name] += float(errors_behind(weight, analog, quantized, 0.0, codes, step).sum())
        beyond = {name: total - totals["best"] for name, total in totals.items()}
        assert -1e-6 < beyond["behind"] < 0.15 * beyond["nearest"], totals

    def test_a_relu_that_passes_all_is_none(self):
        weight, analog, quantized, step, *bounds = layer(4)
        passing = before_relu(weight, analog, quantized, -torch.inf, step, *bounds)
        linear = adaround(weight, *gram_matrices(analog, quantized), step, *bounds)
        assert (passing == linear).double().mean() > 0.97

    def test_in_a_network_layers_before_a_relu_differ_and_the_first_other_does_not(self):
        def codes(**keys):
            quantizer = quantizer_of("kdq.quantize.methods.adaround", {"bits": 2, "iterations": 100, **keys}, 0)
            return quantize(small.network(), small.part().images, quantizer, log=small.silent, order=small.ORDER[::-1])

        behind, output = codes(), codes(reconstruct="output")
        differing = {name for name in behind if not behind[name].codes.equal(output[name].codes)}
        assert differing and differing <= {"stem", "wide"}
        assert all(behind[name].step.equal(output[name].step) for name in behind)


@pytest.mark.parametrize("granularity", ["channel", "layer"])
@pytest.mark.parametrize("passed", [False, True])
def test_a_search_takes_the_step_of_nearest_codes_and_descends_once(granularity, passed, monkeypatch):
    numbers, inputs, _ = correlated(5, rows=6, inputs=20, samples=300)
    module = torch.nn.Linear(20, 6)
    module.weight.data = numbers.float()
    inputs = inputs.float()
    bounds = torch.stack([torch.zeros(6), torch.full((6,), torch.inf)]).double() if passed else None
    calibration, weight = Calibration(module, inputs, inputs, passed=bounds), weight_matrix(module)
    keys = {"granularity": granularity}
    quantizer = quantizer_of("kdq.quantize.methods.adaround", keys | {"iterations": 50}, 0)
    called = []
    name = "codes_before_relu" if passed else "codes"
    descend = getattr(quantizer, name)
    monkeypatch.setattr(quantizer, name, lambda *arguments: called.append(arguments) or descend(*arguments))
    found = choose(weight, calibration, quantizer, Alphabet(3))
    nearest = choose(weight, calibration, quantizer_of("kdq.quantize.methods.rtn", keys, 0), Alphabet(3))
    assert found.step.equal(nearest.step) and found.scale.equal(nearest.scale)
    assert len(called) == 1 and not found.codes.equal(nearest.codes)
    given = quantizer_of("kdq.quantize.methods.adaround", keys | {"scale": 0.7}, 0)
    assert (choose(weight, calibration, given, Alphabet(3)).scale == 0.7).all()
