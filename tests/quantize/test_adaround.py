"""AdaRound against rounding to nearest, and against all roundings that there are."""

import itertools

import pytest
import torch

from kdq.quantize.methods.adaround import adaround
from kdq.quantize.methods.rtn import rtn
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
