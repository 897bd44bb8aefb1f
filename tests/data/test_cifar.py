"""CIFAR from every form in which it is found; the genuine data equal torchvision's, bit for bit."""

import hashlib
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kdq.data.sets import cifar
from kdq.errors import UserError

GENUINE = os.environ.get("KDQ_CIFAR")
needs_genuine = pytest.mark.skipif(not GENUINE, reason="KDQ_CIFAR names no folder with the genuine CIFAR files")


def refused(folder, message):
    with pytest.raises(UserError, match=message) as caught:
        cifar.load("cifar10", {"folder": str(folder), "download": False})
    assert "\n" not in str(caught.value)


def test_extracted_files(tiny, tmp_path):
    tiny.extract(tmp_path)
    raw = cifar.load("cifar10", {"folder": str(tmp_path)})
    tiny.assert_is(raw)
    assert raw.classes[3] == "cat" and raw.source["kind"] == "original files"


def test_archive_is_read_where_it_lies(tiny, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(tiny.archive)
    tiny.assert_is(cifar.load("cifar10", {"folder": str(tmp_path)}))
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]


def write_parquet(tiny, folder, train):
    (folder / "cifar10-parquet/plain_text").mkdir(parents=True)
    for part, names in (("train", train), ("test", ["test_batch"])):
        path = folder / f"cifar10-parquet/plain_text/{part}-00000-of-00001.parquet"
        path.write_bytes(tiny.parquet(names))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_parquet_comes_in_the_original_order(tiny, tmp_path, order):
    write_parquet(tiny, tmp_path, [f"data_batch_{number}" for number in order])
    tiny.assert_is(cifar.load("cifar10", {"folder": str(tmp_path)}))


def test_changed_parquet_is_refused(tiny, tmp_path):
    tiny.images["data_batch_2"][1, 0, 5, 5] ^= 1
    write_parquet(tiny, tmp_path, ["data_batch_1", "data_batch_2", "data_batch_3"])
    refused(tmp_path, "train has 12 images, of which 2 of 3 blocks have the SHA-256")


def test_mislabelled_parquet_is_refused(tiny, tmp_path):
    tiny.labels["test_batch"][0] = (tiny.labels["test_batch"][0] + 1) % 10
    write_parquet(tiny, tmp_path, ["data_batch_1", "data_batch_2", "data_batch_3"])
    refused(tmp_path, "test has 4 images, of which 0 of 1 blocks")


def test_truncated_parquet_is_refused(tiny, tmp_path):
    write_parquet(tiny, tmp_path, ["data_batch_1", "data_batch_2", "data_batch_3"])
    path = tmp_path / "cifar10-parquet/plain_text/test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    refused(tmp_path, "test-00000-of-00001.parquet: not a readable copy of the images")


def test_nothing_there(tiny, tmp_path):
    refused(tmp_path, "cifar10: neither .*cifar-10-batches-py/ nor .*cifar-10-python.tar.gz .*downloading is off")


