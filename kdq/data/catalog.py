"""The data sets there are: every file in ``kdq/data/sets/`` that declares a class ``DataSets`` holds some.

Its function ``load(dataset, settings)`` returns their images. Planning evaluates the class alone and imports no torch;
a file is imported by its name when a data set is prepared, so that a new one leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdq.data.data_sets import Declared, Images
from kdq.declarations import all_declared
from kdq.errors import UserError, nearest

if TYPE_CHECKING:
    from kdq.data.prepared import Prepared, Raw

FOLDER, PACKAGE = Path(__file__).parent / "sets", "kdq.data.sets"


@dataclass(frozen=True)
class Dataset:
    """A data set: its size, None if only the files tell, and what its file declares."""

    images: Images | None
    declared: type[Declared]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the config's section ``data`` that the prepared file depends on."""
        return self.declared.keys


def _catalog() -> dict[str, Dataset]:
    """Return all data sets by name; raise UserError if two files have one of the same name."""
    catalog: dict[str, Dataset] = {}
    for declaration in all_declared(FOLDER, "DataSets", PACKAGE, Declared, {"Images": Images}):
        for name, images in declaration.sizes.items():
            if name in catalog:
                other = catalog[name].declared.file()
                raise UserError(f"{declaration.file()}: the data set {name!r} is one of {other} too")
            catalog[name] = Dataset(images, declaration)
    return catalog


CATALOG = _catalog()


def load(dataset: str, settings: dict) -> Raw:
    """Return the images of ``dataset`` as its source gives them.

    ``settings``: ``folder`` (of the files), ``download`` (whether missing files may be fetched), ``test_fraction`` (of
    a source without a test part), ``image_folder`` and ``image_size`` (of the data set ``folder``). Raise UserError
    for an unknown data set and for missing or changed files.
    """
    if dataset not in CATALOG:
        expected = f"{', '.join(CATALOG)}{nearest(dataset, CATALOG)}"
        raise UserError(f"dataset: unknown {dataset!r}, expected one of {expected}")
    return CATALOG[dataset].declared.module().load(dataset, settings)


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
