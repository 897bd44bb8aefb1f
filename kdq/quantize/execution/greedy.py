"""Quantization of a network in any order of its layers, each exactly, on what the network passes on by then."""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.execution.batchnorm import reestimate
from kdq.quantize.execution.inputs import execution_order, layer_inputs
from kdq.quantize.execution.network import QuantizedLayer, describe, quantize_layer, with_error
from kdq.quantize.gram.calibration import Calibration


@torch.no_grad()
def quantize_in_order(
    model: nn.Module,
    images: torch.Tensor,
    quantizer: Callable,
    parameters,
    order: Sequence[str],
    bits: Mapping[str, int],
    seed: int = 0,
    device=None,
    log=print,
    views: torch.Tensor | None = None,
) -> dict[str, QuantizedLayer]:
    """Quantize the layers named in ``order`` one after the other, in place; returns them in order of execution.

    The other arguments and what is raised are as for :func:`kdq.quantize.execution.network.quantize`, which gives the same
    result for the order of execution. A layer's X are the inputs that the float network gives it, its X~ those of the
    network as it is by then: of the layers before it only those are quantized that came earlier in ``order``, and the
    errors of the others are not made up for. Two partial forward passes a layer, and a copy of the float network.
    """
    device = device or next(model.parameters()).device
    model.to(device).eval()
    views = (images if views is None else views).to(device).float() / 255
    images = images.to(device).float() / 255
    executed, analog = execution_order(model, images[:1]), copy.deepcopy(model)
    if sorted(order) != sorted(executed):
        raise ValueError(f"order: {list(order)}, expected each of {executed} once")
    done = {}
    for name in order:
        inputs = layer_inputs(analog, name, images), layer_inputs(model, name, images)
        place = executed.index(name)  # not in `order`: a layer's patches are drawn the same way in every order
        modules = analog.get_submodule(name), model.get_submodule(name)
        calibration = Calibration(modules[1], *inputs, parameters.patches, seed + place)
        alphabet = Alphabet(bits[name], parameters.levels)
        layer = quantize_layer(name, calibration, quantizer, alphabet, parameters)
        done[name] = with_error(layer, *modules, *inputs)
        log(describe(name, done[name]))
    if parameters.batchnorm == "reestimate":
        reestimate(model, views)
    return {name: done[name] for name in executed}
