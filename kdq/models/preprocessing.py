"""Resize and crop images on the device, as a network's image processor does on whole grey levels."""

import torch.nn.functional as F
from torch import Tensor


def preprocess(images: Tensor, size: list[int], resample: str, crop: list[int]) -> Tensor:
    """Resize images (B, C, H, W) in [0, 1] to ``size`` (rows, columns) and cut out the middle, of size ``crop``.

    A crop larger than the resized image has a black margin. ``resample``: ``nearest-exact``, ``bilinear`` or
    ``bicubic``, the last two antialiased, as in Pillow.
    """
    if list(images.shape[2:]) != size:
        smooth = {} if resample == "nearest-exact" else {"align_corners": False, "antialias": True}
        # bicubic overshoots: columns, then rows, clamped to [0, 1] after each, as grey levels are
        overshoots = resample == "bicubic"
        for shape in ((images.shape[2], size[1]), size) if overshoots else (size,):
            resized = F.interpolate(images.float(), shape, mode=resample, **smooth)  # not there in bfloat16
            images = (resized.clamp(0, 1) if overshoots else resized).to(images.dtype)
    margins = [max(want - have, 0) for have, want in zip(size, crop, strict=True)]
    if any(margins):
        images = F.pad(images, [part for margin in margins[::-1] for part in (margin // 2, (margin + 1) // 2)])
    top, left = (max(have - want, 0) // 2 for have, want in zip(size, crop, strict=True))
    return images[:, :, top : top + crop[0], left : left + crop[1]]
