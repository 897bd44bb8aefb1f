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
from kdq.data.prepared import Raw
from kdq.errors import UserError

LARGEST_BATCH_BYTES = 2**28  # the genuine ones have 155 MB at most


def load(dataset: str, settings: dict) -> Raw:
    """The images of ``dataset`` (``cifar10`` or ``cifar100``, fine labels), uint8 (M, 3, 32, 32), in original order.

    Looks in ``settings["folder"]`` for the extracted files, the archive, then the hub's copy, and downloads where
    ``settings["download"]`` allows it. Whatever the way, pixels and labels are verified against the same SHA-256.
    Raises UserError where nothing is found, or something not genuine is.
    """
    description = DESCRIPTIONS[dataset]
    folder = Path(settings["folder"])
    raw = from_disk(description, folder)
    if raw is None and settings.get("download", False):
        raw = fetch(dataset, description, folder)
    if raw is None:
        raise UserError(
            f"{dataset}: neither {folder / description.folder}/ nor {folder / description.archive} nor "
            f"{folder / description.parquet_folder}/ is there and downloading is off; "
            f"put {description.url} there or allow the download"
        )
    return raw


def from_disk(description: Description, folder: Path) -> Raw | None:
    """The data set from what lies in ``folder``, or None where nothing of it is there."""
    for way, read in (
        (description.folder, from_extracted),
        (description.archive, from_archive),
        (description.parquet_folder, from_parquet),
    ):
        if (folder / way).exists():
            return read(description, folder / way)
    return None


def fetch(dataset: str, description: Description, folder: Path) -> Raw:
    """Download the data set into ``folder`` and read it: the hub's copy, else the original archive.

    The original host sends some 60 kB a second, the hub some hundred times as much. Raises UserError that tells every
    failure and where the user can put the files instead.
    """
    failures = []
    was_there = folder.exists()
    for name, way in (
        (f"hub {description.repository}", fetch_from_hub),
        (description.url, fetch_from_origin),
    ):
        try:
            return way(description, folder)
        except Exception as error:  # whatever ails one way, the next may do
            failures.append(f"{name}: {download.reason(error)}")
    if not was_there:
        with contextlib.suppress(OSError):
            folder.rmdir()
    raise UserError(
        f"{dataset}: not in {folder}/ and not to be downloaded; {'; '.join(failures)}; "
        f"put {description.archive} into {folder}/ yourself"
    )


def fetch_from_hub(description: Description, folder: Path) -> Raw:
    """Download the hub's parquet files; they take their place in ``folder`` once their content is verified."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{description.parquet_folder}.", dir=folder) as aside:
        copy = Path(aside) / description.parquet_folder
        download.hub_files(description.repository, description.revision, description.parquet.values(), copy)
        raw = from_parquet(description, copy)
        shutil.rmtree(copy / ".cache", ignore_errors=True)  # the hub client's notes on this download
        os.replace(copy, folder / description.parquet_folder)
    return raw


def fetch_from_origin(description: Description, folder: Path) -> Raw:
    """Download the original archive; it takes its place in ``folder`` once its checksum is verified."""
    path = folder / description.archive
    download.file(description.url, path, description.archive_md5)
    return from_archive(description, path)


def from_extracted(description: Description, folder: Path) -> Raw:
    """The data set from a folder of original batches."""
    batches = {}
    for name in [*description.train, *description.test]:
        try:
            batches[name] = (folder / name).read_bytes()
        except OSError as error:
            raise UserError(f"{folder / name}: not readable ({error.strerror}), expected a batch of images") from None
    return from_batches(description, folder, batches, "original files")


def from_archive(description: Description, path: Path) -> Raw:
    """The data set from the original archive, which is read where it lies, never extracted."""
    try:
        found = download.md5(path)
    except OSError as error:
        raise UserError(f"{path}: not readable ({error.strerror}), expected the original archive") from None
    if found != description.archive_md5:
        raise UserError(
            f"{path}: MD5 {found} and {path.stat().st_size} bytes, expected MD5 {description.archive_md5}: "
            "truncated or changed; remove it and get it anew"
        )
    wanted = {f"{description.folder}/{name}": name for name in [*description.train, *description.test]}
    batches = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if member.name in wanted and member.isfile() and member.size <= LARGEST_BATCH_BYTES:
                    batches[wanted[member.name]] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: not readable as an archive ({download.reason(error)})") from None
    if missing := sorted(set(wanted.values()) - set(batches)):
        raise UserError(f"{path}: lacks {missing[0]}, expected {description.folder}/{missing[0]}")
    return from_batches(description, path, batches, "original archive")


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays among plain values and refuses every other type.

    A batch's MD5 is checked first, but MD5 does not resist somebody who wants two files to share one.
    """

    ADMITTED = {
        # As numpy names it since version 2, and before.
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        """The admitted type of this name; raises UnpicklingError for any other."""
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}") from None


