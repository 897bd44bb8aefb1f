"""SPFQ against the published two loops over columns, and what is to be expected of its randomness."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdq.quantize.methods.gpfq import gpfq
from kdq.quantize.methods.spfq import SPFQ, Parameters, aligned, spfq
from tests.quantize.problems import correlated, gram_matrices, path, problem

pytestmark = pytest.mark.usefixtures("columns_both_ways")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def published_alignment(weight, analog, quantized, sweeps):
    """w~ by the published loop: a path without rounding, then sweeps in which each column is taken out and refitted."""
    residual, found = weight.new_zeros(len(weight), len(analog)), torch.zeros_like(weight)
    for sweep in range(sweeps):
        for t in range(weight.shape[1]):
            before = weight[:, t, None] * analog[:, t] if sweep == 0 else found[:, t, None] * quantized[:, t]
            residual += before
            length = quantized[:, t] @ quantized[:, t]
            found[:, t] = residual @ quantized[:, t] / length if length > 0 else 0
            residual -= found[:, t, None] * quantized[:, t]
    return found if sweeps else weight


def sequential(weight, analog, quantized, step, low, high, uniform, sweeps):
    """The published loops: alignment, then the path of w~ on the quantized network's inputs with random rounding."""
    columns = iter(uniform.unbind(1))
    found = published_alignment(weight, analog, quantized, sweeps)

    def up_or_down(z):
        return (z.floor() + (next(columns) >= 1 - (z - z.floor()))).clamp(low, high)

    return path(found, quantized, quantized, step, up_or_down).to(torch.int16)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 5),
    inputs=st.integers(1, 60),
    samples=st.integers(30, 90),
    sweeps=st.integers(0, 3),
    block=st.integers(1, 70),
)
def test_equals_the_published_loops(seed, rows, inputs, samples, sweeps, block):
    weight, analog, quantized = problem(seed, rows, inputs, samples)
    step = weight.abs().amax(1) / 4
    codes = spfq(weight, *gram_matrices(analog, quantized), step, -4, 3, generator(seed), sweeps, block)
    uniform = torch.rand(rows, inputs, dtype=torch.float64, generator=generator(seed))
    assert codes.equal(sequential(weight, analog, quantized, step, -4, 3, uniform, sweeps))


def test_after_one_sweep_it_is_gpfq_with_stochastic_rounding():
    weight, analog, quantized = problem(1, 4, 30, 50, dead=(3,))
    step = weight.abs().amax(1) / 4
    uniform = torch.rand(4, 30, dtype=torch.float64, generator=generator(5))
    columns = iter(uniform[:, [t for t in range(30) if t != 3]].unbind(1))  # a dead column is not rounded
    direct = path(weight, analog, quantized, step, lambda z: (z + next(columns)).floor().clamp(-4, 3))
    codes = spfq(weight, *gram_matrices(analog, quantized), step, -4, 3, generator(5))
    assert codes.equal(direct.to(torch.int16)) and not codes[:, 3].any()


def test_is_right_on_average_and_never_farther_than_a_step():
    """With orthogonal inputs z is the weight itself; the mean of 4,000 draws has a deviation below 0.008 steps."""
    weight = torch.linspace(-3.9, 2.9, 12, dtype=torch.float64).expand(4000, -1) * 0.1
    codes = spfq(weight, torch.eye(12), torch.eye(12), 0.1, -4, 3, generator())
    assert ((codes.double() - weight / 0.1).abs() < 1).all()
    assert ((codes.double() * 0.1).mean(0) - weight[0]).abs().max() < 4 * 0.0008
    assert (codes[0] != codes[1]).any()


def test_weights_on_the_grid_stay():
    weight = torch.arange(-4.0, 4.0).repeat(3, 1) * 0.25
    assert spfq(weight, torch.eye(8), torch.eye(8), 0.25, -4, 3, generator()).equal((weight / 0.25).to(torch.int16))


def test_a_seed_gives_its_codes_however_the_rows_come():
    parts = [problem(seed, 6, 20, 40) for seed in range(2)]
    weight, analog, quantized = (torch.stack(kind) for kind in zip(*parts, strict=True))
    cross, gram = gram_matrices(analog, quantized)
    step = weight.abs().amax(-1) / 4

    def run(seed, *blocks):
        quantizer = SPFQ(Parameters(), seed).codes
        return torch.cat([quantizer(weight[:, rows], cross, gram, step[:, rows], -4, 3) for rows in blocks], 1)

    whole = run(7, slice(0, 6))
    assert whole.equal(run(7, slice(0, 6))) and not whole.equal(run(8, slice(0, 6)))
    assert whole.equal(run(7, slice(0, 1), slice(1, 4), slice(4, 6)))


def test_other_layers_get_other_numbers():
    quantizer, weight = SPFQ(Parameters(), 0).codes, torch.full((1, 4, 50), 0.5)
    first, second = (quantizer(weight, torch.eye(50)[None], torch.eye(50)[None], 1.0, -2, 1) for _ in range(2))
    assert not first.equal(second)


def test_equal_inputs_leave_the_weights():
    weight, _, quantized = problem(2, 3, 15, 40)
    _, gram = gram_matrices(quantized, quantized)
    for sweeps in (0, 1, 4):
        assert torch.allclose(aligned(weight[None], gram[None], gram[None], sweeps)[0], weight)


def test_alignment_descends_to_least_squares():
    weight, analog, quantized = correlated(3, 4, 12, 80, drift=0.5)
    matrices = [matrix[None] for matrix in gram_matrices(analog, quantized)]
    errors = [
        float((analog @ weight.mT - quantized @ aligned(weight[None], *matrices, sweeps)[0].mT).norm())
        for sweeps in (1, 2, 5, 20, 3000)
    ]
    best = torch.linalg.lstsq(quantized, analog @ weight.mT).solution
    least = float((analog @ weight.mT - quantized @ best).norm())
    assert errors == sorted(errors, reverse=True) and errors[0] > 1.01 * least
    assert errors[-1] == pytest.approx(least, rel=1e-6)


def test_more_sweeps_leave_less_error_where_the_inputs_have_changed():
    totals = dict.fromkeys((0, 1, 4), 0.0)
    for seed in range(8):
        weight, analog, quantized = correlated(seed, 6, 24, 200, drift=0.6)
        step = weight.abs().amax(1) / 8
        for sweeps in totals:
            codes = spfq(weight, *gram_matrices(analog, quantized), step, -8, 7, generator(seed), sweeps)
            decoded = codes.double() * step[:, None]
            totals[sweeps] += float((analog @ weight.mT - quantized @ decoded.mT).square().sum())
    assert totals[4] < totals[1] < totals[0]


def test_random_rounding_costs_error():
    weight, analog, quantized = problem(4, 20, 40, 100)
    cross, gram = gram_matrices(analog, quantized)
    step = weight.abs().amax(1) / 8
    errors = [
        float((analog @ weight.mT - quantized @ (codes.double() * step[:, None]).mT).norm())
        for codes in (gpfq(weight, cross, gram, step, -8, 7), spfq(weight, cross, gram, step, -8, 7, generator()))
    ]
    assert errors[0] < errors[1] < 3 * errors[0]
