"""GPFQ against the published code's values, and against the loop that its formula says."""

import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdq.quantize.methods import gpfq as module
from kdq.quantize.methods.gpfq import gpfq, gpfq_by_residuals, gpfq_with_errors
from kdq.quantize.methods.rtn import rtn
from tests.quantize.problems import golden, gram_matrices, path, problem

pytestmark = pytest.mark.usefixtures("columns_both_ways")


def sequential(weight, analog, quantized, step, low, high):
    """The published loop over columns, rounding to the nearest level."""
    return path(weight, analog, quantized, step, lambda z: (z + 0.5).floor().clamp(low, high)).to(torch.int16)


@pytest.mark.parametrize("case", range(4))
def test_equals_the_published_code(case):
    values = golden(case)
    assert values.regularizer == "None"
    step, high = values.scalar * values.radius / values.max_code, values.max_code
    codes = gpfq(values.weight, *gram_matrices(*values.inputs), step, -high, high)
    decoded = codes.double() * step
    assert (decoded - values.expected).abs().max() < 1e-9
    # The published error of a grouped layer is the mean over its groups.
    analog, quantized = values.inputs
    error = (analog @ values.weight.mT - quantized @ decoded.mT).norm(dim=(1, 2)).mean()
    assert abs(error - values.error) < 1e-9


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 6),
    inputs=st.integers(1, 70),
    samples=st.integers(1, 90),
    block=st.integers(1, 80),
    bits=st.integers(2, 8),
    per_row=st.booleans(),
)
def test_blocked_equals_sequential(seed, rows, inputs, samples, block, bits, per_row):
    weight, analog, quantized = problem(seed, rows, inputs, samples, dead=range(0, inputs, 7))
    radius = weight.abs().amax(1)
    step = (radius if per_row else radius.mean().expand(rows)) / 2 ** (bits - 1)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    cross, gram = quantized.mT @ analog, quantized.mT @ quantized
    codes = gpfq(weight, cross, gram, step if per_row else step[0], low, high, block)
    assert codes.dtype == torch.int16
    assert codes.equal(sequential(weight, analog, quantized, step, low, high))


def test_stacked_alphabets_equal_separate_calls():
    weight, analog, quantized = problem(1, 5, 40, 60)
    cross, gram = quantized.mT @ analog, quantized.mT @ quantized
    low, high = torch.tensor([[-2], [-8], [-7]]), torch.tensor([[1], [7], [7]])
    step = weight.abs().amax(1) / torch.tensor([[2.0], [8.0], [7.0]])
    for quantizer in (gpfq, rtn):
        together = quantizer(weight, cross, gram, step, low, high)
        for k in range(3):
            assert together[k].equal(quantizer(weight, cross, gram, step[k], int(low[k]), int(high[k])))


def in_blocks(analog, quantized, size):
    """Return the blocks of gram.calibration.columns: (g, 2, b, m), or (g, 1, b, m) if the inputs are one tensor."""
    kinds = (analog,) if analog is quantized else (analog, quantized)
    return torch.stack(kinds, 1).mT.split(size, 2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(5, 40, 12), (4, 30, 30), (3, 20, 70), (1, 1, 1), (2, 75, 3)]),
    groups=st.integers(1, 3),
    alphabets=st.integers(1, 4),
    size=st.integers(1, 80),
    same=st.booleans(),
)
def test_residuals_equal_gram_matrices_and_the_sequential_loop(seed, shape, groups, alphabets, size, same):
    rows, inputs, samples = shape
    parts = [problem(seed + group, *shape, dead=range(0, inputs, 7)) for group in range(groups)]
    weight, analog, quantized = (torch.stack(kind) for kind in zip(*parts, strict=True))
    analog = quantized if same else analog
    step = weight.abs().amax(-1) / torch.linspace(5.1, 8.2, alphabets, dtype=torch.float64)[:, None, None]
    codes, error, energy = gpfq_by_residuals(weight, in_blocks(analog, quantized, size), step, -8, 7)
    assert codes.dtype == torch.int16 and codes.shape == (alphabets, groups, rows, inputs)
    assert codes.equal(gpfq(weight, quantized.mT @ analog, quantized.mT @ quantized, step, -8, 7))
    for k in range(alphabets):
        for group in range(groups):
            arguments = weight[group], analog[group], quantized[group], step[k, group], -8, 7
            assert codes[k, group].equal(sequential(*arguments))
    direct = (analog @ weight.mT - quantized @ (codes * step[..., None]).mT).square().sum(-2)
    assert torch.allclose(error, direct, rtol=1e-9, atol=1e-12)
    assert torch.allclose(energy, (analog @ weight.mT).square().sum(-2), rtol=1e-9)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("inputs", [1, 40, 300])
def test_errors_of_the_solve_are_those_of_the_residuals(inputs, same):
    parts = [problem(seed, 3, inputs, 50, dead=range(0, inputs, 7)) for seed in range(2)]
    weight, analog, quantized = (torch.stack(kind) for kind in zip(*parts, strict=True))
    analog = quantized if same else analog
    step = weight.abs().amax(-1) / torch.tensor([2.0, 8.0, 9.0], dtype=torch.float64)[:, None, None]
    cross, gram = quantized.mT @ analog, quantized.mT @ quantized
    codes, errors = gpfq_with_errors(weight, cross, gram, step, -8, 7)
    assert codes.equal(gpfq(weight, cross, gram, step, -8, 7)) and errors.shape == step.shape
    outputs = analog @ weight.mT
    direct = (outputs - quantized @ (codes * step[..., None]).mT).square().sum(-2)
    assert torch.allclose(errors + outputs.square().sum(-2), direct, rtol=1e-9, atol=1e-9)


def test_groups_equal_separate_calls():
    parts = [problem(seed, 3, 9, 40) for seed in range(4)]
    weight = torch.stack([part[0] for part in parts])
    cross, gram = (torch.stack([part[2].mT @ part[i] for part in parts]) for i in (1, 2))
    together = gpfq(weight, cross, gram, 0.2, -8, 7)
    for group in range(4):
        assert together[group].equal(gpfq(weight[group], cross[group], gram[group], 0.2, -8, 7))


def test_dead_inputs_get_code_zero():
    weight, analog, quantized = problem(2, 4, 12, 30, dead=(0, 5, 11))
    codes = gpfq(weight, quantized.mT @ analog, quantized.mT @ quantized, 0.2, -8, 7)
    assert not codes[:, [0, 5, 11]].any() and codes.any()
    zero = torch.zeros(12, 12)
    assert not gpfq(weight, zero, zero, 0.2, -8, 7).any()


def test_orthogonal_inputs_make_gpfq_round_to_nearest():
    weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    gram = torch.diag(torch.arange(1.0, 17.0))
    assert gpfq(weight, gram, gram, 0.25, -8, 7).equal(rtn(weight, gram, gram, 0.25, -8, 7))


def test_rtn_takes_the_nearest_level():
    weight = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64).reshape(1, -1)
    levels = torch.arange(-4, 4) * 0.3
    nearest = (weight[0, :, None] - levels).abs().amin(1)
    decoded = rtn(weight, None, None, 0.3, -4, 3).double() * 0.3
    assert torch.allclose((weight - decoded)[0].abs(), nearest, atol=1e-6)


def test_worked_example():
    assert doctest.testmod(module).attempted > 0 and doctest.testmod(module).failed == 0
