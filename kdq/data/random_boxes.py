"""Random boxes of images, resized to the images' size: torchvision's RandomResizedCrop on a batch on the device.

All random numbers come from the caller's generator, so that a run repeats itself; the box is drawn as torchvision
draws it: an area and a ratio of the sides, ten times at most, until the box fits.
"""

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

RATIOS = (3 / 4, 4 / 3)  # of width to height
TRIES = 10


def random_boxes(count: int, size: tuple[int, int], area: float, generator: torch.Generator) -> Tensor:
    """Return boxes (count, 4) as top, left, height, width within images of ``size``, at least ``area`` of them large.

    Areas are uniform, ratios log-uniform in 3/4 .. 4/3. If no try fits, the box is the image.
    """
    height, width = size
    areas = torch.empty(count, TRIES).uniform_(area, 1, generator=generator) * height * width
    ratios = torch.empty(count, TRIES).uniform_(*map(math.log, RATIOS), generator=generator).exp()
    places = torch.rand(count, 2, generator=generator)
    heights, widths = (areas / ratios).sqrt().round().long(), (areas * ratios).sqrt().round().long()
    fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
    first, rows = fits.long().argmax(1), torch.arange(count)
    shapes = torch.stack([heights[rows, first], widths[rows, first]], 1)
    shapes[~fits.any(1)] = torch.tensor(size)
    rest = torch.tensor(size) - shapes + 1
    return torch.cat([(places * rest).long().minimum(rest - 1), shapes], 1)


def resized_boxes(images: Tensor, area: float, generator: torch.Generator) -> Tensor:
    """Return a random box of each of the uint8 images (B, C, H, W), resized to H x W (bilinear, antialiased)."""
    size = list(images.shape[2:])
    boxes = random_boxes(len(images), tuple(size), area, generator).tolist()
    pairs = zip(images, boxes, strict=True)
    return torch.stack([functional.resized_crop(image, *box, size=size, antialias=True) for image, box in pairs])
