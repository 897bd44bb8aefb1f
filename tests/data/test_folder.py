"""Image folders: what is read, in which order, and what is refused by name."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from kdq.data.catalog import prepare
from kdq.data.folder import load
from kdq.data.folder_digest import counts, folder_digest
from kdq.errors import UserError


def paint(path, colour, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def settings(root, **others):
    return {"image_folder": str(root), "image_size": 8, "test_fraction": 0.25, **others}


@pytest.fixture
def both(tmp_path):
    """Train and test parts of two classes; red and blue of an image are its number, green is its class."""
    for number in range(6):
        for label, name in enumerate(["cat", "dog"]):
            paint(tmp_path / f"train/{name}/{number}.png", (number, label, number))
    paint(tmp_path / "test/dog/0.png", (100, 1, 0))
    paint(tmp_path / "test/cat/0.png", (100, 0, 0))
    return tmp_path


def refused(root, message, **others):
    with pytest.raises(UserError, match=message) as caught:
        load(settings(root, **others))
    assert "\n" not in str(caught.value)


def test_train_and_test_parts(both):
    raw = load(settings(both))
    assert raw.classes == ["cat", "dog"]
    assert raw.train.images.shape == (12, 3, 8, 8) and raw.train.images.dtype == torch.uint8
    assert raw.train.images[:, 0, 0, 0].tolist() == [*range(6), *range(6)], "sorted by class and name"
    assert torch.equal(raw.train.images[:, 1, 0, 0].long(), raw.train.labels)
    assert raw.test.images[:, 0, 0, 0].tolist() == [100, 100] and raw.test.labels.tolist() == [0, 1]


def test_same_images_whatever_the_order_on_disk(both, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for path in sorted((path for path in both.rglob("*.png")), reverse=True):
        target = other / path.relative_to(both)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    assert load(settings(both)).source == load(settings(other)).source


def test_without_a_test_part_a_fixed_one_is_split_off(both):
    for folder in (both / "train", both):
        if folder == both:
            for path in sorted((both / "test").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (both / "test").rmdir()
        raw = load(settings(folder))
        assert len(raw.train.labels) == 9 and len(raw.test.labels) == 3
        tests = [prepare("folder", settings(folder), 0.3, seed).test.images for seed in (0, 1)]
        assert torch.equal(*tests), "the seed of the validation split leaves the test part alone"
        assert torch.equal(tests[0], raw.test.images)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "car"):
        for number in range(4):
            paint(tmp_path / name / f"{number}.png", (number, 0, 0))
    assert load(settings(tmp_path)).classes == ["car", "train"]


def test_middle_square_of_the_shorter_side(tmp_path):
    pixels = np.zeros((4, 10, 3), dtype=np.uint8)
    pixels[:, 3:7] = np.random.default_rng(0).integers(0, 256, (4, 4, 3))
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "test/cat/wide.png")
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    raw = load(settings(tmp_path, image_size=4))
    assert np.array_equal(raw.test.images[0].numpy(), pixels[:, 3:7].transpose(2, 0, 1))


def test_scaled_bicubically(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "test/cat/large.png")
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC))
    assert np.array_equal(load(settings(tmp_path)).test.images[0].numpy(), expected.transpose(2, 0, 1))


def test_turned_as_exif_says(tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "test/cat/turned.png", exif=exif)
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    assert np.array_equal(load(settings(tmp_path)).test.images[0].numpy(), upright.transpose(2, 0, 1))


def test_grey_and_palette_become_rgb(tmp_path):
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.new("L", (8, 8), 77).save(tmp_path / "test/cat/grey.png")
    Image.new("RGB", (8, 8), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "test/cat/p.png")
    raw = load(settings(tmp_path))
    assert raw.test.images[:, :, 0, 0].tolist() == [[77, 77, 77], [9, 8, 7]]


def test_hidden_files_do_not_count(both):
    (both / "train/cat/.DS_Store").write_bytes(b"?")
    (both / ".cache").mkdir()
    assert len(load(settings(both)).train.labels) == 12


def test_unreadable_images_are_named(both):
    path = both / "train/dog/3.png"
    whole = path.read_bytes()
    path.write_bytes(b"no image")
    refused(both, "train/dog/3.png: not a readable image .cannot identify")
    path.write_bytes(whole[: len(whole) // 2])
    refused(both, "train/dog/3.png: not a readable image")
    path.unlink()
    path.symlink_to("nothing")
    refused(both, "train/dog/3.png: not a readable image .*No such file")
    path.unlink()
    path.mkdir()
    refused(both, "train/dog/3.png: not a readable image .*Is a directory")


def test_a_program_that_calls_itself_an_image_is_not_run(both):
    """Pillow would give PostScript to Ghostscript."""
    path = next((both / "train").rglob("*.png"))
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    refused(both, f"{path}: not a readable image")


def test_sixteen_bits_are_refused(both):
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(both / "test/cat/deep.png")
    refused(both, "test/cat/deep.png: pixels of mode 'I;16', expected 8 bits per channel")


def test_wrong_folders_are_refused(both, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    refused(empty, "empty.*: no images, expected a folder of images for each class")
    refused(empty / "missing", "missing is not a folder")
    refused("", "image_folder: missing")
    refused(both, "image_size: 0, expected", image_size=0)
    refused(both, "image_size: None, expected", image_size=None)
    (both / "train/bird").mkdir()
    refused(both, "train/bird: no images, expected at least one of the class 'bird'")
    (both / "train/bird").rmdir()
    paint(both / "test/dogs/0.png", (0, 0, 0))
    refused(both, "test/dogs: a class that .*train/ lacks; did you mean 'dog'")
    paint(both / "val/dog/0.png", (0, 0, 0))
    refused(both, "val: a folder beside train/, expected at most test/")


def test_digest_notices_what_happens_to_a_file(both):
    before = folder_digest(settings(both))
    assert folder_digest(settings(both)) == before
    path = both / "train/cat/0.png"
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = folder_digest(settings(both))
    path.rename(path.with_name("zero.png"))
    renamed = folder_digest(settings(both))
    path.with_name("zero.png").unlink()
    removed = folder_digest(settings(both))
    assert len({before, touched, renamed, removed}) == 4
    (both / "train/cat/.hidden").write_bytes(b"")
    assert folder_digest(settings(both)) == removed
    (both / "train/cat/broken.png").symlink_to("nothing")
    assert folder_digest(settings(both)) != removed


def test_counts_are_those_of_the_images_that_are_read(both):
    raw = load(settings(both))
    images = len(raw.train.labels) + len(raw.test.labels)
    assert counts(settings(both)) == (images, len(raw.classes))
    with pytest.raises(UserError, match="image_folder: missing"):
        counts(settings(""))


def test_digest_of_a_folder_that_holds_itself_ends(both):
    (both / "circle").symlink_to(both)
    assert len(folder_digest(settings(both))) == 64


def test_planning_and_training_import_no_more_than_they_need():
    # One fresh interpreter: this one has imported everything.
    code = (
        "import sys, kdq.data.folder_digest; assert not {'torch', 'PIL', 'numpy'} & set(sys.modules);"
        "import kdq.data.prepared; found = {'kdq.data.catalog', 'PIL', 'sklearn', 'torchvision', 'pyarrow'};"
        "assert not found & set(sys.modules), found & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
