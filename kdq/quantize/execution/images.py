"""Images as the passes of a quantization give them to networks."""

import torch
from torch import Tensor


def floats(images: Tensor) -> Tensor:
    """Return images (M, C, H, W) as a network takes them: uint8 as float32 in [0, 1], floats as they are.

    Not channels last as for training: convolutions would sum in another order, and the last digits of errors change.
    """
    return images.float() / 255 if images.dtype == torch.uint8 else images
