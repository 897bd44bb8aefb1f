"""The steps of an image processor of transformers as ours, checked against the processor itself."""

import math

import torch

from kdq.data.batches import to_float
from kdq.errors import UserError, reason, shown
from kdq.models.networks.huggingface import Pretrained

FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
CHECKED_IMAGES = 8
MOST_PIXELS = 4096  # a side of a resized image
LEVELS = 2  # grey levels that two rounded resamplings may be apart
WARPED_FROM = 384  # edge from which ConvNeXT's processor, which several models share, does not crop
LEVIT_SHARE = 224 / 256  # its crop's share of the resized edge


def read_preprocessing(processor, images: torch.Tensor) -> dict:
    """Return the steps of an image processor for ``images`` (M, C, H, W), as arguments of Pretrained.

    The normalisation is that of images in [0, 1], whatever the processor scales them to first. Raise UserError for a
    step that there is no equivalent of.
    """
    config, name = processor.to_dict(), type(processor).__name__
    (rows, columns), channels = images.shape[2:], images.shape[1]
    size, crop, resample = [rows, columns], None, 2
    if config.get("do_resize"):
        size, crop = _resized(name, config, rows, columns)
        resample = int(config["resample"] if config.get("resample") is not None else 2)
        if resample not in FILTERS:
            raise UserError(f"{name}: size {config.get('size')}, resample {resample}: no known way to resize")
    if config.get("do_center_crop"):
        crop = [_edge(name, config, "crop_size", side) for side in ("height", "width")]
    if max(*size, *(crop or size)) > MOST_PIXELS:
        raise UserError(f"{name}: resizes images to {size}, expected at most {MOST_PIXELS} pixels a side")
    return {
        "size": size,
        "resample": FILTERS[resample],
        "crop": crop or size,
        **_statistics(name, config, channels),
        "flip_channels": bool(config.get("do_flip_channel_order")),
    }


def _edge(name: str, config: dict, key: str, side: str) -> int:
    sides = config.get(key)
    pixels = sides.get(side) if isinstance(sides, dict) else None
    if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < 1:
        raise UserError(f"{name}: {key}: found {shown(sides)}, expected a {side} in pixels")
    return pixels


def _resized(name: str, config: dict, rows: int, columns: int) -> tuple[list[int], list[int] | None]:
    """Return the size after resizing, and that of the crop that this includes, None for all of it."""
    size, share = config.get("size"), config.get("crop_pct")
    if not isinstance(size, dict) or size.get("longest_edge") or size.get("max_height"):
        raise UserError(f"{name}: size {shown(size)}: no known way to resize")
    if size.get("shortest_edge") is None:
        return [_edge(name, config, "size", side) for side in ("height", "width")], None
    edge = shortest = _edge(name, config, "size", "shortest_edge")
    is_convnext = name.startswith("ConvNext")
    if is_convnext and edge >= WARPED_FROM:
        return [edge, edge], None
    share = LEVIT_SHARE if name.startswith("Levit") else share
    if share is not None:
        shortest = int(edge / _positive(name, "crop_pct", share))
    longest = int(shortest * max(rows, columns) / min(rows, columns))
    return [shortest, longest] if rows <= columns else [longest, shortest], [edge, edge] if is_convnext else None


def _statistics(name: str, config: dict, channels: int) -> dict[str, list[float]]:
    """Return mean and deviation per channel of images in [0, 1] that amount to the processor's arithmetic.

    It scales grey levels, may take 1 off (EfficientNet, with ``rescale_offset``), normalises, and may divide by the
    deviations again (EfficientNet, with ``include_top``); MobileViT's never normalises.
    """
    normalizes = config.get("do_normalize") and not name.startswith("MobileViT")
    again, offset, scale = config.get("include_top") and name.startswith("EfficientNet"), 0.0, 255.0
    if config.get("do_rescale"):
        scale *= _positive(name, "rescale_factor", config.get("rescale_factor"))
        offset = float(bool(config.get("rescale_offset")))
    mean = _per_channel(name, config, "image_mean", channels) if normalizes else [0.0] * channels
    std = [1.0] * channels
    if normalizes or again:
        deviations = [
            _positive(name, "image_std", value) for value in _per_channel(name, config, "image_std", channels)
        ]
        std = [value ** (bool(normalizes) + bool(again)) for value in deviations]
    return {"mean": [(value + offset) / scale for value in mean], "std": [value / scale for value in std]}


def _per_channel(name: str, config: dict, key: str, channels: int) -> list[float]:
    """Return a processor's value per channel; a single number counts for all."""
    values = config.get(key)
    values = list(values) if isinstance(values, list | tuple) else [values] * channels
    if len(values) != channels:
        raise UserError(f"{name}: {key}: {len(values)} values, expected {channels}, one per channel")
    return [_number(name, key, value) for value in values]


def _number(name: str, key: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: {key}: found {shown(value)}, expected a finite number")
    return float(value)


def _positive(name: str, key: str, value) -> float:
    if _number(name, key, value) <= 0:
        raise UserError(f"{name}: {key}: found {shown(value)}, expected a number above 0")
    return float(value)


def check_preprocessing(network: Pretrained, processor, images: torch.Tensor) -> None:
    """Raise UserError if our preprocessing differs from that of the model's image processor.

    Compared are ``images`` and as many of noise: images of one colour would tell little.
    """
    name = type(processor).__name__
    noise = torch.randint(0, 256, images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = torch.cat([images, noise])
    ours = network.pixels(to_float(images))
    try:
        theirs = processor(list(images), return_tensors="pt")["pixel_values"]
    except Exception as error:  # of many kinds: a processor may refuse such images
        raise UserError(f"{name}: does not take the data set's images ({reason(error)})") from None
    apart = torch.inf
    if ours.shape == theirs.shape:
        apart = float(((ours - theirs) * network.std).abs().max() * 255)
    if not apart <= LEVELS:
        raise UserError(
            f"{name}: gives {tuple(theirs.shape)}, {apart:.3g} grey levels from {tuple(ours.shape)} here: "
            "it does more than to resize, crop and normalise, which is not supported"
        )
