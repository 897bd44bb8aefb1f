"""Image folders: what is read, in which order, and what is refused by name."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from kdq.data.catalog import prepare
from kdq.data.folder_digest import folder_digest
from kdq.data.folder_files import counts, image_files
from kdq.data.sets.folder import load
from kdq.errors import UserError
from tests.data.image_folder import both, paint, settings

__all__ = ["both"]


def refused(root, message, **others):
    with pytest.raises(UserError, match=message) as caught:
        load("folder", settings(root, **others))
    assert "\n" not in str(caught.value)


def test_train_and_test_parts(both):
    raw = load("folder", settings(both))
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
    assert load("folder", settings(both)).source == load("folder", settings(other)).source


def test_without_a_test_part_a_fixed_one_is_split_off(both):
    for folder in (both / "train", both):
        if folder == both:
            for path in sorted((both / "test").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (both / "test").rmdir()
        raw = load("folder", settings(folder))
        assert len(raw.train.labels) == 9 and len(raw.test.labels) == 3
        tests = [prepare("folder", settings(folder), 0.3, seed).test.images for seed in (0, 1)]
        assert torch.equal(*tests), "the seed of the validation split leaves the test part alone"
        assert torch.equal(tests[0], raw.test.images)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "car"):
        for number in range(4):
            paint(tmp_path / name / f"{number}.png", (number, 0, 0))
    assert load("folder", settings(tmp_path)).classes == ["car", "train"]


def test_middle_square_of_the_shorter_side(tmp_path):
    pixels = np.zeros((4, 10, 3), dtype=np.uint8)
    pixels[:, 3:7] = np.random.default_rng(0).integers(0, 256, (4, 4, 3))
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "test/cat/wide.png")
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    paint(tmp_path / "train/dog/0.png", (4, 5, 6))
    raw = load("folder", settings(tmp_path, image_size=4))
    assert np.array_equal(raw.test.images[0].numpy(), pixels[:, 3:7].transpose(2, 0, 1))


def test_scaled_bicubically(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "test/cat/large.png")
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    paint(tmp_path / "train/dog/0.png", (4, 5, 6))
    expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC))
    assert np.array_equal(load("folder", settings(tmp_path)).test.images[0].numpy(), expected.transpose(2, 0, 1))


def test_turned_as_exif_says(tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "test/cat/turned.png", exif=exif)
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    paint(tmp_path / "train/dog/0.png", (4, 5, 6))
    assert np.array_equal(load("folder", settings(tmp_path)).test.images[0].numpy(), upright.transpose(2, 0, 1))


def test_grey_and_palette_become_rgb(tmp_path):
    paint(tmp_path / "train/cat/0.png", (1, 2, 3))
    paint(tmp_path / "train/dog/0.png", (4, 5, 6))
    (tmp_path / "test/cat").mkdir(parents=True)
    Image.new("L", (8, 8), 77).save(tmp_path / "test/cat/grey.png")
    Image.new("RGB", (8, 8), (9, 8, 7)).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "test/cat/p.png")
    raw = load("folder", settings(tmp_path))
    assert raw.test.images[:, :, 0, 0].tolist() == [[77, 77, 77], [9, 8, 7]]


def test_hidden_files_do_not_count(both):
    (both / "train/cat/.DS_Store").write_bytes(b"?")
    (both / ".cache").mkdir()
    assert len(load("folder", settings(both)).train.labels) == 12


def test_unreadable_images_are_named(both):
    path = both / "train/dog/3.png"
    whole = path.read_bytes()
    path.write_bytes(b"no image")
    refused(both, "train/dog/3.png: not a readable image, expected one of BMP, GIF")
    path.write_bytes(whole[: len(whole) // 2])
    refused(both, "train/dog/3.png: not a readable image")
    path.unlink()
    path.symlink_to("nothing")
    refused(both, "train/dog/3.png: found a link to nothing, which does not exist")
    path.unlink()
    path.mkdir()
    refused(both, "train/dog/3.png: found a folder, expected an image")


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


def test_counts_are_those_of_the_images_that_are_read(both):
    raw = load("folder", settings(both))
    images = len(raw.train.labels) + len(raw.test.labels)
    assert counts(settings(both)) == (images, len(raw.classes))
    with pytest.raises(UserError, match="image_folder: missing"):
        counts(settings(""))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("train/cat/0.png", "train/cat/0.png: found {}, expected an image; mend it or move it away"),
        ("train/cat", "train/cat: found {}, expected a folder of images"),
        ("test", "test: found {}, expected a folder of images"),
        ("README", "README: found {}, expected a folder of images"),
    ],
)
def test_only_files_and_folders_stand_for_images_and_classes(both, place, message):
    """A class that is a FIFO or a link to a share that is not mounted would be missing without a word."""
    path = both / place
    for lies_there, make in (
        ("a FIFO", os.mkfifo),
        ("a device", lambda path: path.symlink_to("/dev/zero")),
        ("a link to missing, which does not exist", lambda path: path.symlink_to("missing")),
        ("nothing readable .too many levels of symbolic links.", lambda path: path.symlink_to(path)),
    ):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        make(path)
        refused(both, message.format(lies_there))
        with pytest.raises(UserError, match=message.format(lies_there)):
            folder_digest(settings(both))


def test_a_file_in_the_place_of_the_test_part_is_refused(both):
    shutil.rmtree(both / "test")
    (both / "test").write_bytes(b"")
    refused(both, "test: found a file, expected a folder with a folder of images for each class")


def test_a_folder_that_holds_itself_is_refused(both):
    (both / "train/circle").symlink_to(both / "train")
    with pytest.raises(UserError, match="train/circle/cat: found a folder, expected an image"):
        folder_digest(settings(both))


def test_links_to_images_and_classes_are_followed(both, tmp_path_factory):
    expected = load("folder", settings(both)).source
    away = tmp_path_factory.mktemp("away")
    (both / "train/dog").rename(away / "dog")
    (both / "train/dog").symlink_to(away / "dog")
    (both / "train/cat/0.png").rename(away / "0.png")
    (both / "train/cat/0.png").symlink_to(away / "0.png")
    assert load("folder", settings(both)).source == expected


def test_order_of_names_does_not_depend_on_the_locale(both):
    code = "import sys; from kdq.data.folder_files import image_files;"
    code += "files = image_files({'image_folder': sys.argv[1]}).train['cat']; print(ascii([f[-8:] for f in files]))"
    for name in ("Z.png", "a.png", "\u00e4.png", "\U0001f600.png"):
        paint(both / f"train/cat/{name}", (1, 0, 1))
    os.rename(both / "train/cat/1.png", os.fsencode(both / "train/cat") + b"/\xff.png")
    names = sorted(os.listdir(os.fsencode(both / "train/cat")))
    assert [os.fsencode(path).rpartition(b"/")[2] for path in image_files(settings(both)).train["cat"]] == names
    orders = []
    for locale in ("C", "C.UTF-8", "POSIX"):
        environment = {**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        words = [sys.executable, "-c", code, str(both)]
        orders.append(subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout)
    assert all(order.count(".png") == len(names) for order in orders)
    assert orders[0].index("Z.png") < orders[0].index("a.png") < orders[0].index("udcff.png")


def test_what_is_left_out_or_notable_is_logged(both):
    def lines():
        log = []
        prepared = prepare("folder", settings(both), 0.3, 0, log.append)
        return prepared, log

    prepared, log = lines()
    assert log == [] and prepared.source["notable"] == {}
    (both / "README").write_bytes(b"")
    (both / "train/labels.csv").write_bytes(b"")
    (both / "train/cat/.DS_Store").write_bytes(b"")
    frames = [Image.new("RGB", (8, 8), (90, 0, number)) for number in range(2)]
    frames[0].save(both / "train/cat/a.gif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (8, 8), (1, 2, 3, 0)).save(both / "train/cat/b.png")
    prepared, log = lines()
    assert log == [
        "1 images: several frames, the first is read",
        "1 images: transparent pixels, put on white",
        "left out: 2 files beside the folders of images",
        "left out: 1 hidden files and folders",
    ]
    assert set(prepared.source["notable"].values()) == {1}


def test_duplicates_of_pixels_are_counted_and_warned_of(both):
    shutil.rmtree(both / "test")
    shutil.copytree(both / "train", both / "test")
    cat = Image.open(both / "train/cat/0.png")
    cat.save(both / "train/dog/cat.bmp")  # the same pixels in another class and format
    log = []
    prepared = prepare("folder", settings(both), 0.3, 0, log.append)
    counts = prepared.duplicates
    assert counts["test in train"] + counts["test in validation"] >= 12 > counts["validation in train"]
    assert counts["in several classes"] == 3
    assert f"warning: {counts['test in train']} of the 12 images of test are in train too, pixel for pixel" in log
    assert "warning: 3 images are in several classes, pixel for pixel" in log


def test_planning_and_training_import_no_more_than_they_need():
    # One fresh interpreter: this one has imported everything.
    code = (
        "import sys, kdq.data.folder_digest; assert not {'torch', 'PIL', 'numpy'} & set(sys.modules);"
        "import kdq.data.prepared; found = {'kdq.data.catalog', 'PIL', 'sklearn', 'torchvision', 'pyarrow'};"
        "assert not found & set(sys.modules), found & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_above_the_classes_is_no_data_set_of_one_class(both):
    shutil.rmtree(both / "train/dog")
    refused(both, "train: found one folder, 'cat', expected one for each of at least two classes")
    shutil.rmtree(both / "test")
    shutil.move(both / "train/cat", both / "images")
    shutil.rmtree(both / "train")
    refused(both, "both: found one folder, 'images', expected one for each of at least two classes")
