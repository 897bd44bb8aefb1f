"""What a model loses against its float network, in points, with its uncertainty and the images it is measured on.

A network from elsewhere may have been trained on every image outside the test part, on which quantization then seems to
cost less than it does. Its budget is therefore chosen on one half of the test part and reported on the other.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from kdq.data.prepared import read as read_data
from kdq.errors import UserError
from kdq.evaluate import predictions
from kdq.evaluate.significance import bootstrap_images
from kdq.provenance.files import read_header
from kdq.provenance.formats import DATA

PARTS = ("validation", "test")
HALVES_SEED = 0


@dataclass(frozen=True)
class Drop:
    """The loss of accuracy on so many ``images``.

    ``top1`` is the model's accuracy, a share of 1. In points: the drop ``points`` with its 95% interval by a paired
    bootstrap over the images, ``low`` to ``high``, and its standard ``error``.
    """

    images: int
    top1: float
    points: float
    low: float
    high: float
    error: float

    def bound(self, sure: float) -> float:
        """Return the drop, in points, that the true one is at most with the confidence ``sure``; 0.5: the measured."""
        return self.points + float(stats.norm.ppf(sure)) * self.error

    def risk(self, points: float) -> float:
        """Return the chance that the true drop is larger than ``points``, as if errors of measurement were normal."""
        return float(stats.norm.sf((points - self.points) / self.error)) if self.error else float(self.points > points)


def drop(correct: np.ndarray, reference: np.ndarray) -> Drop:
    """Return the drop of a model, given per image (M,) whether it and the float network are right.

    >>> drop(np.array([True, False, False, True]), np.array([True, True, True, True])).points
    50.0
    """
    outcome = bootstrap_images(correct[None], reference[None])
    points = 100 * (int(reference.sum()) - int(correct.sum())) / len(correct)
    ends = 0 - 100 * outcome.high, 0 - 100 * outcome.low
    return Drop(len(correct), float(correct.mean()), points, *ends, 100 * outcome.error)


@dataclass(frozen=True)
class Images:
    """The images that a budget is chosen on, and those that it is reported on: masks over validation and test."""

    choice: dict[str, np.ndarray]
    report: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]

    @property
    def chosen_on(self) -> str:
        return _words(self.choice)

    @property
    def reported_on(self) -> str:
        return _words(self.report)

    @property
    def worth(self) -> float:
        """The points that one image to choose on is worth."""
        return 100 / sum(map(np.sum, self.choice.values()))

    def correct(self, path, masks: dict[str, np.ndarray]) -> np.ndarray:
        """Return whether each image of ``masks`` is classified right, by a file of predictions."""
        _, tensors = predictions.read(path)
        return np.concatenate(
            [
                (predictions.classes(path, tensors, part, len(self.labels[part])).numpy() == self.labels[part])[mask]
                for part, mask in masks.items()
            ]
        )

    def drop(self, path, reference, masks: dict[str, np.ndarray]) -> Drop:
        """Return the drop of a model against another, both by files of predictions, on the images of ``masks``."""
        return drop(self.correct(path, masks), self.correct(reference, masks))


def _words(masks: dict[str, np.ndarray]) -> str:
    """Return which images are chosen, in words."""
    numbers = {part: "all" if mask.all() else f"{mask.sum():,} of" for part, mask in masks.items()}
    return " and ".join(f"{numbers[part]} {len(mask):,} {part} images" for part, mask in masks.items())


def images_of(data, trained_on: dict) -> Images:
    """Return the images of a data file to choose on and to report on.

    ``trained_on`` is the header of the data file that the network was trained with, empty if that is not known: a file
    of the same source and split shows that the validation part was held out.
    """
    header, prepared = read_header(data, DATA), read_data(data)
    same = bool(trained_on) and all(_split(header)[key] == value for key, value in _split(trained_on).items())
    return images({part: getattr(prepared, part).labels.numpy() for part in PARTS}, same)


def _split(header: dict) -> dict:
    """Return what decides which images of a data set are held out."""
    return {
        **{key: header[key] for key in ("dataset", "source", "split_seed", "classes")},
        "keys": {key: value for key, value in header["provenance"]["keys"].items() if key != "images"},
    }


def images(labels: dict[str, np.ndarray], validation_unseen: bool) -> Images:
    """Return the images to choose on and to report on, given the labels (M,) of both parts.

    Those are validation and test if the network has not seen the validation part in training; else half of the test
    images each, drawn by chance, always the same. Raise UserError for a test part of a single image.
    """
    if validation_unseen:
        whole = {part: np.ones(len(labels[part]), dtype=bool) for part in PARTS}
        return Images({"validation": whole["validation"]}, {"test": whole["test"]}, labels)
    count = len(labels["test"])
    if count < 2:
        raise UserError(
            "test: found one image, expected at least two: one half is to choose on, the other to report on"
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(HALVES_SEED)).numpy()
    half = order < count // 2
    return Images({"test": half}, {"test": ~half}, labels)
