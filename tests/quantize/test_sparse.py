"""Sparse GPFQ against the published code's values and the loop over columns; what a threshold does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdq.quantize.methods.gpfq import gpfq
from kdq.quantize.methods.sparse import Parameters, Sparse, sparse
from tests.quantize.problems import golden, gram_matrices, path, problem, squared_errors


def test_soft_equals_the_published_code():
    values = golden(4)
    assert values.regularizer == "L1"
    step, high = values.scalar * values.radius / values.max_code, values.max_code
    arguments = values.weight, *gram_matrices(*values.inputs), step, -high, high
    codes = sparse(*arguments, threshold=values.threshold, penalty="soft", relative=False)
    assert codes.double().sub(values.expected / step).abs().max() < 1e-9
    check_error(values, codes * step)


def test_hard_equals_the_published_code():
    """Its levels are 0 and +-(threshold + k step), k = 0 ... max_code: 2 max_code + 3 of them."""
    values = golden(5)
    assert values.regularizer == "L0"
    step, high = (
        values.scalar * values.radius / values.max_code - values.threshold / values.max_code,
        values.max_code + 1,
    )
    arguments = values.weight, *gram_matrices(*values.inputs), step, -high, high
    codes = sparse(*arguments, values.threshold, "hard", relative=False, first=values.threshold).double()
    decoded = codes.sign() * (values.threshold + (codes.abs() - 1) * step)
    assert (decoded - values.expected).abs().max() < 1e-9
    check_error(values, decoded)


def check_error(values, decoded):
    (analog, quantized), weight = values.inputs, values.weight
    assert float((analog @ weight.mT - quantized @ decoded.mT).norm()) == pytest.approx(values.error, abs=1e-9)


def soft(z, threshold):
    return (z.sign() * (z.abs() - threshold).clamp(min=0) + 0.5).floor()


def hard(z, threshold):
    return torch.where(z.abs() > threshold, (z + 0.5).floor(), 0)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 5),
    inputs=st.integers(1, 60),
    samples=st.integers(1, 90),
    threshold=st.floats(0, 2),
    block=st.integers(1, 70),
    rounding=st.sampled_from([soft, hard]),
)
def test_equals_the_loop_over_columns(seed, rows, inputs, samples, threshold, block, rounding):
    weight, analog, quantized = problem(seed, rows, inputs, samples, dead=range(0, inputs, 7))
    step = weight.abs().amax(1) / 8
    arguments = weight, *gram_matrices(analog, quantized), step, -8, 7, threshold, rounding.__name__
    in_steps = threshold * weight.square().mean(1).sqrt() / step
    direct = path(weight, analog, quantized, step, lambda z: rounding(z, in_steps).clamp(-8, 7))
    assert sparse(*arguments, block=block).equal(direct.to(torch.int16))


@pytest.mark.parametrize("penalty", ["soft", "hard"])
def test_no_threshold_is_gpfq_and_an_endless_one_zero(penalty):
    weight, analog, quantized = problem(1, 6, 40, 60)
    arguments = weight, *gram_matrices(analog, quantized), weight.abs().amax(1) / 8, -8, 7
    assert sparse(*arguments, 0.0, penalty).equal(gpfq(*arguments))
    assert not sparse(*arguments, float("inf"), penalty).any()


@pytest.mark.parametrize("penalty", ["soft", "hard"])
def test_a_larger_threshold_leaves_more_zeros_and_more_error(penalty):
    weight, analog, quantized = problem(2, 30, 50, 300)
    step = weight.abs().amax(1) / 8
    zeros, errors = [], []
    for threshold in (0, 0.5, 1, 1.5):
        codes = sparse(weight, *gram_matrices(analog, quantized), step, -8, 7, threshold, penalty)
        zeros.append(float((codes == 0).double().mean()))
        errors.append(float(squared_errors(weight, analog, quantized, codes, step).sum()))
    assert zeros == sorted(zeros) and zeros[0] < 0.2 < 0.5 < zeros[-1]
    assert errors == sorted(errors)


@pytest.mark.parametrize("penalty", ["soft", "hard"])
def test_the_stages_threshold_does_not_depend_on_the_size_of_the_weights(penalty):
    weight, analog, quantized = problem(3, 6, 20, 60)
    cross, gram = gram_matrices(analog, quantized)
    quantizer, step = Sparse(Parameters(penalty=penalty)).codes, weight.abs().amax(1) / 8
    factor = torch.tensor([1.0, 2.0, 0.5, 1024.0, 2.0**-10, 4.0], dtype=torch.float64)
    codes = quantizer(weight, cross, gram, step, -8, 7)
    assert codes.equal(quantizer(weight * factor[:, None], cross, gram, step * factor, -8, 7))
