"""GPTQ and Qronos against their definitions: an explicit inverse, or a least-squares problem, for every input."""

import doctest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.quantize.methods import gptq as gptq_module
from kdq.quantize.methods.gptq import gptq
from kdq.quantize.methods.qronos import qronos
from kdq.quantize.methods.rtn import rtn
from kdq.quantize.solver.hessian import upper_factor
from tests.quantize.problems import correlated, gram_matrices, problem, squared_errors

pytestmark = pytest.mark.usefixtures("columns_both_ways")

SHAPES = dict(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 5),
    inputs=st.integers(1, 40),
    samples=st.integers(1, 90),
    block=st.integers(1, 50),
    damping=st.sampled_from([0.001, 0.01, 1.0]),
)


def brain_surgery(weight, gram, step, low, high, damping):
    """Optimal brain quantization in the order of the inputs, the inverse of what is left computed for each."""
    weight, codes = weight.clone(), torch.zeros_like(weight)
    dead = gram.diagonal() == 0
    hessian = gram + damping * gram.diagonal().mean() * torch.eye(len(gram)) + torch.diag(dead.double())
    weight[:, dead] = 0
    for t in range(len(gram)):
        inverse = torch.linalg.inv(hessian[t:, t:])
        codes[:, t] = (weight[:, t] / step + 0.5).floor().clamp(low, high)
        error = (weight[:, t] - codes[:, t] * step) / inverse[0, 0]
        weight[:, t:] -= error[:, None] * inverse[0]
    return codes.to(torch.int16)


@settings(max_examples=40)
@given(**SHAPES)
def test_gptq_equals_optimal_brain_quantization(seed, rows, inputs, samples, block, damping):
    weight, analog, quantized = problem(seed, rows, inputs, samples, dead=range(0, inputs, 7))
    step = weight.abs().amax(1) / 4
    cross, gram = gram_matrices(analog, quantized)
    codes = gptq(weight, cross, gram, step, -4, 3, damping, block=block)
    assert codes.equal(brain_surgery(weight, gram, step, -4, 3, damping))


def least_squares_each_time(weight, analog, quantized, step, low, high, damping):
    """Qronos as defined, on the inputs, with rows besides that hold the weights: sqrt(damping) times the identity."""
    held = (damping * quantized.square().sum(0).mean()).sqrt() * torch.eye(weight.shape[1])
    held[quantized.square().sum(0) == 0] = 0
    analog, quantized = torch.cat([analog, held.to(analog)]), torch.cat([quantized, held.to(analog)])
    wanted, later, codes = analog @ weight.mT, weight.mT, torch.zeros_like(weight)
    for t in range(weight.shape[1]):
        column, rest = quantized[:, t], quantized[:, t + 1 :]
        if column.any():
            z = column @ (wanted - rest @ later[1:]) / (column @ column)
            codes[:, t] = (z / step + 0.5).floor().clamp(low, high)
        wanted = wanted - column[:, None] * (codes[:, t] * step)
        later = torch.linalg.lstsq(rest, wanted, driver="gelsd").solution
    return codes.to(torch.int16)


@settings(max_examples=40)
@given(**SHAPES)
def test_qronos_equals_least_squares_for_every_input(seed, rows, inputs, samples, block, damping):
    weight, analog, quantized = problem(seed, rows, inputs, samples, dead=range(0, inputs, 7))
    step = weight.abs().amax(1) / 4
    codes = qronos(weight, *gram_matrices(analog, quantized), step, -4, 3, damping, block=block)
    assert codes.equal(least_squares_each_time(weight, analog, quantized, step, -4, 3, damping))


def test_with_equal_inputs_qronos_is_gptq():
    weight, _, quantized = correlated(1, 6, 30, 80)
    cross, gram = gram_matrices(quantized, quantized)
    for order in ("natural", "activation"):
        arguments = weight, cross, gram, weight.abs().amax(1) / 4, -4, 3, 0.01, order
        assert qronos(*arguments).equal(gptq(*arguments))


@pytest.mark.parametrize("order", ["natural", "activation"])
@pytest.mark.parametrize("quantizer", [gptq, qronos])
def test_orthogonal_inputs_make_it_round_to_nearest(quantizer, order):
    weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(3))
    for gram in (torch.eye(16), torch.diag(torch.arange(16.0, 0.0, -1))):
        assert quantizer(weight, gram, gram, 0.25, -8, 7, order=order).equal(rtn(weight, gram, gram, 0.25, -8, 7))


@pytest.mark.parametrize("quantizer", [gptq, qronos])
def test_the_order_by_activation_is_the_natural_one_of_sorted_inputs(quantizer):
    weight, analog, quantized = correlated(2, 4, 25, 60)
    sizes = torch.randperm(25, generator=torch.Generator().manual_seed(0)) + 1.0
    analog, quantized, step = analog * sizes, quantized * sizes, weight.abs().amax(1) / 4
    order = quantized.square().sum(0).argsort(descending=True)
    cross, gram = gram_matrices(analog[:, order], quantized[:, order])
    expected = torch.empty(4, 25, dtype=torch.int16)
    expected[:, order] = quantizer(weight[:, order], cross, gram, step, -4, 3)
    matrices = gram_matrices(analog, quantized)
    found = quantizer(weight, *matrices, step, -4, 3, order="activation")
    assert found.equal(expected) and not found.equal(quantizer(weight, *matrices, step, -4, 3))


def test_the_factor_splits_the_error():
    """||X~ e||^2 = sum_t of what the errors up to t leave when all later ones are chosen best."""
    _, _, inputs = problem(4, 1, 6, 30)
    gram = inputs.mT @ inputs
    factor = upper_factor(gram[None])[0]
    assert factor.equal(factor.triu()) and torch.allclose(factor @ factor.mT, gram)
    for t in range(6):
        rest = inputs[:, t + 1 :]
        residual = inputs[:, t] - rest @ torch.linalg.lstsq(rest, inputs[:, t, None]).solution[:, 0]
        assert float(factor[t, t]) == pytest.approx(float(residual.norm()))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_less_error_than_rounding_and_qronos_less_than_gptq(bits):
    high, totals = 2 ** (bits - 1), dict.fromkeys((rtn, gptq, qronos), 0.0)
    for seed in range(6):
        weight, analog, quantized = correlated(seed, 8, 40, 200, drift=0.4)
        step = 0.6 * weight.abs().amax(1) / (high - 1)
        for quantizer in totals:
            codes = quantizer(weight, *gram_matrices(analog, quantized), step, -high, high - 1)
            totals[quantizer] += float(squared_errors(weight, analog, quantized, codes, step).sum())
    assert totals[qronos] < totals[gptq] < totals[rtn]


@pytest.mark.parametrize("quantizer", [gptq, qronos])
def test_a_singular_gram_matrix_needs_damping(quantizer):
    weight, analog, quantized = problem(5, 3, 20, 4)
    arguments = weight, *gram_matrices(analog, quantized), 0.3, -4, 3
    assert quantizer(*arguments, damping=0.01).any()
    with pytest.raises(UserError, match="^damping: too small .*expected a larger one$"):
        quantizer(*arguments, damping=1e-30)


def test_worked_example():
    assert doctest.testmod(gptq_module).attempted > 0 and doctest.testmod(gptq_module).failed == 0
