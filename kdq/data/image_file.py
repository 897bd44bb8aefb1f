"""One image of any format, brought to one size as RGB."""

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np

from kdq.errors import UserError, reason
from kdq.provenance import regular_file

# Pillow reads more, among them EPS, a program that Ghostscript would run
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
BACKGROUND = "white"  # behind transparent pixels, whose hidden colours are arbitrary
BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339  # tags of a TIFF
PNG_DEPTH_BYTE = 24  # of the file: signature, then the IHDR chunk

TRANSPARENT = f"transparent pixels, put on {BACKGROUND}"
FRAMES = "several frames, the first is read"
PROFILE = "colour profile, not applied"
CONVERTED = ("CMYK", "HSV", "LAB", "YCbCr")  # modes
DAMAGED = "damaged metadata, ignored"


@dataclass(frozen=True)
class Picture:
    """Pixels uint8 (3, size, size), the SHA-256 of the file, and what is notable about it, for the log."""

    pixels: np.ndarray
    sha256: str
    notes: list[str]


def read_image(path, size: int) -> Picture:
    """Return the middle square of an image, scaled (bicubic).

    The first frame is read and turned as its EXIF demands. Transparent pixels are put on white before anything is
    scaled, so their hidden colours have no influence. Colour profiles and gamma are not applied. Raise UserError for
    more than 8 bits per channel, for anything unreadable and for more pixels than Pillow unpacks.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    content = regular_file.read(path, "an image")
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as many pixels are an error
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if depth := _deep(image, content):
                    raise UserError(f"{path}: {depth}, expected 8 bits per channel; convert it first")
                notes = _notes(image)
                upright = ImageOps.exif_transpose(image)
        notes += [DAMAGED] if warned else []
        rgb = _on_background(upright, notes) if upright.has_transparency_data else upright.convert("RGB")
        square = ImageOps.fit(rgb, (size, size), method=Image.Resampling.BICUBIC)
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:  # its message names an address in memory
        raise UserError(f"{path}: not a readable image, expected one of {', '.join(FORMATS)}; move it away") from None
    except Exception as error:  # of many kinds, whatever the bytes mean to Pillow
        raise UserError(f"{path}: not a readable image ({reason(error)}); mend it or move it away") from None
    return Picture(np.asarray(square).transpose(2, 0, 1).copy(), hashlib.sha256(content).hexdigest(), notes)


def _notes(image) -> list[str]:
    notes = [FRAMES] if getattr(image, "is_animated", False) else []
    notes += [PROFILE] if image.info.get("icc_profile") else []
    return notes + ([f"{image.mode} colours, converted without a profile"] if image.mode in CONVERTED else [])


def _deep(image, content: bytes) -> str:
    """Return how an image is deeper than 8 bits per channel, else "".

    Pillow cuts colours of 16 bits to their upper 8 as it reads: those of 12 bits in files of 16 would be all dark.
    """
    if image.mode.startswith(("I", "F")):
        return f"pixels of mode {image.mode!r}"
    bits, signed = 8, False
    if image.format == "PNG":
        bits = content[PNG_DEPTH_BYTE]
    elif image.format == "TIFF":
        bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (8,)))
        signed = max(image.tag_v2.get(SAMPLE_FORMAT, (1,))) != 1
    elif image.format == "PPM" and image.mode != "1":
        *_, most = image.tile[0].args if isinstance(image.tile[0].args, tuple) else (255,)
        bits = most.bit_length()
    if bits > 8:
        return f"pixels of {bits} bits per channel"
    return "pixels that are no unsigned whole numbers" if signed else ""


def _on_background(image, notes: list[str]):
    """Return an image with transparency as RGB on the background."""
    from PIL import Image

    image = image.convert("RGBA")
    if image.getextrema()[3][0] == 255:
        return image.convert("RGB")
    notes.append(TRANSPARENT)
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image).convert("RGB")
