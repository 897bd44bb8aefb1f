"""Quantization of one layer, from the inputs that reach it to the weight that goes into the file."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdq.errors import UserError
from kdq.models.codes import QuantizedWeight
from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.bits.scale import choose
from kdq.quantize.bits.silent import rounded_where_silent
from kdq.quantize.gram.calibration import Calibration, rows, weight_matrix
from kdq.quantize.quantizer import Quantizer


def quantize_layer(name: str, calibration: Calibration, quantizer: Quantizer, alphabet: Alphabet) -> QuantizedWeight:
    """Return the codes of one layer; the layer itself keeps its float weight.

    The fact ``relative_error`` = ||X W' - X~ Q'|| / ||X W'|| (Frobenius, 0 if X W' is 0) is None if it is that of the
    layer's outputs for all inputs, which the caller has; ``scale`` is the mean C over the rows. Raises UserError, which
    begins with ``name``, for numbers that are not finite.
    """
    module, float_weight = calibration.module, weight_matrix(calibration.module)
    if not (calibration.finite() and float_weight.sum().isfinite()):
        raise UserError(f"{name}: infinite or NaN weights or inputs, expected finite numbers")
    try:
        choice = choose(float_weight, calibration, quantizer, alphabet)
    except UserError as error:
        raise UserError(f"{quantizer.name}: layer {name}: {error}") from None
    choice = rounded_where_silent(choice, float_weight, calibration, alphabet, quantizer.keys)
    weight = QuantizedWeight(
        codes=choice.codes.contiguous().reshape(module.weight.shape).cpu(),
        step=choice.step.flatten()[: None if quantizer.keys.granularity == "channel" else 1].cpu(),
        low=alphabet.low,
        high=alphabet.high,
        storage_bits=alphabet.storage_bits,
        facts={
            "bits": alphabet.bits,
            "levels": alphabet.levels,
            "scale": round(float(choice.scale.mean()), 6),
            "relative_error": choice.relative_error,
        },
    )
    if choice.relative_error is None and not calibration.of_outputs:
        decoded = weight.decode().double().view_as(float_weight).to(float_weight)
        pairs = rows(*calibration.inputs, dtype=torch.float32)
        analog, quantized = (matrix.mT.float() for matrix in (float_weight, decoded))
        weight.facts["relative_error"] = relative_error((x @ analog, xq @ quantized) for x, xq in pairs)
    return weight


def relative_error(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return ||A - B|| / ||A|| (Frobenius) over pairs of chunks (A, B); 0 if A is 0."""
    error = energy = 0.0
    for analog, quantized in pairs:
        error += _squared_norm(analog - quantized)
        energy += _squared_norm(analog)
    return (error / energy) ** 0.5 if energy > 0 else 0.0


def _squared_norm(chunk: Tensor) -> float:
    """Return ||chunk||^2, summed in float64 over the first dimension, in the chunk's precision over the others."""
    return float(chunk.flatten(1).norm(dim=1).double().square().sum())


def forward(module: nn.Module, inputs: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return a layer's output, computed with another ``weight`` if there is one; hooks are not called.

    ``inputs`` may lie on another device, as mapped files do.
    """
    before = module.weight.data
    module.weight.data = before if weight is None else weight
    try:
        return type(module).forward(module, inputs.to(module.weight.device))
    finally:
        module.weight.data = before


def without_bias(module: nn.Module, outputs: Tensor) -> Tensor:
    """Return a layer's outputs less its bias."""
    if module.bias is None:
        return outputs
    return outputs - module.bias.view(-1, *[1] * 2 * isinstance(module, nn.Conv2d))


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return every nn.Conv2d and nn.Linear by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
