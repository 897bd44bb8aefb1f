"""The calibration images: drawn from the training part, the same for all quantizers of a seed."""

import torch

from kdq.data.prepared import Prepared, Split


def calibration_images(prepared: Prepared, count: int, seed: int) -> Split:
    """``count`` images (all, where there are fewer) of the training part, with their labels, drawn by ``seed``."""
    images, labels = prepared.train.images, prepared.train.labels
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
    return Split(images[chosen], labels[chosen])
