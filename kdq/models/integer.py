"""The network that computes as an integer runtime does: BatchNorm folded, quantized activations, integer biases."""

from collections.abc import Mapping

import torch
from torch import nn

from kdq.models.activations import attach
from kdq.models.codes import Codes
from kdq.models.folding import FoldedLayer, fold, integer_bias
from kdq.models.tracing import folded_norms


def folded_layers(
    network: nn.Module,
    codes: Codes,
    norms: Mapping[str, str],
) -> dict[str, tuple[FoldedLayer, torch.Tensor | None]]:
    """Return every convolution and linear layer with its BatchNorm folded in, and its int32 bias if it reads a point.

    ``norms`` maps convolutions to the BatchNorm behind them.
    """
    points = {reader: point for point in codes.points for reader in point.readers}
    layers = {}
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        norm = network.get_submodule(norms[name]) if name in norms else None
        folded, bias_codes = fold(module, norm, codes.get(name)), None
        if name in codes and name in points and folded.bias is not None:
            folded, bias_codes = integer_bias(folded, points[name], name)
        layers[name] = folded, bias_codes
    return layers


@torch.no_grad()
def round_biases(network: nn.Module, codes: Codes) -> None:
    """Give ``network``, in place, the biases that an integer runtime computes with; BatchNorms keep their places.

    With the quantized activations of ``codes`` it then computes what :func:`to_integer` makes of it, up to rounding
    errors of floats. Without any nothing changes.
    """
    if not codes.points:
        return
    norms = folded_norms(network)
    for name, (rounded, bias_codes) in folded_layers(network, codes, norms).items():
        if bias_codes is not None:
            layer = network.get_submodule(name)
            norm = network.get_submodule(norms[name]) if name in norms else None
            bias = (norm or layer).bias
            bias += (rounded.bias.double() - fold(layer, norm, codes[name]).bias.double()).to(bias)


@torch.no_grad()
def to_integer(network: nn.Module, codes: Codes) -> nn.Module:
    """Let ``network``, in eval mode, compute as an integer runtime does, in place, and return it.

    Its names stay; a folded BatchNorm becomes the identity. In a network not of this package BatchNorm stays float.
    """
    norms = folded_norms(network)
    for name, (folded, _) in folded_layers(network, codes, norms).items():
        layer = network.get_submodule(name)
        layer.weight = nn.Parameter(folded.decoded().to(layer.weight), requires_grad=False)
        if folded.bias is not None:
            layer.bias = nn.Parameter(folded.bias.to(layer.weight), requires_grad=False)
    for name in norms.values():
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, nn.Identity())
    return attach(network, codes.points)
