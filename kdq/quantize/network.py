"""Quantization of a network: one forward pass in all, every layer quantized when the calibration images reach it."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from kdq.errors import UserError
from kdq.quantize import bias
from kdq.quantize.alphabet import Alphabet
from kdq.quantize.batchnorm import reestimate
from kdq.quantize.calibration import Calibration, relative_error, rows, weight_matrix
from kdq.quantize.scale import choose


@dataclass(frozen=True)
class QuantizedLayer:
    """One layer's weight as integers: the decoded weight is ``codes.float() * step``, a step for all rows or one a row.

    ``codes`` int16, of the weight's shape; ``step`` float32, (1,) or (N,); ``bits`` and ``levels`` name the alphabet,
    whose codes are ``low .. high`` and take ``storage_bits`` each (b + 1 for the published alphabet).
    ``relative_error`` is ||X W' - X~ Q'|| / ||X W'|| (Frobenius) on the calibration patches, 0 where X W' is 0;
    ``scale`` the C of the steps, its mean over the rows where each row chose its own.
    """

    codes: torch.Tensor
    step: torch.Tensor
    bits: int
    levels: str
    low: int
    high: int
    relative_error: float
    scale: float

    @property
    def storage_bits(self) -> int:
        """Whole bits that one stored code takes."""
        return Alphabet(self.bits, self.levels).storage_bits


def decode(codes: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """The float32 weight of integer codes and a float32 step of shape (1,) or (N,), N = the codes' first size."""
    return codes.float() * step.view(-1, *[1] * (codes.dim() - 1))


def quantize(
    model: nn.Module,
    images: torch.Tensor,
    quantizer: Callable,
    parameters,
    seed: int = 0,
    device=None,
    log=print,
    bits: Mapping[str, int] | None = None,
) -> dict[str, QuantizedLayer]:
    """Quantize every nn.Conv2d and nn.Linear of a float network in place; returns the layers in order of execution.

    ``model`` takes float images in [0, 1] and treats each on its own; ``images`` uint8 (M, C, H, W), the calibration
    images; ``quantizer`` a function like :func:`kdq.quantize.gpfq.gpfq`; ``parameters`` a
    :class:`kdq.quantize.keys.Quantizer`; ``bits`` those of each layer by name, where they are not the same for all.
    The model is left in evaluation mode and computes with the decoded weights.
    Raises UserError for a layer that runs twice, never, on other samples or with numbers that are not finite.

    The images pass once, side by side: as the float network sees them, and as the quantized one does. A layer sees
    both halves of its input, is quantized, and passes on the float and the quantized output. No layer runs again.
    """
    device = device or next(model.parameters()).device
    model.to(device).eval()
    layers = quantizable_layers(model)
    images = images.to(device).float() / 255
    holders = bias.holders(model, layers, images[:1]) if parameters.bias == "correct" else {}
    shifts: dict[str, torch.Tensor] = {}
    done: dict[str, QuantizedLayer] = {}

    def arrive(name, module, pair):
        _check_arrival(name, pair, len(images), done)
        analog, quantized = pair.chunk(2)
        calibration = Calibration(module, analog, quantized, parameters.patches, seed + len(done))
        alphabet = Alphabet(bits[name] if bits else parameters.bits, parameters.levels)
        done[name], (analog_output, quantized_output) = quantize_layer(
            name, calibration, quantizer, alphabet, parameters
        )
        log(describe(name, done[name]))
        if name in holders:
            shifts[name] = bias.mean_difference(module, analog_output, quantized_output)
            quantized_output = bias.shifted(module, quantized_output, shifts[name])
        return torch.cat([analog_output, quantized_output])

    with _redirected(layers, arrive), torch.no_grad():
        model(torch.cat([images, images]))
    if missing := [name for name in layers if name not in done]:
        raise UserError(f"{missing[0]}: never called in a forward pass, expected every Conv2d and Linear to take part")
    bias.store(holders, shifts)
    if parameters.batchnorm == "reestimate":
        reestimate(model, images)
    return done


