"""The stage as the workflow runs it: its images, and those from which BatchNorm is measured again."""

import pytest
import torch

from kdq.quantize.bits.sensitivity_table import Measurement, write
from kdq.quantize.execution.layer import quantizable_layers
from kdq.quantize.gram.calibration_images import as_in_training, calibration_images
from kdq.quantize.methods.gpfq import GPFQ, Parameters
from kdq.quantize.stage import quantize_stage
from kdq.recipe.path import Cell

CELL = Cell("digits", 0, "hard/gpfq")


class TestStatistics:
    @pytest.mark.parametrize("order", ["forward", "iterative"])
    def test_are_those_of_images_as_training_saw_them(self, few, build, order, tmp_path):
        """The first BatchNorm's, by the training's own crops and mirrors of the calibration images."""
        network, keys = build().eval(), Parameters(bits=4, images=20, batchnorm="reestimate", order=order)
        measured, layers = tmp_path / CELL.path("sensitivity.csv"), quantizable_layers(network)
        rows = [Measurement(name, layer.weight.numel(), 1, 4, 0, 0, 0, 0) for name, layer in layers.items()]
        write(measured, rows, CELL)
        images = calibration_images(few, 20, 1).images
        quantize_stage(
            network,
            few,
            GPFQ(keys),
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
