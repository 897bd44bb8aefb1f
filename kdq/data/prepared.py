"""The one data file: train, validation and test as uint8 tensors, with the statistics of the training part."""

import math
from dataclasses import MISSING, dataclass, field, fields

import torch
from pydantic import Field, create_model
from torch import Tensor

from kdq.errors import UserError
from kdq.provenance.files import checked, read_tensors, write_tensors
from kdq.provenance.formats import DATA as FORMAT
from kdq.recipe.vocabulary import Base

PARTS, KINDS = ("train", "validation", "test"), ("images", "labels")


@dataclass(frozen=True)
class Split:
    """Images uint8 (M, C, H, W) and their labels int64 (M,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Raw:
    """What a loader returns: both parts, names of the classes, facts that identify the source, lines for the log."""

    train: Split
    test: Split
    classes: list[str]
    source: dict
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """The three parts of a data set; ``mean`` and ``std`` per channel, of the training part, in units of [0, 1].

    ``duplicates`` counts images that are there twice, see :func:`kdq.data.duplicates.count_duplicates`.
    """

    train: Split
    validation: Split
    test: Split
    classes: list[str]
    mean: list[float]
    std: list[float]
    dataset: str
    source: dict
    split_seed: int
    duplicates: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> dict[str, int]:
        """The number of classes and of channels, and the shorter side of the images in pixels."""
        _, channels, *sides = self.train.images.shape
        return {"classes": len(self.classes), "channels": channels, "side": min(sides)}


def _default(of_field):
    return ... if of_field.default_factory is MISSING else Field(default_factory=of_field.default_factory)


# the header of a data file
Header = create_model(
    "Header",
    __base__=Base,
    **{each.name: (each.type, _default(each)) for each in fields(Prepared) if each.name not in PARTS},
)


def split(images: Tensor, labels: Tensor, fraction: float, seed: int, classes=None, part="validation"):
    """Take a stratified ``fraction`` of images (M, C, H, W), labels (M,) away; return rest and taken, both in order.

    Counts per class are rounded by the method of the largest remainder, so the whole is rounded once. ``classes`` are
    names for messages, ``part`` is that of what is taken. Raise UserError if a class would have no image in one part.
    """
    if not 0 < fraction < 1:
        raise UserError(f"data.{part}_fraction: found {fraction}, expected more than 0 and less than 1")
    taken_of_class = apportion(torch.bincount(labels).tolist(), fraction)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    taken = torch.zeros(len(labels), dtype=torch.bool)
    for label, (count, take) in enumerate(taken_of_class):
        if count and not 0 < take < count:
            name = classes[label] if classes else label
            raise UserError(
                f"data.{part}_fraction: found {fraction}, which takes {take} of the {count} images of class {name!r}; "
                "each part needs at least 1: choose another fraction or add images"
            )
        taken[order[labels[order] == label][:take]] = True
    return Split(images[~taken], labels[~taken]), Split(images[taken], labels[taken])


def apportion(counts: list[int], fraction: float) -> list[tuple[int, int]]:
    """Return ``(count, share)`` per count: shares of ``fraction`` by largest remainder, the first on a tie."""
    quotas = [fraction * count for count in counts]
    shares = [math.floor(quota) for quota in quotas]
    missing = round(fraction * sum(counts)) - sum(shares)
    by_remainder = sorted(range(len(counts)), key=lambda label: (shares[label] - quotas[label], label))
    for label in by_remainder[:missing]:
        shares[label] += 1
    return list(zip(counts, shares, strict=True))


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and (population) standard deviation per channel of uint8 images (M, C, H, W), in units of [0, 1].

    Sums over the 256 counts of a channel are whole numbers: nothing is rounded before the last division. Raise
    UserError for a constant channel, which has no deviation to divide by.
    """
    mean, std = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].flatten(), minlength=256).tolist()
        pixels = sum(counts)
        total = sum(value * count for value, count in enumerate(counts))
        squares = sum(value * value * count for value, count in enumerate(counts))
        variance = pixels * squares - total * total
        if variance == 0:
            raise UserError(f"channel {channel} has the same value in all training images, expected at least two")
        mean.append(total / pixels / 255)
        std.append(math.sqrt(variance) / pixels / 255)
    return mean, std


def write(path, prepared: Prepared, provenance: dict | None = None) -> None:
    """Write the data file: tensors ``<part>.images`` and ``<part>.labels``, and the rest in the header."""
    tensors = {f"{part}.{kind}": getattr(getattr(prepared, part), kind) for part in PARTS for kind in KINDS}
    header = {key: getattr(prepared, key) for key in Header.model_fields}
    check(path, prepared)
    write_tensors(path, tensors, {"format": FORMAT, **header, "provenance": provenance or {}})


def read(path) -> Prepared:
    """Return the content of a data file; raise UserError if it is missing, foreign or inconsistent."""
    header, tensors = read_tensors(path, FORMAT)
    expected = {f"{part}.{kind}" for part in PARTS for kind in KINDS}
    if set(tensors) != expected:
        raise UserError(f"{path}: tensors {sorted(tensors)}, expected {sorted(expected)}")
    parts = {part: Split(*(tensors[f"{part}.{kind}"] for kind in KINDS)) for part in PARTS}
    values = {key: value for key, value in header.items() if key not in ("format", "provenance")}
    prepared = Prepared(**parts, **checked(path, Header, values).model_dump())
    check(path, prepared)
    return prepared


def check(path, prepared: Prepared) -> None:
    """Raise UserError if shapes, types, labels or statistics contradict each other."""
    for part in PARTS:
        images, labels = getattr(prepared, part).images, getattr(prepared, part).labels
        here = f"{path}: {part}"
        if images.dtype != torch.uint8 or images.dim() != 4:
            raise UserError(f"{here} images are {images.dtype} {tuple(images.shape)}, expected uint8 (M, C, H, W)")
        if labels.dtype != torch.int64 or labels.dim() != 1:
            raise UserError(f"{here} labels are {labels.dtype} {tuple(labels.shape)}, expected int64 (M,)")
        if not len(images) == len(labels) > 0:
            raise UserError(f"{here} has {len(images)} images and {len(labels)} labels, expected equally many, not 0")
        if images.shape[1:] != (expected := prepared.train.images.shape[1:]):
            raise UserError(f"{here} images are {tuple(images.shape[1:])}, those of train {tuple(expected)}")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(prepared.classes):
            label = low if low < 0 else high
            raise UserError(f"{here} has the label {label}, expected 0 to {len(prepared.classes) - 1}")
    channels = prepared.train.images.shape[1]
    for key in ("mean", "std"):
        if (count := len(getattr(prepared, key))) != channels:
            raise UserError(f"{path}: {key} has {count} values, expected {channels}, one per channel")
    if not all(deviation > 0 for deviation in prepared.std):
        raise UserError(f"{path}: std is {prepared.std}, expected positive values")
