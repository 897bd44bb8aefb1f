"""From a data set's name to its parts; the digits as the example that is always there."""

import pytest
import torch

from kdq.data.catalog import load, prepare
from kdq.data.prepared import read, write
from kdq.errors import UserError


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    raw = load("digits", {"test_fraction": 0.2})
    assert raw.train.images.shape[1:] == (1, 8, 8) and raw.train.images.dtype == torch.uint8
    assert raw.classes == list("0123456789")
    both = torch.cat([raw.train.images, raw.test.images])
    assert len(both) == 1797 and len(raw.test.labels) == round(0.2 * 1797)
    levels = torch.bincount(torch.from_numpy(load_digits().images).flatten().long())
    assert torch.equal(torch.bincount(both.flatten().long())[both.unique().long()], levels), "17 levels, none merged"
    assert both.max() == 255 and both.min() == 0


def test_test_part_does_not_follow_the_split_seed():
    first, second = prepare("digits", {}, 0.1, 0), prepare("digits", {}, 0.1, 1)
    assert torch.equal(first.test.images, second.test.images)
    assert not torch.equal(first.validation.images, second.validation.images)
    assert first.mean != second.mean, "statistics are those of the training part"


def test_every_part_has_every_class_in_proportion():
    prepared = prepare("digits", {}, 0.1, 0)
    whole = torch.bincount(torch.cat([prepared.train.labels, prepared.validation.labels]))
    part = torch.bincount(prepared.validation.labels)
    assert ((part - 0.1 * whole).abs() < 1).all()


def test_prepared_twice_gives_equal_files(tmp_path):
    for name in ("one", "other"):
        write(tmp_path / name, prepare("digits", {}, 0.1, 5))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert read(tmp_path / "one").split_seed == 5


def test_cifar_from_every_form_gives_the_same_parts(tiny, tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/cifar-10-python.tar.gz").write_bytes(tiny.archive)
    tiny.extract(tmp_path / "extracted")
    with pytest.raises(UserError, match="each part needs at least 1"):
        prepare("cifar10", {"folder": tmp_path / "archive"}, 0.01, 0)
    raws = [load("cifar10", {"folder": str(tmp_path / name)}) for name in ("archive", "extracted")]
    assert torch.equal(raws[0].train.images, raws[1].train.images)
    assert raws[0].source["sha256"] == raws[1].source["sha256"]


def test_unknown_data_set():
    with pytest.raises(UserError, match=r"dataset: unknown 'cifar', expected one of .*did you mean 'cifar10'"):
        load("cifar", {})
