"""Bias correction: bring the mean of every output of a quantized layer back to that of the float network.

Nagel, van Baalen, Blankevoort, Welling: Data-free quantization through weight equalization and bias correction (2019,
arXiv:1906.04721), here with means over the calibration images: b += E[X w] - E[X~ q]. A layer without bias, such as
a convolution of a ResNet, is corrected in the BatchNorm behind it: (y + b - mean) / deviation is that of y with the
mean less b.
"""

import contextlib

import torch
from torch import nn

from kdq.errors import UserError


def holders(model, layers, images) -> dict[str, tuple[torch.Tensor, int]]:
    """Return for every layer by name the tensor that holds its correction, and the sign: its bias, or a running mean.

    ``images`` (float, one is enough) pass once, to see which BatchNorm reads which layer; assumes that nothing else
    reads the layer's output. Raises UserError for a layer without a bias whose output no BatchNorm with running
    statistics reads, or one that reads another layer's too.
    """
    norms = _norms_behind(model, {name: layer for name, layer in layers.items() if layer.bias is None}, images)
    holding: dict[str, tuple[torch.Tensor, int]] = {}
    for name, layer in layers.items():
        if layer.bias is None and (name not in norms or list(norms.values()).count(norms[name]) > 1):
            raise UserError(
                f"{name}: no bias and no BatchNorm of its own behind it, expected one to hold what bias=correct adds"
            )
        holding[name] = (norms[name].running_mean, -1) if layer.bias is None else (layer.bias, 1)
    return holding


def mean_difference(module, pairs) -> torch.Tensor:
    """Return by how much the quantized layer's outputs are less, the mean over samples and positions, (outputs,).

    ``pairs`` are the outputs of the same samples in the float and in the quantized network, chunk by chunk.
    """
    total, samples = 0, 0
    for analog, quantized in pairs:
        outputs = 1 if isinstance(module, nn.Conv2d) else analog.dim() - 1
        averaged = [dimension for dimension in range(analog.dim()) if dimension != outputs]
        mean = (analog - quantized).mean(averaged, dtype=torch.float64).to(quantized)
        total, samples = total + len(analog) * mean, samples + len(analog)
    return total / samples


def add_shift(module, outputs, shift) -> None:
    """Add ``shift`` (outputs,) to all samples and positions of a layer's outputs, in place."""
    outputs += shift[:, None, None] if isinstance(module, nn.Conv2d) else shift


def store(holders, shifts) -> None:
    """Add every layer's shift to the tensor that holds it, in place."""
    with torch.no_grad():
        for name, shift in shifts.items():
            holder, sign = holders[name]
            holder.add_(shift, alpha=sign)


def _norms_behind(model, layers, images) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Return the BatchNorms whose input is the very output of one of the layers, by the layer's name."""
    outputs, norms, names = {}, {}, {layer: name for name, layer in layers.items()}

    def leave(layer, inputs, output):
        outputs[names[layer]] = output, output._version

    def arrive(norm, inputs):
        for name, (output, version) in outputs.items():
            # An activation in place gives the same tensor, with a later version.
            if inputs[0] is output and output._version == version and norm.track_running_stats:
                norms[name] = norm

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for layer in layers.values():
            hooks.enter_context(layer.register_forward_hook(leave))
        for norm in model.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                hooks.enter_context(norm.register_forward_pre_hook(arrive))
        model(images)
    return norms
