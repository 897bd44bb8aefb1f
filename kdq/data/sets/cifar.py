"""CIFAR-10 and CIFAR-100 from the original files, wherever they came from, with their content verified.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import contextlib
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch

from kdq.data import download
from kdq.data.cifar_files import DESCRIPTIONS, PARTS, Description
from kdq.data.data_sets import Declared, Images
from kdq.data.prepared import Raw, Split
from kdq.errors import UserError, reason
from kdq.provenance import regular_file

LARGEST_BATCH_BYTES = 2**28  # the genuine ones have 155 MB at most


class DataSets(Declared):
    """CIFAR-10 and CIFAR-100."""

    sizes = {"cifar10": Images(60000, 32, 3, 10), "cifar100": Images(60000, 32, 3, 100)}


def load(dataset: str, settings: dict) -> Raw:
    """Return the images of ``dataset`` (``cifar10`` or ``cifar100``, fine labels), uint8 (M, 3, 32, 32).

    Read the extracted files in ``settings["folder"]``, else the archive, else the hub's copy; if there is none, and
    ``settings["download"]`` allows it, download one. All give the same images in the original order, verified against
    the same SHA-256. Raise UserError if nothing is there or anything is not genuine.
    """
    description, folder = DESCRIPTIONS[dataset], Path(settings["folder"])
    for name, read in (
        (description.folder, from_extracted),
        (description.archive, from_archive),
        (description.parquet_folder, from_parquet),
    ):
        if os.path.lexists(folder / name):  # a link that leads nowhere is an error, no reason to download
            return read(description, folder / name)
    if settings.get("download", False):
        return fetch(dataset, description, folder)
    raise UserError(
        f"{dataset}: neither {folder / description.folder}/ nor {folder / description.archive} nor "
        f"{folder / description.parquet_folder}/ is there and downloading is off; "
        f"put {description.url} there or allow the download"
    )


def fetch(dataset: str, description: Description, folder: Path) -> Raw:
    """Download the data set into ``folder`` and read it: the hub's copy, else the original archive.

    The original host sends about 60 kB/s, the hub about a hundred times as much. Raise UserError with every failure and
    the folder in which the user can put the files instead.
    """
    failures, existed = [], folder.exists()
    for name, source in ((f"hub {description.repository}", fetch_from_hub), (description.url, fetch_from_origin)):
        try:
            return source(description, folder)
        except Exception as error:  # of any kind: the next source may work
            failures.append(f"{name}: {reason(error)}")
    if not existed:
        with contextlib.suppress(OSError):
            folder.rmdir()
    raise UserError(
        f"{dataset}: not in {folder}/ and not to be downloaded; {'; '.join(failures)}; "
        f"put {description.archive} into {folder}/ yourself"
    )


def fetch_from_hub(description: Description, folder: Path) -> Raw:
    """Download the hub's parquet files; move them into ``folder`` once their content is verified."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{description.parquet_folder}.", dir=folder) as aside:
        copy = Path(aside) / description.parquet_folder
        options = {"repo_type": "dataset", "local_dir": copy, "token": False}  # public data: no login is sent
        for name in description.parquet.values():
            download.hub_file(description.repository, description.revision, name, **options)
        raw = from_parquet(description, copy)
        shutil.rmtree(copy / ".cache", ignore_errors=True)  # the hub client's notes on this download
        os.replace(copy, folder / description.parquet_folder)
    return raw


def fetch_from_origin(description: Description, folder: Path) -> Raw:
    """Download the original archive; it is in ``folder`` only once its checksum is verified."""
    path = folder / description.archive
    download.file(description.url, path, description.archive_md5)
    return from_archive(description, path)


def from_extracted(description: Description, folder: Path) -> Raw:
    names = [*description.train, *description.test]
    batches = {name: regular_file.read(folder / name, "a batch of images", LARGEST_BATCH_BYTES) for name in names}
    return from_batches(description, folder, batches, "original files")


def from_archive(description: Description, path: Path) -> Raw:
    """Read the original archive in place, without extracting it."""
    regular_file.require(path, "the original archive", download.MOST_BYTES)
    try:
        check_md5(path, download.md5(path), path.stat().st_size, description.archive_md5)
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}), expected the original archive") from None
    wanted = {f"{description.folder}/{name}": name for name in [*description.train, *description.test]}
    batches = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.name in wanted and member.isfile() and member.size <= LARGEST_BATCH_BYTES:
                    batches[wanted[member.name]] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: not readable as an archive ({reason(error)})") from None
    if missing := sorted(set(wanted.values()) - set(batches)):
        raise UserError(f"{path}: lacks {missing[0]}, expected {description.folder}/{missing[0]}")
    return from_batches(description, path, batches, "original archive")


