"""Laws of the split, the statistics and the data file."""

from dataclasses import replace

import pytest
import torch

from kdq.data.prepared import Prepared, Split, apportion, channel_statistics, read, split, write
from kdq.errors import UserError
from kdq.provenance.files import write_tensors


def numbered(counts, seed=0):
    """Images whose pixels are their number, shuffled, with ``counts[c]`` of class c."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    return images.contiguous(), labels[order]


def numbers(part):
    return part.images[:, 0, 0, 0].tolist()


@pytest.fixture
def prepared():
    images, labels = numbered([20, 30, 50])
    rest, validation = split(images, labels, 0.2, 0)
    train, test = split(rest.images, rest.labels, 0.25, 1)
    mean, std = channel_statistics(train.images)
    return Prepared(train, validation, test, ["a", "b", "c"], mean, std, "numbers", {"kind": "test"}, 0)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3, 0.9])
def test_parts_are_disjoint_and_cover(fraction):
    images, labels = numbered([20, 31, 57])
    rest, taken = split(images, labels, fraction, 0)
    assert sorted(numbers(rest) + numbers(taken)) == list(range(108))
    for part in (rest, taken):
        assert numbers(part) == sorted(numbers(part)), "the original order is kept"
        assert torch.equal(part.labels, labels[numbers(part)]), "an image keeps its label"


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3, 0.9])
def test_split_is_stratified(fraction):
    counts = [20, 31, 57]
    _, taken = split(*numbered(counts), fraction, 0)
    shares = torch.bincount(taken.labels).tolist()
    assert sum(shares) == round(fraction * sum(counts))
    assert all(abs(share - fraction * count) < 1 for share, count in zip(shares, counts, strict=True))


def test_largest_remainder_by_hand():
    # Quotas 0.7, 0.7, 2.1 and 3.5: whole parts 0, 0, 2, 3; of 7 two are missing, and 0.7 and 0.7 remain most.
    assert apportion([7, 7, 21, 35], 0.1) == [(7, 1), (7, 1), (21, 2), (35, 3)]


def test_seed_decides_the_split():
    images, labels = numbered([40, 60])
    assert numbers(split(images, labels, 0.2, 3)[1]) == numbers(split(images, labels, 0.2, 3)[1])
    assert numbers(split(images, labels, 0.2, 3)[1]) != numbers(split(images, labels, 0.2, 4)[1])


def test_split_refuses_a_class_too_small():
    with pytest.raises(UserError, match=r"^data.validation_fraction: found 0.1, .* 0 of the 1 images of class 'cat'"):
        split(*numbered([100, 1]), 0.1, 0, ["dog", "cat"])
    with pytest.raises(UserError, match="data.validation_fraction: found 1.5"):
        split(*numbered([100, 1]), 1.5, 0)


def test_a_class_number_that_nothing_has_is_no_obstacle():
    rest, taken = split(*numbered([20, 0, 20]), 0.1, 0)
    assert len(rest.labels) == 36 and len(taken.labels) == 4


def test_statistics_equal_those_computed_directly():
    images = torch.randint(0, 256, (50, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(images)
    pixels = images.double().div(255).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), pixels.mean(1), rtol=1e-14, atol=0)
    expected = pixels.std(1, correction=0)
    torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), expected, rtol=1e-13, atol=0)


def test_a_constant_channel_is_refused():
    with pytest.raises(UserError, match="channel 0 has the same value"):
        channel_statistics(torch.full((5, 1, 2, 2), 7, dtype=torch.uint8))


def test_written_and_read_is_the_identity(prepared, tmp_path):
    write(tmp_path / "data.safetensors", prepared)
    again = read(tmp_path / "data.safetensors")
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(again, part).images, getattr(prepared, part).images)
        assert torch.equal(getattr(again, part).labels, getattr(prepared, part).labels)
    for key in ("classes", "mean", "std", "dataset", "source", "split_seed"):
        assert getattr(again, key) == getattr(prepared, key)


def test_equal_content_gives_equal_bytes(prepared, tmp_path):
    write(tmp_path / "one", prepared)
    write(tmp_path / "other", prepared)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def tensors_of(prepared):
    parts = {part: getattr(prepared, part) for part in ("train", "validation", "test")}
    return {f"{part}.{kind}": getattr(value, kind) for part, value in parts.items() for kind in ("images", "labels")}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test.labels", lambda t: t + 1, r"test has the label 3, expected 0 to 2"),
        ("train.labels", lambda t: t - 1, r"train has the label -1, expected 0 to 2"),
        ("train.labels", lambda t: t[1:], r"train has 60 images and 59 labels"),
        ("train.labels", lambda t: t.int(), r"train labels are torch.int32 \(60,\), expected int64"),
        ("validation.images", lambda t: t.float(), r"validation images are torch.float32 \(20, 1, 2, 2\)"),
        ("test.images", lambda t: t[..., :1], r"test images are \(1, 2, 1\), those of train \(1, 2, 2\)"),
        ("test.images", lambda t: t[:0], r"test has 0 images and 20 labels"),
    ],
)
def test_an_inconsistent_file_is_refused(prepared, tmp_path, name, change, message):
    tensors = tensors_of(prepared)
    tensors[name] = change(tensors[name])
    header = {key: getattr(prepared, key) for key in ("classes", "mean", "std", "dataset", "source", "split_seed")}
    path = tmp_path / "data.safetensors"
    write_tensors(path, tensors, {"format": "kdq-data/1", **header})
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_foreign_files_are_refused(prepared, tmp_path):
    path = tmp_path / "data.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read(path)
    write_tensors(path, {"weight": torch.ones(2)}, {"format": "kdq-model/1"})
    with pytest.raises(UserError, match="format 'kdq-model/1', expected 'kdq-data/1'"):
        read(path)
    write_tensors(path, {"weight": torch.ones(2)}, {"format": "kdq-data/1"})
    with pytest.raises(UserError, match=r"tensors \['weight'\], expected"):
        read(path)
    write_tensors(path, tensors_of(prepared), {"format": "kdq-data/1", "classes": []})
    with pytest.raises(UserError, match="mean: field required"):
        read(path)
    write(path, prepared)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        read(path)


def test_a_wrong_preparation_is_not_written(prepared, tmp_path):
    for wrong in (replace(prepared, mean=[0.1, 0.2]), replace(prepared, std=[0.0])):
        with pytest.raises(UserError, match="mean has 2 values|expected positive"):
            write(tmp_path / "data.safetensors", wrong)
    empty = Split(prepared.test.images[:0], prepared.test.labels[:0])
    with pytest.raises(UserError, match="test has 0 images and 0 labels"):
        write(tmp_path / "data.safetensors", replace(prepared, test=empty))
    assert list(tmp_path.iterdir()) == []
