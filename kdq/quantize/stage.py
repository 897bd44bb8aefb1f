"""Quantize a model as the workflow does: choose images, bits and order, quantize, give the codes to save."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kdq.data.prepared import Prepared
from kdq.models.codes import QuantizedWeight
from kdq.quantize.bits.budget import bits_under_budget, by_rising_cost
from kdq.quantize.bits.sensitivity_table import read
from kdq.quantize.execution.greedy import quantize_in_order
from kdq.quantize.execution.network import Copy, Plan, QuantizedLayer, quantize, quantize_each
from kdq.quantize.gram.calibration_images import as_in_training, calibration_images


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


def quantize_stage(
    network,
    prepared: Prepared,
    quantizer,
    keys,
    *,
    seed: int,
    device,
    log,
    sensitivity: Path | None = None,
    trained_by: Mapping | None = None,
) -> dict[str, QuantizedWeight]:
    """Quantize ``network`` in place by ``quantizer`` with the keys of its stage; the codes by layer, in order.

    ``sensitivity`` is the file of what each layer costs alone, for keys that ask for it; ``trained_by`` are the keys of
    the stage that made the network, which say how it saw its images.
    """
    images = calibration_images(prepared, keys.images, seed).images
    measured = read(sensitivity) if sensitivity else []
    bits = dict.fromkeys((row.layer for row in measured), keys.bits)
    if keys.budget:
        bits = bits_under_budget(measured, keys.budget, keys.cost, keys.levels)
    arguments = network, images, quantizer, keys
    settings = {"seed": seed, "device": device, "log": log, "views": _views(images, keys, trained_by, seed)}
    if keys.order == "greedy":
        order = by_rising_cost(measured, bits, keys.cost)
        return codes_of(quantize_in_order(*arguments, order, bits, **settings))
    return codes_of(quantize(*arguments, bits=bits, **settings))


def quantize_stages(
    network, prepared: Prepared, plans: Sequence[Plan], *, seed: int, device, trained_by: Mapping | None = None
) -> list[Copy]:
    """Quantize a copy of ``network`` by each of the plans, whose keys differ in their bits alone, all in one pass."""
    images = calibration_images(prepared, plans[0].parameters.images, seed).images
    return quantize_each(network, images, plans, seed, device, _views(images, plans[0].parameters, trained_by, seed))


def _views(images, keys, trained_by: Mapping | None, seed: int):
    """The images from which BatchNorm is measured again; None where it is not."""
    return as_in_training(images, trained_by or {}, seed) if keys.batchnorm == "reestimate" else None


def codes_of(layers: dict[str, QuantizedLayer]) -> dict[str, QuantizedWeight]:
    """What a model file holds of quantized layers."""
    return {
        name: QuantizedWeight(
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