def check_md5(what, found: str, size_bytes: int, expected: str) -> None:
    if found != expected:
        raise UserError(
            f"{what}: MD5 {found} and {size_bytes} bytes, expected MD5 {expected}: "
            "truncated or changed; delete it and download it again"
        )


class ArrayUnpickler(pickle.Unpickler):
    """Unpickle numpy arrays among plain values; refuse any other type.

    A batch's MD5 is checked first, but anybody can make two files of the same MD5.
    """

    ADMITTED = {
        # numpy's name since version 2, and before
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}") from None


def from_batches(description: Description, path: Path, batches: dict[str, bytes], kind: str) -> Raw:
    """Return the data set in the bytes of its batches by name; check the MD5 of each before it is unpickled."""
    parts = {}
    for part, checksums in (("train", description.train), ("test", description.test)):
        images, labels = [], []
        for name, expected in checksums.items():
            content = batches[name]
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            check_md5(f"{path}: {name}", found, len(content), expected)
            try:
                batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
                images.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
                labels.append(np.asarray(batch[description.label_key], dtype=np.uint8))
            except Exception as error:  # of many kinds, whatever the bytes mean to pickle
                raise UserError(f"{path}: {name} is not a batch of images ({reason(error)})") from None
        parts[part] = np.concatenate(images), np.concatenate(labels)
    return to_raw(description, path, parts, {"kind": kind})


def from_parquet(description: Description, folder: Path) -> Raw:
    """Return the data set in the hub's copy: one parquet file per part, one PNG and label per row."""
    import pyarrow
    import pyarrow.parquet

    parts = {}
    for part, name in description.parquet.items():
        path = folder / name
        regular_file.require(path, "a copy of the images", download.MOST_BYTES)
        try:
            table = pyarrow.parquet.read_table(path, columns=["img", description.label_column])
            images = np.stack([decode(row["bytes"]) for row in table["img"].to_pylist()])
            parts[part] = images, table[description.label_column].to_numpy().astype(np.uint8)
        except (OSError, KeyError, SyntaxError, TypeError, ValueError, OverflowError, pyarrow.ArrowException) as error:
            raise UserError(f"{path}: not a readable copy of the images ({reason(error)})") from None
    source = {"kind": "hub", "repository": description.repository, "revision": description.revision}
    return to_raw(description, folder, parts, source)


def decode(png: bytes) -> np.ndarray:
    """Return the pixels of a PNG, uint8 (3, 32, 32)."""
    from PIL import Image

    image = Image.open(io.BytesIO(png), formats=["PNG"])
    if image.size != (32, 32):  # before anything is unpacked
        raise ValueError(f"an image of {image.size} pixels, expected (32, 32)")
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def to_raw(description: Description, path: Path, parts: dict, source: dict) -> Raw:
    """Verify ``parts`` (images, labels) by name and bring them into their original order."""
    splits = [restore_order(path, part, *parts[part], description.blocks[part]) for part in PARTS]
    content = hashlib.sha256("".join(description.blocks["train"] + description.blocks["test"]).encode()).hexdigest()
    return Raw(*splits, classes=list(description.classes), source={**source, "sha256": content})


def restore_order(path, part: str, images: np.ndarray, labels: np.ndarray, blocks: tuple[str, ...]) -> Split:
    """Return images (M, 3, 32, 32) and labels (M,) with their blocks in the original order.

    The hub's copy has the batches of CIFAR-10 in the order of the archive (4, 3, 2, 5, 1); in the original order, all
    copies give the same split. Raise UserError if a block is not genuine.
    """
    size = max(1, len(images) // len(blocks))
    places = {}
    for start in range(0, len(images), size):
        place = slice(start, start + size)
        digest = hashlib.sha256(labels[place].tobytes())
        digest.update(np.ascontiguousarray(images[place]))
        places[digest.hexdigest()] = place
    if sorted(places) != sorted(blocks):
        genuine = len(set(places) & set(blocks))
        raise UserError(
            f"{path}: {part} has {len(images)} images, of which {genuine} of {len(blocks)} blocks have the SHA-256 of "
            "the genuine data; expected all"
        )
    order = np.r_[*(places[digest] for digest in blocks)]
    return Split(torch.from_numpy(images[order]), torch.from_numpy(labels[order].astype(np.int64)))
