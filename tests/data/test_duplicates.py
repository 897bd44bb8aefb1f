"""Counting images that are there twice."""

import os

import pytest
import torch

from kdq.data.catalog import prepare
from kdq.data.duplicates import count_duplicates, warnings
from kdq.data.prepared import Split

GENUINE = os.environ.get("KDQ_CIFAR")


def part(*images) -> Split:
    """Return a part of images of one grey level each, given as (level, label)."""
    levels = torch.tensor([level for level, _ in images], dtype=torch.uint8)
    return Split(levels.view(-1, 1, 1, 1).expand(-1, 3, 4, 4), torch.tensor([label for _, label in images]))


def test_each_image_counts_once():
    parts = {
        "train": part((1, 0), (1, 0), (2, 1), (3, 1), (4, 0)),
        "validation": part((1, 0), (5, 1), (6, 0)),
        "test": part((2, 1), (2, 0), (5, 1), (7, 0)),
    }
    counts = count_duplicates(parts)
    assert counts == {"validation in train": 1, "test in train": 2, "test in validation": 1, "in several classes": 3}
    assert warnings(counts, parts) == [
        "warning: 1 of the 3 images of validation are in train too, pixel for pixel",
        "warning: 2 of the 4 images of test are in train too, pixel for pixel",
        "warning: 1 of the 4 images of test are in validation too, pixel for pixel",
        "warning: 3 images are in several classes, pixel for pixel",
    ]


def test_one_differing_pixel_makes_another_image():
    images = part((1, 0), (1, 1)).images.clone()
    images[1, 2, 3, 3] += 1
    parts = {name: Split(images[[index]], torch.tensor([0])) for name, index in (("train", 0), ("validation", 1))}
    counts = count_duplicates(parts | {"test": part((9, 0))})
    assert set(counts.values()) == {0} and warnings(counts, parts) == []


def test_digits_are_counted():
    """Of the 1,797 digits no two have the same pixels."""
    assert set(prepare("digits", {"test_fraction": 0.2}, 0.1, 0).duplicates.values()) == {0}


@pytest.mark.skipif(not GENUINE, reason="KDQ_CIFAR names no folder with the genuine CIFAR files")
@pytest.mark.parametrize(("dataset", "expected"), [("cifar10", [0, 0, 0, 0]), ("cifar100", [5, 9, 1, 34])])
def test_the_genuine_cifar_is_counted(dataset, expected):
    log = []
    prepared = prepare(dataset, {"folder": GENUINE, "download": False}, 0.1, 0, log.append)
    assert list(prepared.duplicates.values()) == expected
    assert len(log) == sum(count > 0 for count in expected)
