"""Quantize a model as the workflow does: choose images, bits and order, quantize, return the codes to save."""

from collections.abc import Mapping
from pathlib import Path

from kdq.data.prepared import Prepared
from kdq.models.codes import Codes
from kdq.models.integer import round_biases
from kdq.quantize.bits.budget import bits_under_budget
from kdq.quantize.bits.sensitivity_table import Measurement, read
from kdq.quantize.execution.impact import Impact
from kdq.quantize.execution.network import quantize
from kdq.quantize.execution.selection import select
from kdq.quantize.gram.calibration_images import as_in_training, calibration_images, cost_images
from kdq.quantize.quantizer import Quantizer


def quantize_stage(
    network,
    prepared: Prepared,
    quantizer: Quantizer,
    *,
    seed: int,
    device,
    log,
    sensitivity: Path | None = None,
    trained_by: Mapping | None = None,
) -> Codes:
    """Quantize ``network`` in place by the keys of the ``quantizer``; return the codes by layer, in order of execution.

    ``sensitivity`` is the table of what each layer costs alone, for keys that need it; ``trained_by`` are the keys of
    the stage that trained the network, with its augmentation.
    """
    keys = quantizer.keys
    images = calibration_images(prepared, keys.images, seed).images
    bits = None
    if keys.budget:
        bits = bits_of_layers(network.to(device).eval(), images.to(device), read(sensitivity), keys)
    iterative = keys.order == "iterative"
    order = Impact(cost_images(prepared, seed), keys.cost, keys.pick) if iterative else None
    views = as_in_training(images, trained_by or {}, seed) if keys.batchnorm == "reestimate" else None
    return quantize_network(network, images, quantizer, seed, device, log, bits, views, order)


def bits_of_layers(network, images, measurements: list[Measurement], keys) -> dict[str, int]:
    """Return the bits under the budget of each layer that is quantized, given what all that can be cost alone.

    ``network`` is in eval mode, on the device of the ``images``; with ``batchnorm=fold`` it is folded in place.
    """
    kept = select(network, images, keys.keep, keys.batchnorm == "fold").kept(network)
    left = [row for row in measurements if row.layer not in kept]
    float_weights = sum(layer["weights"] for layer in kept.values())
    return bits_under_budget(left, keys.budget, keys.cost, keys.levels, float_weights)


def quantize_network(network, *arguments) -> Codes:
    """Quantize a network in place, see :func:`kdq.quantize.execution.network.quantize`, and round its biases.

    They become those that an integer runtime adds, if activations are quantized.
    """
    codes = quantize(network, *arguments)
    round_biases(network, codes)
    return codes
