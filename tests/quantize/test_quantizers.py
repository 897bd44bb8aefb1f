"""What holds for every quantizer that there is, a new one too: its keys, its codes, and what must not matter."""

from pathlib import Path

import pytest
import torch

import kdq
from kdq.quantize.keys import Quantizing
from kdq.quantize.methods.rtn import rtn
from kdq.quantize.quantizer import quantizer_of
from kdq.recipe.stages import find_stages
from tests.quantize.problems import correlated, gram_matrices, squared_errors

pytestmark = pytest.mark.usefixtures("columns_both_ways")

STAGES = [stage for stage in find_stages(Path(kdq.__file__).parent).values() if stage.kind.quantizes]
ONE_BY_ONE = [stage for stage in STAGES if stage.name not in ("rtn", "adaround", "brecq")]
LOW, HIGH = -4, 3


@pytest.fixture(params=STAGES, ids=lambda stage: stage.name)
def stage(request):
    return request.param


def run(stage, *arguments, seed=0):
    """The codes of a stage with its default keys, but a short descent, and a fresh seed."""
    short = {"iterations": 100} if "iterations" in stage.keys.model_fields else {}
    return quantizer_of(stage.module, short, seed).codes(*arguments, LOW, HIGH)


def layer(samples=90, dead=(3, 11)):
    """Two groups of five rows and forty inputs: weight (g, N, d), inputs of both networks (g, m, d), step (g, N)."""
    parts = [correlated(seed, 5, 40, samples) for seed in range(2)]
    weight, analog, quantized = (torch.stack(kind) for kind in zip(*parts, strict=True))
    quantized[..., list(dead)] = 0
    return weight, analog, quantized, weight.abs().amax(-1) / HIGH


def test_has_the_keys_of_all(stage):
    assert Quantizing().model_dump().items() <= stage.keys().model_dump().items()


def test_codes_stay_in_the_alphabet_and_what_is_given_stays_as_it_is(stage):
    weight, analog, quantized, step = layer()
    given = weight, *gram_matrices(analog, quantized), step
    before = [tensor.clone() for tensor in given]
    codes = run(stage, *given)
    assert codes.dtype == torch.int16 and codes.shape == weight.shape
    assert codes.min() >= LOW and codes.max() <= HIGH and len(codes.unique()) > 3
    assert all(tensor.equal(copy) for tensor, copy in zip(given, before, strict=True))
    assert codes.equal(run(stage, *given))


def test_alphabets_side_by_side_equal_those_alone(stage):
    weight, analog, quantized, step = layer()
    matrices, steps = gram_matrices(analog, quantized), step * torch.tensor([1.0, 0.5, 0.3])[:, None, None]
    together = run(stage, weight, *matrices, steps)
    assert together.shape == (3, *weight.shape)
    differing = [(together[k] != run(stage, weight, *matrices, steps[k])).double().mean() for k in range(3)]
    # A descent in float32 may turn out otherwise where other products are grouped otherwise.
    assert max(differing) <= (0.02 if stage.name == "adaround" else 0)


def test_a_group_does_not_depend_on_the_others(stage):
    weight, analog, quantized, step = layer()
    first = run(stage, weight, *gram_matrices(analog, quantized), step)
    weight[1], quantized[1] = weight[1].flip(-1), quantized[1] + 0.1
    second = run(stage, weight, *gram_matrices(analog, quantized), step)
    assert first[0].equal(second[0]) and not first[1].equal(second[1])


@pytest.mark.parametrize("stage", ONE_BY_ONE, ids=lambda stage: stage.name)
def test_dead_inputs_get_code_zero(stage):
    weight, analog, quantized, step = layer(dead=(0, 7, 39))
    codes = run(stage, weight, *gram_matrices(analog, quantized), step)
    assert not codes[..., [0, 7, 39]].any() and codes.any()
    zero = torch.zeros(2, 40, 40, dtype=torch.float64)
    assert not run(stage, weight, zero, zero, step).any()


@pytest.mark.parametrize("samples", [15, 200])
@pytest.mark.parametrize(
    "stage", [stage for stage in STAGES if stage.name not in ("rtn", "brecq")], ids=lambda stage: stage.name
)
def test_leaves_less_error_than_rounding_with_fewer_samples_than_inputs_too(stage, samples):
    weight, analog, quantized, step = layer(samples)
    step = 0.7 * step
    matrices = gram_matrices(analog, quantized)
    errors = [
        float(squared_errors(weight, analog, quantized, codes, step).sum())
        for codes in (run(stage, weight, *matrices, step), rtn(weight, *matrices, step, LOW, HIGH))
    ]
    assert errors[0] < 0.9 * errors[1]
