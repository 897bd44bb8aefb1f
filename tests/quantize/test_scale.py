"""Steps from the weights alone: nothing clipped, or the smallest error of the weights."""

import pytest
import torch

from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.bits.scale import candidates, grid, radius, steps
from kdq.quantize.methods import rtn

ALPHABETS = [Alphabet(bits, levels) for bits in (2, 4, 8) for levels in ("2^b", "2^b-1", "paper")]


def weight(seed=0):
    """Two groups of five rows, some of one sign, one zero."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(2, 5, 30, generator=generator, dtype=torch.float64)
    found[0, 1], found[0, 2], found[1, 4] = found[0, 1].abs(), -found[0, 2].abs(), 0
    return found


def chosen(numbers, alphabet, **keys):
    """(step (g, N), C (g, N)) of a scale that needs no search, float64."""
    parameters = rtn.Parameters(**keys)
    reach = radius(numbers, parameters.percentile, parameters.granularity)
    scales = candidates(numbers, reach, alphabet, parameters)
    assert scales.shape == (1, *numbers.shape[:2])
    return steps(scales, reach, alphabet)[0].double(), scales[0]


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=str)
def test_minmax_is_the_smallest_step_that_clips_nothing(alphabet):
    numbers = weight()
    step, _ = chosen(numbers, alphabet, scale="minmax")
    low, high = (step[..., None] * bound for bound in (alphabet.low, alphabet.high))
    live = numbers.abs().amax(-1) > 0
    assert (numbers >= low * (1 + 1e-6)).all() and (numbers <= high * (1 + 1e-6)).all()
    touching = ((numbers - low).abs() < 1e-4 * step[..., None]) | ((numbers - high).abs() < 1e-4 * step[..., None])
    assert touching.any(-1).equal(live)


def test_minmax_uses_the_level_more_below_zero():
    numbers = -weight()[:, :1].abs()
    largest = numbers.abs().amax(-1)
    assert torch.allclose(chosen(numbers, Alphabet(2), scale="minmax")[0], largest / 2)
    assert torch.allclose(chosen(-numbers, Alphabet(2), scale="minmax")[0], largest)
    assert torch.allclose(chosen(numbers, Alphabet(2, "2^b-1"), scale="minmax")[0], largest)


def test_minmax_of_a_layer_is_that_of_its_largest_row():
    numbers = weight()
    of_rows, _ = chosen(numbers, Alphabet(4), scale="minmax")
    of_layer, scales = chosen(numbers, Alphabet(4), scale="minmax", granularity="layer")
    assert torch.allclose(of_layer, of_rows[numbers.abs().amax(-1) > 0].max().expand_as(of_layer))
    assert len(scales.unique()) == 1


def test_minmax_within_a_percentile_clips_the_rest():
    numbers = weight()
    step, _ = chosen(numbers, Alphabet(4, "2^b-1"), scale="minmax", percentile=0.9)
    reach = radius(numbers, 0.9, "channel")
    assert torch.allclose(step[reach > 0], (reach / 7)[reach > 0])
    assert ((numbers.abs() > 7.01 * step[..., None]).double().mean(-1)[reach > 0] <= 0.1).all()


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=str)
def test_mse_has_the_smallest_weight_error_of_the_grid(alphabet):
    numbers = weight()
    reach = radius(numbers, 1.0, "channel")

    def errors(step):
        codes = rtn.rtn(numbers, None, None, step, alphabet.low, alphabet.high)
        return (numbers - codes * step[..., None]).square().sum(-1)

    step, scales = chosen(numbers, alphabet, scale="mse")
    every = torch.stack([errors(steps(scale, reach, alphabet).double()) for scale in grid(alphabet)])
    assert torch.allclose(errors(step), every.amin(0), rtol=1e-12)
    assert torch.isin(scales, torch.tensor(grid(alphabet), dtype=torch.float64)).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_a_finer_search_would_hardly_find_a_better_step(bits):
    numbers, alphabet = torch.randn(1, 3, 3000, generator=torch.Generator().manual_seed(1)).double(), Alphabet(bits)

    def error(step):
        codes = rtn.rtn(numbers, None, None, step, alphabet.low, alphabet.high)
        return (numbers - codes * step[..., None]).square().sum(-1)

    largest = numbers.abs().amax(-1) / alphabet.high
    finest = torch.stack([error(largest * share) for share in torch.linspace(0.1, 1.2, 300)]).amin(0)
    assert (error(chosen(numbers, alphabet, scale="mse")[0]) < 1.1 * finest).all()


def test_mse_of_a_layer_has_the_smallest_sum():
    numbers, alphabet = weight(), Alphabet(3)
    reach = radius(numbers, 1.0, "layer")
    _, scales = chosen(numbers, alphabet, scale="mse", granularity="layer")
    totals = []
    for scale in grid(alphabet):
        step = steps(torch.full_like(reach, scale), reach, alphabet).double()
        codes = rtn.rtn(numbers, None, None, step, alphabet.low, alphabet.high)
        totals.append(float((numbers - codes * step[..., None]).square().sum()))
    best = grid(alphabet)[totals.index(min(totals))]
    assert scales.unique().tolist() == [best]


@pytest.mark.parametrize("scale", ["mse", "minmax", 0.7])
def test_zero_weights_have_a_step_and_a_finite_scale(scale):
    for granularity in ("channel", "layer"):
        step, scales = chosen(
            torch.zeros(2, 3, 4, dtype=torch.float64), Alphabet(4), scale=scale, granularity=granularity
        )
        assert (step == 1).all() and scales.isfinite().all()