def test_missing_batch(tiny, tmp_path):
    tiny.extract(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_2").unlink()
    refused(tmp_path, "data_batch_2: found nothing, expected a batch of images")


def test_truncated_batch(tiny, tmp_path):
    tiny.extract(tmp_path)
    path = tmp_path / "cifar-10-batches-py/test_batch"
    path.write_bytes(path.read_bytes()[:1000])
    refused(tmp_path, "test_batch: MD5 [0-9a-f]{32} and 1000 bytes, expected MD5 .*truncated or changed")


def test_truncated_archive(tiny, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(tiny.archive[:-1])
    refused(tmp_path, "cifar-10-python.tar.gz: MD5 .*truncated or changed")


def plant(tiny, monkeypatch, folder, content):
    """A batch of our own with a checksum to match, as somebody could who breaks MD5."""
    tiny.pickles["test_batch"] = content
    tiny.extract(folder)
    honest = cifar.DESCRIPTIONS["cifar10"]
    planted = replace(honest, test={"test_batch": hashlib.md5(content).hexdigest()})
    monkeypatch.setitem(cifar.DESCRIPTIONS, "cifar10", planted)


def test_a_pickle_that_calls_something_is_refused(tiny, tmp_path, monkeypatch):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    plant(tiny, monkeypatch, tmp_path, pickle.dumps(Payload()))
    refused(tmp_path, "test_batch is not a batch of images .refused to load posix.mkdir")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [{"labels": [1]}, {"data": np.zeros(5), "labels": [1]}, [1, 2]])
def test_a_pickle_of_something_else_is_refused(tiny, tmp_path, monkeypatch, content):
    plant(tiny, monkeypatch, tmp_path, pickle.dumps(content, protocol=4))
    refused(tmp_path, "test_batch is not a batch of images")


@needs_genuine
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_genuine_files_equal_torchvisions(dataset):
    torchvision = pytest.importorskip("torchvision")
    loader = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}[dataset]
    raw = cifar.load(dataset, {"folder": GENUINE})
    assert raw.train.images.shape == (50_000, 3, 32, 32) and raw.test.images.shape == (10_000, 3, 32, 32)
    for train, images, labels in (
        (True, raw.train.images, raw.train.labels),
        (False, raw.test.images, raw.test.labels),
    ):
        theirs = loader(GENUINE, train=train)
        assert np.array_equal(images.numpy(), theirs.data.transpose(0, 3, 1, 2))
        assert labels.tolist() == list(theirs.targets)
        assert raw.classes == theirs.classes
    description = cifar.DESCRIPTIONS[dataset]
    assert (description.archive, description.url) == (loader.filename, loader.url)
    assert description.archive_md5 == loader.tgz_md5
    assert {**description.train, **description.test} == dict(loader.train_list + loader.test_list)


@needs_genuine
def test_a_genuine_file_cut_short_is_refused(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for path in Path(GENUINE, "cifar-10-batches-py").iterdir():
        (folder / path.name).symlink_to(path.resolve())
    (folder / "data_batch_1").unlink()
    (folder / "data_batch_1").write_bytes(Path(GENUINE, "cifar-10-batches-py/data_batch_1").read_bytes()[:-1])
    refused(tmp_path, "data_batch_1: MD5 .* and 31035703 bytes, expected MD5 c99cafc152244af753f735de768cd75f")


def replace_by(path, what: str) -> None:
    path.unlink(missing_ok=True) if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    match what:
        case "a FIFO":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "a device":
            path.symlink_to("/dev/zero")
        case "a link to missing, which does not exist":
            path.symlink_to("missing")
        case "too many levels of symbolic links":
            path.symlink_to(path)


@pytest.mark.parametrize(
    "what", ["a FIFO", "a device", "a link to missing, which does not exist", "too many levels of symbolic links"]
)
@pytest.mark.parametrize(
    "name",
    [
        "cifar-10-batches-py/data_batch_2",
        "cifar-10-batches-py/test_batch",
        "cifar-10-python.tar.gz",
        "cifar10-parquet/plain_text/train-00000-of-00001.parquet",
    ],
)
def test_only_files_are_read(tiny, tmp_path, name, what):
    if name.startswith("cifar-10-batches"):
        tiny.extract(tmp_path)
    replace_by(tmp_path / name, what)
    refused(tmp_path, f"{name}: .*{what}.*, expected ")


def test_a_folder_is_no_file(tiny, tmp_path):
    replace_by(tmp_path / "cifar-10-python.tar.gz", "a folder")
    refused(tmp_path, "cifar-10-python.tar.gz: found a folder, expected the original archive")


def test_an_endless_file_is_not_read(tiny, tmp_path):
    tiny.extract(tmp_path)
    with open(tmp_path / "cifar-10-batches-py/data_batch_1", "wb") as file:
        file.truncate(2**40)  # without any block on the disk
    refused(tmp_path, "data_batch_1: found 1,099,511,627,776 bytes, expected a batch of images of at most 268,435,456")


def test_a_link_that_leads_nowhere_is_no_reason_to_download(tiny, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").symlink_to("not mounted")
    with pytest.raises(UserError, match="found a link to not mounted, which does not exist"):
        cifar.load("cifar10", {"folder": str(tmp_path), "download": True})
