"""The stage as the workflow runs it: alone or with other bit-widths, the same model."""

import copy

import pytest
import torch

from kdq.quantize.bits.sensitivity_table import Measurement, write
from kdq.quantize.execution.network import Plan, quantizable_layers
from kdq.quantize.gram.calibration_images import as_in_training, calibration_images
from kdq.quantize.methods import gpfq
from kdq.quantize.stage import cell_of, codes_of, keys_of, quantize_stage, quantize_stages
from kdq.recipe.grammar import folder
from kdq.recipe.path import Cell

CELL = Cell("digits", 0, "hard/gpfq")


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


@pytest.mark.parametrize("batchnorm", ["keep", "reestimate"])
def test_together_equals_alone(few, build, batchnorm):
    network = build()
    parameters = [gpfq.Parameters(bits=bits, images=20, batchnorm=batchnorm) for bits in (2, 5)]
    plans = [Plan(gpfq.quantizer, own, lambda line: None) for own in parameters]
    settings = {"seed": 1, "device": torch.device("cpu"), "trained_by": {"crop": 2, "flip": True}}
    for plan, done in zip(plans, quantize_stages(network, few, plans, **settings), strict=True):
        alone = copy.deepcopy(network)
        codes = quantize_stage(alone, few, gpfq.quantizer, plan.parameters, log=plan.log, **settings)
        found = codes_of(done.layers)
        assert list(found) == list(codes)
        for name, expected in codes.items():
            assert found[name].codes.equal(expected.codes) and found[name].step.equal(expected.step)
            assert found[name].facts == expected.facts
        assert all(value.equal(alone.state_dict()[key]) for key, value in done.network.state_dict().items())


class TestStatistics:
    @pytest.mark.parametrize("order", ["forward", "greedy"])
    def test_are_those_of_images_as_training_saw_them(self, few, build, order, tmp_path):
        """The first BatchNorm's, by the training's own crops and mirrors of the calibration images."""
        network, keys = build().eval(), gpfq.Parameters(bits=4, images=20, batchnorm="reestimate", order=order)
        measured, layers = tmp_path / CELL.path("sensitivity.csv"), quantizable_layers(network)
        rows = [Measurement(name, layer.weight.numel(), 1, 4, 0, 0, 0, 0) for name, layer in layers.items()]
        write(measured, rows, CELL)
        images = calibration_images(few, 20, 1).images
        quantize_stage(
            network,
            few,
            gpfq.quantizer,
            keys,
            seed=1,
            device=torch.device("cpu"),
            log=lambda line: None,
            sensitivity=measured,
            trained_by={"crop": 2, "flip": True, "epochs": 3},
        )
        views = as_in_training(images, {"crop": 2, "flip": True}, 1).float() / 255
        expected = network.conv1((views - network.mean) / network.std).mean((0, 2, 3))
        torch.testing.assert_close(network.bn1.running_mean, expected)

    def test_without_crops_and_mirrors_they_are_those_of_the_images(self, few):
        images = few.train.images[:9]
        assert as_in_training(images, {}, 0).equal(images)
        assert as_in_training(images, {"crop": 0, "flip": False}, 0).equal(images)

    def test_every_view_is_one_of_its_image(self, few):
        images = few.train.images[:9]
        views = as_in_training(images, {"crop": 1, "flip": True}, 0)
        padded = torch.nn.functional.pad(images, (1,) * 4)
        for image, view in zip(padded, views, strict=True):
            crops = [image[:, top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
            assert any(view.equal(one) or view.equal(one.flip(2)) for one in crops)
        assert not views.equal(images)
