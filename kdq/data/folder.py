"""A folder of images, one folder per class, brought to one size."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from kdq.data.folder_digest import image_folder
from kdq.data.prepared import Raw, Split, split
from kdq.errors import UserError, nearest, reason

TEST_SEED = 0  # the test part does not depend on the seed of the validation split
# Pillow reads more, among them EPS, a program that Ghostscript would run
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def load(settings: dict) -> Raw:
    """Return the images of ``settings["image_folder"]`` as RGB, uint8 (M, 3, image_size, image_size).

    They lie in ``train/<class>/`` and ``test/<class>/``, or in ``<class>/`` alone, and are sorted by class and name;
    without a test part a fixed ``test_fraction`` is split off. Each is turned as its EXIF demands, its middle square is
    scaled (bicubic). Raise UserError for an unreadable image, a class without images or a test class not in train.
    """
    root, size = Path(image_folder(settings)), settings.get("image_size")
    if not isinstance(size, int) or size < 1:
        raise UserError(f"image_size: {size!r}, expected the side of the images in pixels, a positive whole number")
    train_folder, test_folder = find_parts(root)
    files = files_of_classes(train_folder)
    classes = list(files)
    train = read_images(files, classes, size)
    source = {"kind": "image folder", "image_size": size}
    if test_folder:
        files = files_of_classes(test_folder)
        for name in files:
            if name not in classes:
                raise UserError(f"{test_folder / name}: a class that {train_folder}/ lacks{nearest(name, classes)}")
        test = read_images(files, classes, size)
    else:
        source["test_fraction"] = settings.get("test_fraction", 0.2)
        train, test = split(train.images, train.labels, source["test_fraction"], TEST_SEED, classes)
    content = hashlib.sha256()
    for tensor in (train.images, train.labels, test.images, test.labels):
        content.update(tensor.numpy())
    return Raw(train, test, classes, {**source, "sha256": content.hexdigest()})


def find_parts(root: Path) -> tuple[Path, Path | None]:
    """Return the folder of the training classes, and that of the test classes or None."""
    train = root / "train"
    # a class may be called "train": then it holds images, no folders
    if not train.is_dir() or not any(entry.is_dir() for entry in visible(train)):
        return root, None
    for entry in visible(root):
        if entry.is_dir() and entry.name not in ("train", "test"):
            raise UserError(f"{entry}: a folder beside train/, expected at most test/; rename it or move it away")
    return train, root / "test" if (root / "test").is_dir() else None


def visible(folder: Path) -> list[Path]:
    """Return the entries of ``folder`` that are not hidden, sorted by name."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: not readable ({error.strerror})") from None


def files_of_classes(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each class, classes and files sorted by name; raise UserError if there are none."""
    files = {entry.name: visible(entry) for entry in visible(folder) if entry.is_dir()}
    if not files:
        raise UserError(f"{folder}: no images, expected a folder of images for each class")
    for name, images in files.items():
        if not images:
            raise UserError(f"{folder / name}: no images, expected at least one of the class {name!r}")
    return files


def read_images(files: dict[str, list[Path]], classes: list[str], size: int) -> Split:
    """Return the images, uint8 (M, 3, size, size), and labels of ``files`` by class."""
    from tqdm import tqdm

    labelled = [(path, classes.index(name)) for name, paths in files.items() for path in paths]
    images = torch.empty(len(labelled), 3, size, size, dtype=torch.uint8)
    for index, (path, _) in enumerate(tqdm(labelled, desc="images", unit="image", disable=None)):
        images[index] = torch.from_numpy(read_image(path, size))
    return Split(images, torch.tensor([label for _, label in labelled]))


def read_image(path: Path, size: int) -> np.ndarray:
    """Return the middle square of an image, scaled, as RGB, uint8 (3, size, size); raise UserError if unreadable."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise UserError(f"{path}: pixels of mode {image.mode!r}, expected 8 bits per channel; convert it first")
            upright = ImageOps.exif_transpose(image).convert("RGB")
            square = ImageOps.fit(upright, (size, size), method=Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable image ({reason(error)}); mend it or move it away") from None
    return np.asarray(square).transpose(2, 0, 1).copy()
