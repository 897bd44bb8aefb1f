"""Quantize a model as the workflow does: choose images, bits and order, quantize, give the codes to save."""

from pathlib import Path

from kdq.data.prepared import Prepared
from kdq.models.file import Codes
from kdq.quantize.budget import bits_under_budget, by_rising_cost
from kdq.quantize.calibration_images import calibration_images
from kdq.quantize.greedy import quantize_in_order
from kdq.quantize.measurements import read
from kdq.quantize.network import quantize


def quantize_stage(
    network, prepared: Prepared, quantizer, keys, *, seed: int, device, log, sensitivity: Path | None = None
) -> dict[str, Codes]:
    """Quantize ``network`` in place by ``quantizer`` with the keys of its stage; the codes by layer, in order.

    ``sensitivity`` is the file of what each layer costs alone, for keys that ask for it.
    """
    images = calibration_images(prepared, keys.images, seed).images
    measured = read(sensitivity) if sensitivity else []
    bits = dict.fromkeys((row.layer for row in measured), keys.bits)
    if keys.budget:
        bits = bits_under_budget(measured, keys.budget, keys.cost, keys.levels)
    arguments, settings = (network, images, quantizer, keys), {"seed": seed, "device": device, "log": log}
    if keys.order == "greedy":
        order = by_rising_cost(measured, bits, keys.cost)
        layers = quantize_in_order(*arguments, order, bits, **settings)
    else:
        layers = quantize(*arguments, bits=bits, **settings)
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
