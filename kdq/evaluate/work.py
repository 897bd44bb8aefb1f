"""The arithmetic of a network per image: multiply-accumulates, and bit-operations for models of unlike precision.

Bit-operations are MACs times bits per weight times bits per activation, 32 for floats (as in Baskin et al., UNIQ, 2018,
and van Baalen et al., Bayesian Bits, 2020). Convolutions and linear layers are counted; additions, normalisations and
the products of attention, which have no weights, are not, nor are those with weights that were pruned.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdq.models import masks
from kdq.models.codes import Codes

FLOAT_BITS = 32


def counted_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return every nn.Conv2d and nn.Linear by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


@torch.no_grad()
def macs_per_layer(network: nn.Module, image: Tensor) -> dict[str, int]:
    """Return the multiply-accumulates of each nn.Conv2d and nn.Linear for one float image (1, C, H, W), by name."""
    macs: dict[str, int] = {}

    def count(name):
        def hook(layer, inputs, output):
            outputs = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
            macs[name] = macs.get(name, 0) + output.numel() * layer.weight.numel() // outputs

        return hook

    handles = [layer.register_forward_hook(count(name)) for name, layer in counted_layers(network).items()]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    return macs


def work(network: nn.Module, image: Tensor, codes: Codes, pruned: Mapping[str, Tensor] | None = None) -> dict:
    """Return the plain values ``macs``, ``bit_operations`` and ``activation_bits`` of a model.

    ``image`` is uint8 (1, C, H, W), on the network's device; ``pruned`` are the masks of pruned layers by name. A layer
    without codes counts as float, 32 bits by 32 bits, and the input of a layer counts 32 bits if it is no point.
    ``activation_bits`` is the largest number of any point.
    """
    per_layer = macs_per_layer(network, image.float() / 255)
    shares = masks.shares_left(pruned or {})
    per_layer = {name: round(macs * shares.get(name, 1)) for name, macs in per_layer.items()}
    activations = {reader: point.bits for point in codes.points for reader in point.readers}
    weights = {name: weight.facts.get("bits", weight.storage_bits) for name, weight in codes.items()}
    bits = {name: width * activations.get(name, FLOAT_BITS) for name, width in weights.items()}
    return {
        "macs": sum(per_layer.values()),
        "bit_operations": sum(macs * bits.get(name, FLOAT_BITS**2) for name, macs in per_layer.items()),
        "activation_bits": max((point.bits for point in codes.points), default=FLOAT_BITS),
    }
