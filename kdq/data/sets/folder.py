"""A folder of images, one folder per class, brought to one size."""

import hashlib
from collections import Counter

import torch

from kdq.data.data_sets import Declared
from kdq.data.folder_digest import class_digest, combined
from kdq.data.folder_files import ImageFiles, image_files, image_folder
from kdq.data.image_file import read_image
from kdq.data.prepared import Raw, Split, split
from kdq.data.room import room
from kdq.errors import UserError

TEST_SEED = 0  # the test part does not depend on the seed of the validation split


class DataSets(Declared):
    """The images of ``data.image_folder``."""

    sizes = {"folder": None}
    keys = ("validation_fraction", "test_fraction", "image_size")


def load(dataset: str, settings: dict) -> Raw:
    """Return the images of ``settings["image_folder"]`` as RGB, uint8 (M, 3, image_size, image_size).

    They are sorted by class and name, see :mod:`kdq.data.folder_files`, and read by
    :func:`kdq.data.image_file.read_image`; without a test part a fixed ``test_fraction`` is split off. Raise UserError
    as these do, and if the digest of what was read is not ``settings["images"]``, with which the job was planned.
    """
    size = settings.get("image_size")
    if not isinstance(size, int) or size < 1:
        raise UserError(f"image_size: {size!r}, expected the side of the images in pixels, a positive whole number")
    files = image_files(settings)
    parts, digest, notable = read_images(files, size)
    if settings.get("images", digest) != digest:
        raise UserError(
            f"{image_folder(settings)}: its images changed after this run was planned; start snakemake again, "
            "it will plan with the images as they are now"
        )
    source = {"kind": "image folder", "image_size": size}
    train, test, classes = parts["train"], parts["test"], list(files.train)
    if not files.test:
        source["test_fraction"] = settings.get("test_fraction", 0.2)
        train, test = split(train.images, train.labels, source["test_fraction"], TEST_SEED, classes, "test")
    content = hashlib.sha256()
    for tensor in (train.images, train.labels, test.images, test.labels):
        content.update(tensor.numpy())
    source |= {"sha256": content.hexdigest(), "notable": dict(notable)}
    return Raw(train, test, classes, source, notes=notes(files, notable))


def read_images(files: ImageFiles, size: int) -> tuple[dict[str, Split], str, Counter]:
    """Return the images of each part, uint8 (M, 3, size, size), and their labels; their digest; what is notable."""
    from tqdm import tqdm

    labelled = [(part, name, path) for part, name, paths in files.of_classes() for path in paths]
    classes, counts = list(files.train), Counter(part for part, _, _ in labelled)
    images = {part: room(counts[part], 3, size, size) for part in ("train", "test")}
    labels: dict[str, list[int]] = {part: [] for part in images}
    digests: dict[tuple[str, str], list[str]] = {}
    notable = Counter()
    for part, name, path in tqdm(labelled, desc="images", unit="image", disable=None):
        picture = read_image(path, size)
        images[part][len(labels[part])] = torch.from_numpy(picture.pixels)
        labels[part].append(classes.index(name))
        digests.setdefault((part, name), []).append(picture.sha256)
        notable.update(picture.notes)
    parts = {part: Split(images[part], torch.tensor(labels[part], dtype=torch.int64)) for part in images}
    return parts, combined({key: class_digest(values) for key, values in digests.items()}), notable


def notes(files: ImageFiles, notable: Counter) -> list[str]:
    """Return lines for the log: what is left out, and how many images have what is notable."""
    lines = [f"{count:,} images: {what}" for what, count in sorted(notable.items())]
    if files.loose:
        lines.append(f"left out: {files.loose:,} files beside the folders of images")
    if files.hidden:
        lines.append(f"left out: {files.hidden:,} hidden files and folders")
    return lines
