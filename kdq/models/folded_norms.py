"""BatchNorm that is folded into the convolution before it, in a network not of this package, before it is quantized.

Folded behind a quantized convolution it would move that one's codes' steps and its bias, so an integer runtime could
not compute what the network does. A model file names the pairs, so that loading folds them too.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdq.models.dataflow import dataflow
from kdq.models.folding import fold

KEY = "folded"  # of an architecture: the name of the convolution of every folded BatchNorm


class FoldedNorm(nn.Identity):
    """The place of a BatchNorm that is folded into the layer called ``layer``."""

    def __init__(self, layer: str):
        super().__init__()
        self.layer = layer


class FoldedNormAct(nn.Sequential):
    """The same for a BatchNorm with an activation of its own, as timm has them."""

    def __init__(self, layer: str, norm: nn.Module):
        super().__init__()
        self.layer = layer
        self.drop, self.act = norm.drop, norm.act


def foldable(network: nn.Module, images: Tensor) -> dict[str, str]:
    """Return the convolution before each BatchNorm that can be folded, by the BatchNorm's name; one pass of images.

    The convolution runs once, the BatchNorm too and on its output alone, which nothing else reads.
    """
    norms = {name: module for name, module in network.named_modules() if _replacement(module)}
    layers = {name: module for name, module in network.named_modules() if _is_plain_convolution(module)}
    flow = dataflow(network, images, {**norms, **layers})
    pairs = {}
    for name in layers:
        calls = flow.calls(name)
        readers = flow.readers(calls[0].gives[0]) if len(calls) == 1 else []
        if len(readers) == 1 and readers[0].name in norms and len(flow.calls(readers[0].name)) == 1:
            pairs[readers[0].name] = name
    return pairs


@torch.no_grad()
def fold_norms(network: nn.Module, pairs: Mapping[str, str]) -> nn.Module:
    """Fold each BatchNorm of ``pairs`` into its convolution in place and return the network, which is in eval mode.

    It computes the same up to rounding. Raise ValueError or AttributeError for a pair of other modules.
    """
    for norm_name, name in pairs.items():
        norm, layer = network.get_submodule(norm_name), network.get_submodule(name)
        if not (_replacement(norm) and _is_plain_convolution(layer)):
            raise ValueError(f"{norm_name}, {name}: no BatchNorm behind a convolution")
        folded = fold(layer, norm, None)
        layer.weight.copy_(folded.weight)
        layer.bias = nn.Parameter(folded.bias.to(layer.weight), requires_grad=layer.weight.requires_grad)
        parent, _, child = norm_name.rpartition(".")
        setattr(network.get_submodule(parent), child, _replacement(norm)(name))
    return network


def described(architecture: dict, network: nn.Module) -> dict:
    """Return the arguments of :func:`kdq.models.registry.build` that make the network with its folded BatchNorms."""
    kinds = FoldedNorm | FoldedNormAct
    pairs = {name: module.layer for name, module in network.named_modules() if isinstance(module, kinds)}
    return {**architecture, KEY: pairs} if pairs else architecture


def outline(shapes: dict[str, tuple], names) -> dict[str, tuple]:
    """Return the ``shapes`` of tensors by name without those of folded BatchNorms."""
    return {name: shape for name, shape in shapes.items() if name.rpartition(".")[0] not in names}


def _is_plain_convolution(module: nn.Module) -> bool:
    return type(module).forward is nn.Conv2d.forward and "weight" in module._parameters


def _replacement(module: nn.Module):
    """Return what makes the module in the place of a BatchNorm from the layer's name, None if it can't be folded."""
    if not isinstance(module, _BatchNorm) or not module.track_running_stats:
        return None
    if type(module).forward is _BatchNorm.forward:
        return FoldedNorm
    # by name: the class may be that of a library that was never imported
    if type(module).__name__ == "BatchNormAct2d" and type(module).__module__.startswith("timm."):
        return lambda layer: FoldedNormAct(layer, module)
    return None
