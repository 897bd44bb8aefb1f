"""Quantize a model as the workflow does: choose the calibration images, quantize, give the codes to save."""

import torch

from kdq.data.prepared import Prepared
from kdq.models.file import Codes
from kdq.quantize.network import quantize


def calibration_images(prepared: Prepared, count: int, seed: int) -> torch.Tensor:
    """``count`` images (all, where there are fewer) of the training part, uint8 (M, C, H, W), drawn by ``seed``."""
    images = prepared.train.images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[:count]]


def quantizer_of(module, keys, seed: int):
    """The function of a stage's module: its ``quantizer``, or what its ``configured(keys, seed)`` returns."""
    return module.configured(keys, seed) if hasattr(module, "configured") else module.quantizer


def quantize_stage(network, prepared: Prepared, quantizer, keys, *, seed: int, device, log) -> dict[str, Codes]:
    """Quantize ``network`` in place by ``quantizer`` with the keys of its stage; the codes by layer, in order."""
    images = calibration_images(prepared, keys.images, seed)
    layers = quantize(network, images, quantizer, keys, seed=seed, device=device, log=log)
    return {
        name: Codes(
            layer.codes,
            layer.step,
            layer.low,
            layer.high,
            layer.storage_bits,
            {
                "bits": layer.bits,
                "levels": layer.levels,
                "scale": round(layer.scale, 6),
                "relative_error": round(layer.relative_error, 9),
            },
        )
        for name, layer in layers.items()
    }
