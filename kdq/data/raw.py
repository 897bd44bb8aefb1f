"""What a source gives: images and labels as they are, before any validation part is split off."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Raw:
    """Images uint8 (M, C, H, W) and labels int64 (M,) of both parts; ``source`` says where they came from."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: list[str]
    source: dict
