"""Wrap an image classifier of transformers like our networks: images in [0, 1] in, logits out.

Images are resized, cropped and normalised on the device as the model's image processor would; they may be mixed, so
nothing is rounded to whole grey levels in between.
"""

import torch
from torch import Tensor, nn

from kdq.errors import UserError, reason, shown
from kdq.models.family import Family
from kdq.models.preprocessing import preprocess


class Architectures(Family):
    """Networks of transformers, which their configuration describes."""

    names = ("transformers",)
    imported = True


class Pretrained(nn.Module):
    """A model of transformers behind its image processor: ``size``, ``resample``, ``crop``, ``mean``, ``std``.

    With ``flip_channels`` it sees the channels in reverse, blue first; ``mean`` and ``std`` are of that order. As in
    :class:`kdq.models.network.Network`, mean and standard deviation are not in the state dict.
    """

    def __init__(self, network: nn.Module, *, size, resample: str, crop, mean, std, flip_channels: bool = False):
        super().__init__()
        self.network = network
        self.size, self.resample, self.crop, self.flip_channels = list(size), resample, list(crop), flip_channels
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def pixels(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] preprocessed for the network."""
        images = preprocess(images, self.size, self.resample, self.crop)
        return ((images.flip(1) if self.flip_channels else images) - self.mean) / self.std

    def forward(self, images: Tensor, taps: tuple[str, ...] = ()) -> Tensor:
        """Return logits (B, classes) of images (B, C, H, W) in [0, 1]; raise UserError if there are ``taps``."""
        if taps:
            raise UserError(
                f"a network of source=transformers gives no features ({', '.join(taps)}), logits alone; "
                "expected a network of another source or a method that needs none"
            )
        return self.network(pixel_values=self.pixels(images)).logits


def check_kernels(config: dict) -> None:
    """Raise UserError if a configuration names a kernel from a hub, ``owner/name``: code that would be run."""
    for key, value in config.items():
        if isinstance(value, dict):  # of a part of the network
            check_kernels(value)
        elif str(key).endswith("_implementation") and "/" in str(value):
            raise UserError(f"{key}: found {shown(value)}, code of a hub; expected one of the library")


def outline(architecture: str, *, config: dict, **_) -> dict[str, tuple]:
    """Return the shapes of all tensors without building the network."""
    with torch.device("meta"):
        return {f"network.{name}": tuple(value.shape) for name, value in _build(config).state_dict().items()}


def build(architecture: str, *, config: dict, preprocessing: dict) -> Pretrained:
    """Return a freshly initialised network of ``config``, a configuration of transformers as plain values."""
    return Pretrained(_build(config), **preprocessing)


def _build(config: dict) -> nn.Module:
    """Return the model of a configuration; it must be one of the library's, run by the library's code."""
    from transformers import CONFIG_MAPPING, AutoModelForImageClassification

    check_kernels(config)
    try:
        described = CONFIG_MAPPING[config["model_type"]].from_dict(config)
        return AutoModelForImageClassification.from_config(described, dtype=torch.float32, trust_remote_code=False)
    except Exception as error:  # of many kinds, whatever makes this no description of a network
        name, cause = config.get("model_type"), reason(error, 300)
        raise UserError(f"transformers can't build its architecture {name!r} ({cause})") from None
