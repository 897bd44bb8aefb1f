"""Images of a quantization, the same for all quantizers of a seed.

Those of the calibration come from the training part; those on which costs are measured from the validation part: a
network that has learnt its training images by heart makes no errors there that could grow.
"""

from collections.abc import Mapping

import torch

from kdq.data.batches import TrainingBatches
from kdq.data.prepared import Prepared, Split

COST_IMAGES = 1000  # an image is 0.1 points of accuracy


def calibration_images(prepared: Prepared, count: int, seed: int) -> Split:
    """Return ``count`` images of the training part (all, if there are fewer) with their labels, drawn by ``seed``."""
    images, labels = prepared.train.images, prepared.train.labels
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    return Split(images[chosen], labels[chosen])


def cost_images(prepared: Prepared, seed: int) -> Split:
    """Return ``COST_IMAGES`` images of the validation part (all, if there are fewer) with labels, drawn by ``seed``."""
    images, labels = prepared.validation.images, prepared.validation.labels
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:COST_IMAGES]
    return Split(images[chosen], labels[chosen])


def as_in_training(images: torch.Tensor, keys: Mapping, seed: int) -> torch.Tensor:
    """Return uint8 ``images`` (M, C, H, W), each cropped and mirrored at random by the ``keys`` of a stage that trains.

    For the statistics of BatchNorm, which training takes from such images: on CIFAR-10 those of unchanged images cost
    a point of accuracy even in the float network. Missing keys change nothing.
    """
    labels = torch.zeros(len(images), dtype=torch.long)
    augmented = {"crop": keys.get("crop", 0), "flip": keys.get("flip", False), "cutout": 0, "fill": [0.0]}
    batches = TrainingBatches(images, labels, batch_size=len(images), **augmented)
    return batches.augment(torch.arange(len(images)), torch.Generator().manual_seed(seed))[0]
