"""Batches from a data set that lives on the device, augmented batch by batch.

The idea is airbench's: no worker processes and no copies from the host; one gather crops a whole batch. Images stay
uint8 until they are cropped and flipped, a quarter of the memory traffic of floats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """The input of a step: images (B, C, H, W) in [0, 1], labels (B,), their indices (B,) in the data set, the epoch.

    Under mixup an image is the share ``mixing`` of its own class and the rest of ``partner_labels`` (B,). ``views``
    (B,) number the crops and flips, see ``TrainingBatches.view``; None if the images are no such views.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    epoch: int
    partner_labels: Tensor | None = None
    mixing: float = 1.0
    views: Tensor | None = None

    def with_images(self, images: Tensor, **changes) -> "Batch":
        return replace(self, images=images, views=None, **changes)


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images (B, C, H, W) as float32 in [0, 1], channels last, and floats as they are."""
    if images.dtype != torch.uint8:
        return images
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)


def evaluation_batches(images: Tensor, batch_size: int = 500, device: torch.device | None = None) -> Iterator[Tensor]:
    """Return batches of the images in order, not augmented, :func:`to_float`, on ``device``, by default their own."""
    return (to_float(batch.to(device)) for batch in images.split(batch_size))


def resized(images: Tensor, side: int) -> Tensor:
    """Return float images (B, C, H, W) whose shorter side is ``side`` pixels, by antialiased bilinear interpolation.

    ``side`` 0, or one that the images do not exceed, changes nothing.
    """
    height, width = images.shape[2:]
    shorter = min(height, width)
    if not 0 < side < shorter:
        return images
    size = [round(length * side / shorter) for length in (height, width)]
    return F.interpolate(images, size, mode="bilinear", antialias=True)


def crops_of(images: Tensor, crop: int) -> Tensor:
    """Return a view of all crops of images (M, C, H, W) with a black margin: (M, C, 2 crop + 1, 2 crop + 1, H, W).

    One index takes a crop per image.
    """
    padded = F.pad(images, (crop,) * 4)
    return padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)


def view_count(crop: int, flip: bool) -> int:
    """Return the number of crops and flips of an image: 162 for a crop of 4 with flips."""
    return (2 * crop + 1) ** 2 * (1 + flip)


class TrainingBatches:
    """Shuffled, augmented batches of uint8 ``images`` (M, C, H, W) and ``labels`` (M,), both on one device.

    ``crop`` pads by that many black pixels and crops at a random place (as torchvision's RandomCrop does); ``flip``
    mirrors each image with probability 1/2; ``cutout`` sets a random square of that side, clipped at the border, to
    ``fill`` (DeVries and Taylor, arXiv:1708.04552). A last batch of fewer than ``batch_size`` images is left out. In
    the first ``small_epochs`` epochs the augmented images are reduced to ``resolution`` pixels, see :func:`resized`:
    crops and squares keep their share of the image. With ``area`` a box of random shape and of at least that share of
    the image is resized to the image's size, see :mod:`kdq.data.random_boxes`.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        crop: int,
        flip: bool,
        cutout: int,
        fill,
        resolution: int = 0,
        small_epochs: int = 0,
        area: float = 0.0,
    ):
        self.labels = labels
        self.area = area
        self.count = len(labels)
        self.batch_size = min(batch_size, self.count)
        self.flip = flip
        self.cutout = cutout
        self.crop = crop
        self.resolution, self.small_epochs = resolution, small_epochs
        self.size = images.shape[2:]
        self.fill = (torch.as_tensor(fill) * 255).round().to(torch.uint8).view(1, -1, 1, 1).to(labels.device)
        self._keep(images)

    def _keep(self, images: Tensor) -> None:
        self.crops = crops_of(images, self.crop)

    def __len__(self) -> int:
        return self.count // self.batch_size

    def epoch(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of an epoch in a new order; all randomness is from ``generator`` (on the CPU)."""
        side = self.resolution if epoch <= self.small_epochs else 0
        order = torch.randperm(self.count, generator=generator)
        for indices, crops, rows in self._read(order[: len(self) * self.batch_size].split(self.batch_size)):
            images, views = self._augmented(crops, rows, generator)
            views = None if self.cutout or self.area else views
            batch = Batch(to_float(images), self.labels[indices], indices, epoch, views=views)
            yield batch.with_images(resized(batch.images, side)) if side else batch

    def _read(self, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield for each part, indices (B,) on the CPU: these on the device, crops of images, their rows in these."""
        for indices in parts:
            indices = indices.to(self.labels.device)
            yield indices, self.crops, indices

    def augment(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented uint8 images (B, C, H, W) of ``indices``, and their views (B,) before the cutout."""
        return self._augmented(self.crops, indices, generator)

    def _augmented(self, crops: Tensor, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device, count = rows.device, len(rows)
        views = self._random_views(count, generator).to(device)
        images = self._view(crops, rows, views)
        if self.area:
            from kdq.data.random_boxes import resized_boxes  # imports torchvision, which takes seconds

            images = resized_boxes(images, self.area, generator)
        if self.cutout:
            images = torch.where(self._squares(count, generator).to(device), self.fill, images)
        return images, views

    def view(self, indices: Tensor, views: Tensor) -> Tensor:
        """Return uint8 images (B, C, H, W): per index the view of that number, less than ``view_count``.

        With n = 2 crop + 1 the view (mirrored n + top) n + left is the crop at row top and column left of the padded
        image, mirrored or not.
        """
        return self._view(self.crops, indices, views)

    def _view(self, crops: Tensor, rows: Tensor, views: Tensor) -> Tensor:
        offsets = 2 * self.crop + 1
        images = crops[rows, :, views // offsets % offsets, views % offsets]
        if self.flip:
            images = torch.where((views >= offsets**2).view(-1, 1, 1, 1), images.flip(3), images)
        return images

    def _random_views(self, count: int, generator: torch.Generator) -> Tensor:
        offsets = 2 * self.crop + 1
        top, left = torch.randint(0, offsets, (2, count), generator=generator)
        mirrored = torch.rand(count, generator=generator) < 0.5 if self.flip else 0
        return (mirrored * offsets + top) * offsets + left

    def _squares(self, count: int, generator: torch.Generator) -> Tensor:
        """Return masks (B, 1, H, W) of a square of side ``cutout`` around a random pixel."""
        inside = []
        for length in self.size:
            first = torch.randint(0, length, (count, 1), generator=generator) - self.cutout // 2
            position = torch.arange(length)
            inside.append((position >= first) & (position < first + self.cutout))
        rows, columns = inside
        return (rows[:, :, None] & columns[:, None, :])[:, None]
