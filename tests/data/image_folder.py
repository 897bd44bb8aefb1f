"""A folder of small images."""

import pytest
from PIL import Image


def paint(path, colour, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def settings(root, **others):
    return {"image_folder": str(root), "image_size": 8, "test_fraction": 0.25, **others}


@pytest.fixture
def both(tmp_path):
    """Train and test parts of two classes; red and blue of an image are its number, green is its class."""
    root = tmp_path / "both"
    for number in range(6):
        for label, name in enumerate(["cat", "dog"]):
            paint(root / f"train/{name}/{number}.png", (number, label, number))
    paint(root / "test/dog/0.png", (100, 1, 0))
    paint(root / "test/cat/0.png", (100, 0, 0))
    return root
