"""The files of an image folder: which are read, in which order, and which are left out. Planning reads this too."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from kdq.errors import UserError, nearest
from kdq.provenance.regular_file import FILE, FOLDER, kind

Classes = dict[str, list[str]]  # the paths of each class's images


@dataclass(frozen=True)
class ImageFiles:
    """The images of each class, classes and images in the order of the bytes of their names.

    ``test`` is empty if the folder has no test part. ``loose`` counts the files beside the classes' folders, ``hidden``
    the names that begin with a dot: neither are read.
    """

    train: Classes
    test: Classes
    loose: int
    hidden: int

    def of_classes(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield part, class and paths in the order in which the images are read."""
        for part in ("train", "test"):
            for name, paths in getattr(self, part).items():
                yield part, name, paths


class Listing:
    """Lists folders, and counts what is left out."""

    def __init__(self):
        self.loose = self.hidden = 0

    def visible(self, folder: str) -> list[os.DirEntry]:
        """Return the entries of ``folder`` that are not hidden, by the bytes of their names, whatever the locale."""
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise UserError(f"{folder}: not readable ({error.strerror})") from None
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        self.hidden += len(entries) - len(shown)
        return sorted(shown, key=lambda entry: os.fsencode(entry.name))

    def folders(self, folder: str) -> list[os.DirEntry]:
        """Return the folders in ``folder``; raise UserError for what is neither a folder nor a file."""
        kinds = {entry: kind(entry.path) for entry in self.visible(folder)}
        for entry, lies_there in kinds.items():
            if lies_there not in (FOLDER, FILE):
                raise UserError(f"{entry.path}: found {lies_there}, expected a folder of images")
        self.loose += sum(lies_there == FILE for lies_there in kinds.values())
        return [entry for entry, lies_there in kinds.items() if lies_there == FOLDER]

    def images(self, folder: str) -> list[str]:
        """Return the paths of the images of a class; raise UserError if there are none or one is no file."""
        paths = []
        for entry in self.visible(folder):
            # most file systems tell the kind with the name, which saves a call per image
            if not entry.is_file(follow_symlinks=False) and (lies_there := kind(entry.path)) != FILE:
                raise UserError(f"{entry.path}: found {lies_there}, expected an image; mend it or move it away")
            paths.append(entry.path)
        if not paths:
            name = os.path.basename(folder)
            raise UserError(f"{folder}: no images, expected at least one of the class {name!r}")
        return paths

    def classes(self, folder: str) -> Classes:
        """Return the images of each class with a folder in ``folder``; raise UserError if there are none."""
        classes = {entry.name: self.images(entry.path) for entry in self.folders(folder)}
        if not classes:
            raise UserError(f"{folder}: no images, expected a folder of images for each class")
        return classes


def image_folder(settings: dict) -> str:
    """Return the path of the image folder; raise UserError if the key or the folder is missing."""
    root = settings.get("image_folder")
    if not root:
        raise UserError("image_folder: missing, expected the path of a folder of images for the data set 'folder'")
    if not os.path.isdir(root):
        raise UserError(f"image_folder: {root} is not a folder, expected one with a folder of images for each class")
    return str(root)


def image_files(settings: dict) -> ImageFiles:
    """Return the files of ``settings["image_folder"]``: in ``train/<class>/`` and ``test/<class>/``, or ``<class>/``.

    Raise UserError for a class without images, a test class that is not in train, and for anything that is neither a
    file nor a folder.
    """
    root = image_folder(settings)
    listing = Listing()
    has_parts, has_test = _parts(root, listing)
    train_folder, test_folder = os.path.join(root, "train"), os.path.join(root, "test")
    train = listing.classes(train_folder if has_parts else root)
    if len(train) < 2:
        name, folder = *train, train_folder if has_parts else root
        raise UserError(f"{folder}: found one folder, {name!r}, expected one for each of at least two classes")
    test = listing.classes(test_folder) if has_test else {}
    for name in test:
        if name not in train:
            raise UserError(
                f"{os.path.join(test_folder, name)}: a class that {train_folder}/ lacks{nearest(name, train)}"
            )
    return ImageFiles(train, test, listing.loose, listing.hidden)


def counts(settings: dict) -> tuple[int, int]:
    """Return the numbers of images and classes in ``settings["image_folder"]``; raise likewise."""
    files = image_files(settings)
    return sum(len(paths) for _, _, paths in files.of_classes()), len(files.train)


def _parts(root: str, listing: Listing) -> tuple[bool, bool]:
    """Return whether ``root`` has a folder of training classes, and whether it has one of test classes beside it."""
    train = os.path.join(root, "train")
    # a class may be called "train": then it holds images, no folders
    if not os.path.isdir(train) or not any(kind(entry.path) == FOLDER for entry in Listing().visible(train)):
        return False, False
    names = [entry.name for entry in listing.folders(root)]
    if strays := sorted(set(names) - {"train", "test"}):
        path = os.path.join(root, strays[0])
        raise UserError(f"{path}: a folder beside train/, expected at most test/; rename it or move it away")
    test = os.path.join(root, "test")
    if os.path.lexists(test) and "test" not in names:
        raise UserError(f"{test}: found {kind(test)}, expected a folder with a folder of images for each class")
    return True, "test" in names
