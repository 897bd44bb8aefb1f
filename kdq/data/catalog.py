"""The data sets there are: one entry each, whose loader is imported when it is called. Planning imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kdq.errors import UserError, nearest

if TYPE_CHECKING:
    from kdq.data.prepared import Prepared, Raw


MAPPED_MB = 1000


@dataclass(frozen=True)
class Images:
    """The size of a data set: number of images, side in pixels, channels, classes; ``mapped`` images take no memory."""

    count: int
    side: int
    channels: int
    classes: int
    mapped: bool = False

    @property
    def megabytes(self) -> float:
        """The memory that the images take: of mapped ones at most what of their file is read at a time."""
        whole = self.count * self.side**2 * self.channels / 1e6
        return min(whole, MAPPED_MB) if self.mapped else whole


@dataclass(frozen=True)
class Dataset:
    """A data set.

    ``load`` returns its images, given the config's section ``data`` as a dict. ``images`` is its size, None if only
    the files tell. ``keys`` are the keys of ``data`` that the prepared file depends on.
    """

    load: Callable[[dict], Raw]
    images: Images | None
    keys: tuple[str, ...] = ("validation_fraction", "test_fraction")


def _digits(settings: dict) -> Raw:
    from kdq.data import digits

    return digits.load(settings)


def _cifar(dataset: str, settings: dict) -> Raw:
    from kdq.data import cifar

    return cifar.load(dataset, settings)


def _folder(settings: dict) -> Raw:
    from kdq.data import folder

    return folder.load(settings)


CATALOG = {
    "digits": Dataset(_digits, Images(1797, 8, 1, 10)),
    "cifar10": Dataset(partial(_cifar, "cifar10"), Images(60000, 32, 3, 10)),
    "cifar100": Dataset(partial(_cifar, "cifar100"), Images(60000, 32, 3, 100)),
    "folder": Dataset(_folder, None, ("validation_fraction", "test_fraction", "image_size")),
}


def load(dataset: str, settings: dict) -> Raw:
    """Return the images of ``dataset`` as its source gives them.

    ``settings``: ``folder`` (of the files), ``download`` (whether missing files may be fetched), ``test_fraction`` (of
    a source without a test part), ``image_folder`` and ``image_size`` (of the data set ``folder``). Raise UserError
    for an unknown data set and for missing or changed files.
    """
    if dataset not in CATALOG:
        expected = f"{', '.join(CATALOG)}{nearest(dataset, CATALOG)}"
        raise UserError(f"dataset: unknown {dataset!r}, expected one of {expected}")
    return CATALOG[dataset].load(settings)


def prepare(
    dataset: str, settings: dict, validation_fraction: float, split_seed: int, log: Callable = lambda line: None
) -> Prepared:
    """Return the images of ``dataset`` with a stratified validation part split off the training part.

    Mean and deviation are those of the remaining training part. ``log`` takes lines on what was read, and a warning if
    images are there twice. Raise UserError as :func:`load` and :func:`kdq.data.prepared.split` do.
    """
    from kdq.data.duplicates import count_duplicates, warnings
    from kdq.data.prepared import Prepared, channel_statistics, split

    raw = load(dataset, settings)
    train, validation = split(raw.train.images, raw.train.labels, validation_fraction, split_seed, raw.classes)
    mean, std = channel_statistics(train.images)
    parts = {"train": train, "validation": validation, "test": raw.test}
    duplicates = count_duplicates(parts)
    for line in [*raw.notes, *warnings(duplicates, parts)]:
        log(line)
    facts = {"dataset": dataset, "source": raw.source, "split_seed": split_seed, "duplicates": duplicates}
    return Prepared(**parts, classes=raw.classes, mean=mean, std=std, **facts)