def quantize_layer(name: str, calibration: Calibration, quantizer: Callable, alphabet: Alphabet, parameters):
    """Quantize one layer in place: ``(QuantizedLayer, (float output, quantized output))`` of the calibration's inputs.

    Raises UserError, which begins with ``name``, for numbers that are not finite.
    """
    module, float_weight = calibration.module, weight_matrix(calibration.module)
    if not (calibration.finite() and float_weight.isfinite().all()):
        raise UserError(f"{name}: infinite or NaN weights or inputs, expected finite numbers")
    choice = choose(float_weight, calibration, quantizer, alphabet, parameters)
    codes = choice.codes.reshape(module.weight.shape)
    step = choice.step.flatten()[: None if parameters.granularity == "channel" else 1]
    analog_output = type(module).forward(module, calibration.analog)
    module.weight.data = decode(codes, step).to(module.weight)
    quantized_output = type(module).forward(module, calibration.quantized)
    error = _relative_error(calibration, choice, float_weight, analog_output, quantized_output)
    layer = QuantizedLayer(
        codes=codes.cpu(),
        step=step.cpu(),
        bits=alphabet.bits,
        levels=alphabet.levels,
        low=alphabet.low,
        high=alphabet.high,
        relative_error=error,
        scale=float(choice.scale.mean()),
    )
    return layer, (analog_output, quantized_output)


def describe(name: str, layer: QuantizedLayer) -> str:
    """A quantized layer as one line of a log."""
    return f"{name}: {layer.bits} bits, scale {layer.scale:.3f}, relative error {layer.relative_error:.4f}"


def _relative_error(calibration, choice, float_weight, analog_output, quantized_output) -> float:
    """||X W' - X~ Q'|| / ||X W'|| of a layer whose weight is decoded codes by now."""
    if choice.relative_error is not None:
        return choice.relative_error
    module = calibration.module
    if calibration.sampling == "all":
        bias = 0 if module.bias is None else module.bias.view(-1, *[1] * 2 * isinstance(module, nn.Conv2d))
        return relative_error([(analog_output - bias, quantized_output - bias)])
    weights = float_weight.mT, weight_matrix(module).mT
    return relative_error((x @ weights[0], xq @ weights[1]) for x, xq in rows(*calibration.inputs))


def quantizable_layers(model) -> dict[str, nn.Module]:
    """The layers to quantize by name; refuses those whose weight is not their own or whose forward is another."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    owners: dict[int, str] = {}
    for name, module in layers.items():
        if type(module).forward not in (nn.Conv2d.forward, nn.Linear.forward) or "weight" not in module._parameters:
            raise UserError(
                f"{name}: {type(module).__name__} computes in its own way, expected a plain Conv2d or Linear"
            )
        other = owners.setdefault(id(module.weight), name)
        if other != name:
            raise UserError(f"{name}: shares its weight with {other}, expected a weight of its own")
    if not layers:
        raise UserError(f"{type(model).__name__}: no Conv2d or Linear found, expected at least one to quantize")
    return layers


def _check_arrival(name, pair, samples, done) -> None:
    if name in done:
        raise UserError(f"{name}: runs twice in one forward pass, expected a layer with inputs of one kind")
    if pair.dim() < 2 or pair.shape[0] % 2 or pair.shape[0] % (2 * samples):
        raise UserError(
            f"{name}: input of shape {tuple(pair.shape)}, expected the {2 * samples} samples in dimension 0"
        )


@contextlib.contextmanager
def _redirected(layers, arrive):
    """Within the block, calling a layer calls ``arrive(name, layer, input)`` instead of its forward."""
    for name, module in layers.items():
        module.forward = lambda pair, name=name, module=module: arrive(name, module, pair)
    try:
        yield
    finally:
        for module in layers.values():
            del module.forward
