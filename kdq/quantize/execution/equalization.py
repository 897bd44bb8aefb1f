"""Cross-layer equalisation: channels between two layers scaled so that both layers' weights have one range there.

Nagel, van Baalen, Blankevoort, Welling: Data-free quantization through weight equalization and bias correction (2019,
arXiv:1906.04721, section 4.1). Channel i of the first layer's output is divided by s_i = sqrt(r1_i / r2_i) > 0, and the
second layer's weights for it are multiplied by s_i; r1_i and r2_i are the largest of both layers' weights, BatchNorm
included. A ReLU lies between them at most, so that the float network computes the same. A ReLU6 does not scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdq.errors import UserError
from kdq.models.tracing import is_layer, is_relu, norms_behind, only_reader, trace

ROUNDS, CHANGE = 50, 1e-3  # until no scale changes by more than this share


@dataclass(frozen=True)
class Chain:
    """Two layers in a row: the first with the BatchNorm behind it, if any; the second with its own."""

    first: nn.Module
    first_norm: nn.Module | None
    second: nn.Module
    second_norm: nn.Module | None

    def scales(self) -> Tensor:
        """Return s, (channels,); 1 for a channel without weights on either side."""
        before = _ranges(self.first, self.first_norm).flatten(1).amax(1)
        behind, groups = _ranges(self.second, self.second_norm), getattr(self.second, "groups", 1)
        behind = behind.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1).amax(1)
        return torch.where((before > 0) & (behind > 0), (before / behind).sqrt(), 1.0).to(before)

    def scale(self, scales: Tensor) -> None:
        """Divide the channels by ``scales`` behind the first layer and multiply them by it in the second, in place."""
        last = self.first_norm or self.first
        last.weight.div_(scales.view(-1, *[1] * (last.weight.dim() - 1)))
        if last.bias is not None:
            last.bias.div_(scales)
        weight, groups = self.second.weight, getattr(self.second, "groups", 1)
        per_group = scales.view(groups, 1, -1).expand(-1, len(weight) // groups, -1).flatten(0, 1)
        weight.mul_(per_group.view(*per_group.shape, *[1] * (weight.dim() - 2)))


@torch.no_grad()
def equalize(model: nn.Module) -> None:
    """Equalise all channels between two layers of a network, in eval mode, in place.

    Raise UserError if there are none, or if the network can't be traced.
    """
    try:
        chains = list(_chains(model))
    except UserError as error:
        raise UserError(f"channels=equalize: {error}") from None
    if not chains:
        raise UserError(
            f"{type(model).__name__}: no two layers in a row with nothing but a ReLU between, expected some for "
            "channels=equalize"
        )
    for _ in range(ROUNDS):
        change = 0.0
        for chain in chains:
            scales = chain.scales()
            chain.scale(scales)
            change = max(change, float((scales - 1).abs().max()))
        if change < CHANGE:
            return


def _ranges(layer: nn.Module, norm: nn.Module | None) -> Tensor:
    """Return the absolute weights of a layer with the BatchNorm behind it folded in."""
    if norm is None:
        return layer.weight.abs()
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (layer.weight * gain.view(-1, *[1] * (layer.weight.dim() - 1))).abs()


def _chains(model: nn.Module) -> Iterator[Chain]:
    """Yield the pairs of layers of which the second alone reads what the first gives, in order."""
    graph = trace(model)
    norms = {name: model.get_submodule(norm) for name, norm in norms_behind(model, graph).items()}
    norms = {name: norm for name, norm in norms.items() if norm.affine and norm.track_running_stats}
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        if not is_layer(model, node) or calls.count(node.target) > 1:
            continue
        reader = only_reader(node)
        if node.target in norms and reader is not None:
            reader = only_reader(reader)
        if reader is not None and is_relu(model, reader):
            reader = only_reader(reader)
        if reader is not None and is_layer(model, reader) and calls.count(reader.target) == 1:
            first, second = model.get_submodule(node.target), model.get_submodule(reader.target)
            yield Chain(first, norms.get(node.target), second, norms.get(reader.target))