def from_batches(description: Description, path: Path, batches: dict[str, bytes], kind: str) -> Raw:
    """The data set from the bytes of its batches by name, each checked against its MD5 before it is unpickled."""
    parts = {}
    for part, checksums in (("train", description.train), ("test", description.test)):
        images, labels = [], []
        for name, md5 in checksums.items():
            content = batches[name]
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found != md5:
                raise UserError(
                    f"{path}: {name} has MD5 {found} and {len(content)} bytes, expected MD5 {md5}: "
                    "truncated or changed; remove it and get it anew"
                )
            try:
                batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
                images.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
                labels.append(np.asarray(batch[description.label_key], dtype=np.uint8))
            except Exception as error:  # of many kinds, whatever the bytes happen to mean
                raise UserError(f"{path}: {name} is not a batch of images ({download.reason(error)})") from None
        parts[part] = np.concatenate(images), np.concatenate(labels)
    return to_raw(description, path, parts, {"kind": kind})


def from_parquet(description: Description, folder: Path) -> Raw:
    """The data set from the hub's copy: one parquet file a part, each row a PNG and a label."""
    import pyarrow
    import pyarrow.parquet

    parts = {}
    for part, name in description.parquet.items():
        path = folder / name
        try:
            table = pyarrow.parquet.read_table(path, columns=["img", description.label_column])
            pngs = [row["bytes"] for row in table["img"].to_pylist()]
            labels = table[description.label_column].to_numpy().astype(np.uint8)
            images = np.stack([decode(png) for png in pngs])
        except (OSError, KeyError, SyntaxError, TypeError, ValueError, OverflowError, pyarrow.ArrowException) as error:
            raise UserError(f"{path}: not a readable copy of the images ({download.reason(error)})") from None
        parts[part] = images, labels
    source = {"kind": "hub", "repository": description.repository, "revision": description.revision}
    return to_raw(description, folder, parts, source)


def decode(png: bytes) -> np.ndarray:
    """The pixels of one PNG as uint8 (3, 32, 32)."""
    from PIL import Image

    image = Image.open(io.BytesIO(png), formats=["PNG"])
    if image.size != (32, 32):  # before anything is unpacked
        raise ValueError(f"an image of {image.size} pixels, expected (32, 32)")
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def to_raw(description: Description, path: Path, parts: dict, source: dict) -> Raw:
    """``parts`` (images, labels) by name, verified and in their original order, as a Raw."""
    tensors = {}
    for part in PARTS:
        images, labels = restore_order(path, part, *parts[part], description.blocks[part])
        tensors[f"{part}_images"] = torch.from_numpy(images)
        tensors[f"{part}_labels"] = torch.from_numpy(labels.astype(np.int64))
    content = hashlib.sha256("".join(description.blocks["train"] + description.blocks["test"]).encode()).hexdigest()
    return Raw(**tensors, classes=list(description.classes), source={**source, "sha256": content})


def restore_order(path, part: str, images: np.ndarray, labels: np.ndarray, blocks: tuple[str, ...]):
    """Images (M, 3, 32, 32) and labels (M,) with their blocks in the original order.

    The hub's copy holds the batches of CIFAR-10 in the order in which they lie in the archive (4, 3, 2, 5, 1); put
    right, every way gives the same split. Raises UserError where a block is not genuine.
    """
    size = max(1, len(images) // len(blocks))
    found = {}
    for start in range(0, len(images), size):
        part_of = slice(start, start + size)
        digest = hashlib.sha256(labels[part_of].tobytes())
        digest.update(np.ascontiguousarray(images[part_of]))
        found[digest.hexdigest()] = part_of
    if sorted(found) != sorted(blocks):
        genuine = len(set(found) & set(blocks))
        raise UserError(
            f"{path}: {part} has {len(images)} images, of which {genuine} of {len(blocks)} blocks have the SHA-256 of "
            "the genuine data; expected all"
        )
    order = [found[digest] for digest in blocks]
    return np.concatenate([images[block] for block in order]), np.concatenate([labels[block] for block in order])
