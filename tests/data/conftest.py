"""A data set in the shape of CIFAR-10, but of sixteen images, in every form in which the genuine one is found."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from kdq.data.sets import cifar

IMAGES_A_BATCH = 4
TRAIN_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3")
BATCHES = (*TRAIN_BATCHES, "test_batch")


class Tiny:
    """Images and labels of each batch, and their pickles, as original, archive and parquet files."""

    def __init__(self):
        random = np.random.default_rng(0)
        size = IMAGES_A_BATCH
        self.images = {name: random.integers(0, 256, (size, 3, 32, 32), dtype=np.uint8) for name in BATCHES}
        self.labels = {name: random.integers(0, 10, size, dtype=np.uint8) for name in BATCHES}
        self.pickles = {
            name: pickle.dumps(
                {"data": self.images[name].reshape(size, -1), "labels": self.labels[name].tolist()}, protocol=4
            )
            for name in BATCHES
        }
        self.archive = self.make_archive()

    def make_archive(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name in ("data_batch_3", "test_batch", "data_batch_1", "data_batch_2"):
                member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                member.size = len(self.pickles[name])
                archive.addfile(member, io.BytesIO(self.pickles[name]))
        return buffer.getvalue()

    def parquet(self, names) -> bytes:
        """The parquet file of the batches ``names``, in the order given."""
        import pyarrow
        import pyarrow.parquet
        from PIL import Image

        rows, labels = [], []
        for name in names:
            for image in self.images[name]:
                buffer = io.BytesIO()
                Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "png")
                rows.append({"bytes": buffer.getvalue(), "path": None})
            labels += self.labels[name].tolist()
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"img": rows, "label": labels}), buffer)
        return buffer.getvalue()

    def description(self):
        """The description of CIFAR-10 with the checksums of this data set."""

        def md5s(names):
            return {name: hashlib.md5(self.pickles[name]).hexdigest() for name in names}

        def blocks(names):
            content = (self.labels[name].tobytes() + self.images[name].tobytes() for name in names)
            return tuple(hashlib.sha256(block).hexdigest() for block in content)

        return replace(
            cifar.DESCRIPTIONS["cifar10"],
            train=md5s(TRAIN_BATCHES),
            test=md5s(["test_batch"]),
            archive_md5=hashlib.md5(self.archive).hexdigest(),
            blocks={"train": blocks(TRAIN_BATCHES), "test": blocks(["test_batch"])},
        )

    def extract(self, folder):
        """Write the batches as torchvision extracts them."""
        (folder / "cifar-10-batches-py").mkdir(parents=True)
        for name, content in self.pickles.items():
            (folder / "cifar-10-batches-py" / name).write_bytes(content)

    def assert_is(self, raw):
        """Pixels and labels of both parts equal ours, in the original order."""
        for names, images, labels in (
            (TRAIN_BATCHES, raw.train.images, raw.train.labels),
            (["test_batch"], raw.test.images, raw.test.labels),
        ):
            assert np.array_equal(images.numpy(), np.concatenate([self.images[name] for name in names]))
            assert np.array_equal(labels.numpy(), np.concatenate([self.labels[name] for name in names]))


@pytest.fixture
def tiny(monkeypatch):
    """The tiny data set, in the place of CIFAR-10."""
    tiny = Tiny()
    monkeypatch.setitem(cifar.DESCRIPTIONS, "cifar10", tiny.description())
    return tiny
