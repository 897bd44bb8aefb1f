"""The stage as the workflow runs it: alone or with other bit-widths, the same model."""

import copy

import pytest
import torch

from kdq.quantize import gpfq
from kdq.quantize.network import Plan
from kdq.quantize.stage import cell_of, codes_of, keys_of, quantize_stage, quantize_stages
from kdq.recipe import folder


@pytest.mark.parametrize("recipe", ["teacher", "teacher,seed=0/kd,loss=ce/gpfq,bits=4"])
def test_a_cell_is_what_its_path_says(recipe):
    assert cell_of(f"{folder('digits', 3, recipe)}/model.safetensors") == ("digits", 3, recipe)


@pytest.mark.parametrize(
    ("stage", "keys", "expected"),
    [
        ("gpfq,bits=4", {"images": 8}, {"bits": 4, "images": 8}),
        ("gpfq,bits=2,images=8", {"batchnorm": "keep", "images": 8}, {"batchnorm": "keep", "bits": 2, "images": 8}),
        ("gpfq", {"bits": 3, "images": 8}, {"bits": 3, "images": 8}),
    ],
)
def test_the_bits_come_from_the_stage_where_the_job_has_none(stage, keys, expected):
    found = keys_of(stage, keys)
    assert found == expected and list(found) == sorted(found)


def test_together_equals_alone(few, build):
    network = build()
    plans = [Plan(gpfq.quantizer, gpfq.Parameters(bits=bits, images=20), lambda line: None) for bits in (2, 5)]
    device = torch.device("cpu")
    for plan, done in zip(plans, quantize_stages(network, few, plans, seed=1, device=device), strict=True):
        alone = copy.deepcopy(network)
        settings = {"seed": 1, "device": device, "log": plan.log}
        codes = quantize_stage(alone, few, gpfq.quantizer, plan.parameters, **settings)
        found = codes_of(done.layers)
        assert list(found) == list(codes)
        for name, expected in codes.items():
            assert found[name].codes.equal(expected.codes) and found[name].step.equal(expected.step)
            assert found[name].facts == expected.facts
        assert all(value.equal(alone.state_dict()[key]) for key, value in done.network.state_dict().items())
