"""Quantize a model as the workflow does: choose the calibration images, quantize, give the codes to save."""

from collections.abc import Sequence
from pathlib import Path

import torch

from kdq.data.prepared import Prepared
from kdq.models.file import Codes
from kdq.quantize.network import Copy, Plan, QuantizedLayer, quantize, quantize_each


def calibration_images(prepared: Prepared, count: int, seed: int) -> torch.Tensor:
    """``count`` images (all, where there are fewer) of the training part, uint8 (M, C, H, W), drawn by ``seed``."""
    images = prepared.train.images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images[order[:count]]


def cell_of(model_path: str) -> tuple[str, int, str]:
    """Data set, seed and recipe of ``results/<dataset>/seed=<n>/<recipe>/model.safetensors``."""
    _, dataset, seed, *stages = Path(model_path).parent.parts
    return dataset, int(seed.removeprefix("seed=")), "/".join(stages)


def keys_of(stage: str, keys: dict) -> dict:
    """A stage's keys in order, with the bits that its text spells out, ``gpfq,bits=4``, where the keys have none."""
    spelled = dict(pair.split("=") for pair in stage.split(",")[1:])
    if "bits" in spelled:
        keys = {"bits": int(spelled["bits"]), **keys}
    return dict(sorted(keys.items()))


def quantize_stage(network, prepared: Prepared, quantizer, keys, *, seed: int, device, log) -> dict[str, Codes]:
    """Quantize ``network`` in place by ``quantizer`` with the keys of its stage; the codes by layer, in order."""
    images = calibration_images(prepared, keys.images, seed)
    return codes_of(quantize(network, images, quantizer, keys, seed=seed, device=device, log=log))


def quantize_stages(network, prepared: Prepared, plans: Sequence[Plan], *, seed: int, device) -> list[Copy]:
    """Quantize a copy of ``network`` by each of the plans, whose keys differ in their bits alone, all in one pass."""
    images = calibration_images(prepared, plans[0].parameters.images, seed)
    return quantize_each(network, images, plans, seed, device)


def codes_of(layers: dict[str, QuantizedLayer]) -> dict[str, Codes]:
    """What a model file holds of quantized layers."""
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
