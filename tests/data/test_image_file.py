"""Reading one image: transparency, depth, frames, colours, and what is refused."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kdq.data.image_file import CONVERTED, DAMAGED, FRAMES, PROFILE, TRANSPARENT, read_image
from kdq.errors import UserError

SQUARE = np.zeros((16, 16), dtype=bool)
SQUARE[4:12, 4:12] = True
HIDDEN = [(0, 0, 0), (255, 255, 255), (200, 10, 10)]
RED = (255, 0, 0)


def square_of(mode: str, hidden) -> Image.Image:
    """Return a black square of an image, all around transparent with a hidden colour: in a mode with alpha."""
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[~SQUARE, :3] = hidden
    pixels[SQUARE, 3] = 255
    return Image.fromarray(pixels).convert(mode)


def palette(hidden) -> Image.Image:
    image = Image.fromarray((~SQUARE).astype(np.uint8)).convert("P")
    image.putdata((~SQUARE).astype(np.uint8).ravel())
    image.putpalette([0, 0, 0, *hidden])
    return image


def saved(image: Image.Image, path, **options):
    image.save(path, **options)
    return path


def refused(path, message: str):
    with pytest.raises(UserError, match=message) as caught:
        read_image(path, 16)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_transparent_pixels_are_white_whatever_their_hidden_colour(tmp_path, hidden):
    rgb = np.zeros((16, 16, 3), dtype=np.uint8)
    rgb[~SQUARE] = tuple(value or 1 for value in hidden)
    grey = (~SQUARE).astype(np.uint8) * 7
    forms = [
        saved(square_of("RGBA", hidden), tmp_path / "rgba.png"),
        saved(square_of("LA", hidden), tmp_path / "la.png"),
        saved(square_of("RGBA", hidden), tmp_path / "rgba.tif"),
        saved(square_of("RGBA", hidden), tmp_path / "rgba.webp", lossless=True, exact=True),
        saved(palette(hidden), tmp_path / "number.png", transparency=1),
        saved(palette(hidden), tmp_path / "bytes.png", transparency=b"\xff\x00"),
        saved(palette(hidden), tmp_path / "palette.gif", transparency=1),
        saved(Image.fromarray(rgb), tmp_path / "rgb.png", transparency=tuple(int(v) for v in rgb[0, 0])),
        saved(Image.fromarray(grey), tmp_path / "grey.png", transparency=7),
    ]
    expected = np.where(SQUARE, 0, 255)
    for path in forms:
        picture = read_image(path, 16)
        assert (picture.pixels == expected).all(), path.name
        assert picture.notes == [TRANSPARENT], path.name


def test_half_transparent_pixels_are_mixed_before_scaling(tmp_path):
    half = saved(Image.new("RGBA", (16, 16), (0, 0, 0, 128)), tmp_path / "half.png")
    assert np.unique(read_image(half, 16).pixels) == [127]
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[:, ::2] = (0, 0, 0, 255)
    pixels[:, 1::2] = (255, 0, 0, 0)
    mixed = read_image(saved(Image.fromarray(pixels), tmp_path / "stripes.png"), 4).pixels
    assert (mixed[0] == mixed[1]).all() and (mixed[0] == mixed[2]).all(), "nothing of the hidden red"


def test_opaque_alpha_changes_nothing(tmp_path):
    picture = read_image(saved(Image.new("RGBA", (16, 16), (1, 2, 3, 255)), tmp_path / "a.png"), 16)
    assert picture.pixels[:, 0, 0].tolist() == [1, 2, 3] and picture.notes == []


def png(colour_type: int, channels: int, depth: int) -> bytes:
    """Return a PNG of 4x4 pixels whose samples are 3000, 16 bits each, or 187 (0xBB) in fewer."""
    row = b"\0" + (b"\x0b\xb8" * (4 * channels) if depth == 16 else b"\xbb" * (4 * channels * depth // 8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 4, depth, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 4)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def ppm(kind: str, most: int) -> bytes:
    channels, size = (3 if kind == "P6" else 1), (2 if most > 255 else 1)
    return f"{kind}\n2 2\n{most}\n".encode() + most.to_bytes(size, "big") * (4 * channels)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (png(0, 1, 16), "mode 'I;16'"),
        (png(2, 3, 16), "16 bits per channel"),
        (png(4, 2, 16), "16 bits per channel"),
        (png(6, 4, 16), "16 bits per channel"),
        (ppm("P6", 4095), "12 bits per channel"),
        (ppm("P6", 65535), "16 bits per channel"),
        (ppm("P5", 4095), "mode 'I'"),
        (b"P3\n1 1\n4095\n3000 3000 3000\n", "12 bits per channel"),
        (b"Pf\n1 1\n-1.0\n\0\0\x80\x3f", "mode 'F'"),
    ],
    ids=["grey", "colour", "grey with alpha", "colour with alpha", "ppm 4095", "ppm 65535", "pgm", "plain", "float"],
)
def test_more_than_eight_bits_are_refused_by_the_depth_in_the_file(tmp_path, content, found):
    (tmp_path / "deep").write_bytes(content)
    refused(tmp_path / "deep", f"pixels of {found}, expected 8 bits per channel; convert it first")


def test_deep_tiffs_are_refused(tmp_path):
    for mode, value in (("F", 0.5), ("I", 70_000), ("I;16", 4095)):
        refused(saved(Image.new(mode, (4, 4), value), tmp_path / "deep.tif"), f"pixels of mode '{mode}'")
    # Pillow can't write 16-bit colour: patch the tags of a file of 8 bits
    content = saved(Image.new("RGB", (4, 4)), tmp_path / "colour.tif").read_bytes()
    eight, sixteen = struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 16, 16, 16)
    assert content.count(eight) == 1
    (tmp_path / "colour.tif").write_bytes(content.replace(eight, sixteen) + bytes(96))
    refused(tmp_path / "colour.tif", "pixels of 16 bits per channel")
    for sample_format in (2, 3):
        path = saved(Image.new("L", (4, 4)), tmp_path / "signed.tif", tiffinfo={339: sample_format})
        refused(path, "not a readable image|no unsigned whole numbers")


def test_fewer_bits_are_scaled(tmp_path):
    for name, content, expected in (
        ("15.ppm", ppm("P6", 15), 255),
        ("4.png", png(0, 1, 4), 187),
        ("1.pbm", b"P1\n1 1\n1\n", 0),
    ):
        (tmp_path / name).write_bytes(content)
        assert np.unique(read_image(tmp_path / name, 8).pixels) == [expected], name
    assert np.unique(read_image(saved(Image.new("1", (4, 4), 1), tmp_path / "bit.png"), 8).pixels) == [255]


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    for name, options in (
        ("a.gif", {}),
        ("a.png", {}),
        ("default.png", {"default_image": True}),
        ("a.webp", {"lossless": True}),
        ("a.tif", {}),
    ):
        path = saved(frames[0], tmp_path / name, save_all=True, append_images=frames[1:], **options)
        picture = read_image(path, 8)
        assert picture.pixels[:, 0, 0].tolist() == list(RED), name
        assert picture.notes == [FRAMES], name


def test_colours_without_a_profile(tmp_path):
    picture = read_image(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg"), 8)
    assert picture.pixels[:, 0, 0].tolist() == [255, 0, 0]
    assert picture.notes == ["CMYK colours, converted without a profile"] and "CMYK" in CONVERTED
    picture = read_image(saved(Image.new("RGB", (8, 8), (9, 8, 7)), tmp_path / "a.png", icc_profile=b"p3"), 8)
    assert picture.pixels[:, 0, 0].tolist() == [9, 8, 7] and picture.notes == [PROFILE]


def test_damaged_exif_is_ignored(tmp_path):
    garbage = b"Exif\0\0MM\0*\xff\xff\xff\xff garbage"
    picture = read_image(saved(Image.new("RGB", (8, 8), (9, 9, 9)), tmp_path / "a.jpg", exif=garbage), 8)
    assert picture.pixels[:, 0, 0].tolist() == [9, 9, 9] and picture.notes == [DAMAGED]


def test_a_single_pixel_fills_the_image(tmp_path):
    for size in ((1, 1), (1, 500)):
        picture = read_image(saved(Image.new("RGB", size, (1, 2, 3)), tmp_path / "a.png"), 8)
        assert picture.pixels.shape == (3, 8, 8) and (picture.pixels[1] == 2).all()


def test_large_images_are_read_and_bombs_refused(tmp_path, recwarn):
    assert read_image(saved(Image.new("1", (9500, 9500)), tmp_path / "large.png"), 8).notes == []
    refused(saved(Image.new("1", (14000, 14000)), tmp_path / "bomb.png"), "not a readable image .*exceeds limit")
    assert not recwarn.list


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm"])
def test_truncated_images_are_refused(tmp_path, form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, form)
    (tmp_path / "half").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    refused(tmp_path / "half", "not a readable image")


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    refused(tmp_path / "fifo", "found a FIFO, expected an image")
    refused(tmp_path / "loop", "found nothing readable .too many levels of symbolic links., expected an image")
    refused(tmp_path / "zero", "found a device, expected an image")
    refused(tmp_path, "found a folder, expected an image")
    refused(tmp_path / "missing", "found nothing, expected an image")
