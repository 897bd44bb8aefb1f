"""Masks of pruned layers: which of a layer's weights are left, on its module and in a file.

A pruned layer has a buffer ``unpruned``, bool of its weight's shape, False where the weight is 0 for good. It is no
part of the state dict: a model file holds it as one stream of bits and only those weights, or codes, that are left.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdq.models.packing import pack, packed_size_bytes, unpack

BUFFER = "unpruned"
BITMAP = 0  # bits per run, as the header tells the form
MOST_BITS = 12  # per run


def attach(network: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Give layers their masks by name, make the pruned weights 0, and return the network; a full mask is none.

    Other layers keep theirs.
    """
    for name, mask in masks.items():
        module = network.get_submodule(name)
        if mask.all():
            module._buffers.pop(BUFFER, None)
            continue
        module.register_buffer(BUFFER, mask.to(module.weight.device), persistent=False)
    impose(network)
    return network


def remove(network: nn.Module) -> None:
    """Take all masks off a network; its weights stay as they are."""
    for module in network.modules():
        module._buffers.pop(BUFFER, None)


def masks_of(network: nn.Module) -> dict[str, Tensor]:
    """Return the masks of a network's pruned layers by name."""
    found = {name: mask_of(module) for name, module in network.named_modules()}
    return {name: mask for name, mask in found.items() if mask is not None}


def mask_of(layer: nn.Module) -> Tensor | None:
    """Return the mask of a layer, None if it is not pruned."""
    return layer._buffers.get(BUFFER)


def left_in(layer: nn.Module) -> int:
    """Return how many of a layer's weights are left."""
    mask = mask_of(layer)
    return layer.weight.numel() if mask is None else int(mask.sum())


def weight_of(layer: nn.Module) -> nn.Parameter:
    """Return the weight of a layer that is trained, that behind its quantizer if it has one."""
    parametrized = getattr(layer, "parametrizations", {})
    return parametrized["weight"].original if "weight" in parametrized else layer.weight


def masked_weights(network: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the weight that is trained, and the mask, of every pruned layer."""
    return [(weight_of(network.get_submodule(name)), mask) for name, mask in masks_of(network).items()]


@torch.no_grad()
def impose(network: nn.Module) -> None:
    """Make the pruned weights of a network 0."""
    for weight, mask in masked_weights(network):
        weight.mul_(mask)


def shares_left(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the share of each layer's weights that are left."""
    return {name: mask.double().mean().item() for name, mask in masks.items()}


def encoded(mask: Tensor) -> tuple[Tensor, int, int]:
    """Return a mask as a uint8 stream in its smaller form, the bits per run (0: a bitmap), and the number of runs.

    A bitmap has a bit per weight, in row-major order. The other form has runs of zeros: a run of ``2^bits - 1`` goes on
    in the next one, any other ends before a weight that is left; those behind the last such weight are not written.
    """
    flat = mask.flatten().cpu()
    positions = flat.nonzero().flatten()
    gaps = positions.diff(prepend=positions.new_tensor([-1])) - 1
    sizes = {BITMAP: packed_size_bytes(flat.numel(), 1)}
    for bits in range(1, MOST_BITS + 1):
        runs = len(gaps) + int((gaps // (2**bits - 1)).sum())
        sizes[bits] = packed_size_bytes(runs, bits)
    bits = min(sizes, key=sizes.get)
    if bits == BITMAP:
        return pack(flat.to(torch.uint8), 0, 1), BITMAP, 0
    longest = 2**bits - 1
    full = gaps // longest
    runs = torch.full((len(gaps) + int(full.sum()),), longest)
    runs[(full + 1).cumsum(0) - 1] = gaps % longest
    return pack(runs, 0, bits), bits, len(runs)


def decoded(stream: Tensor, shape, bits: int, runs: int) -> Tensor:
    """Return the mask of a stream, the inverse of :func:`encoded`; raise ValueError if they do not fit."""
    count = torch.Size(shape).numel()
    if bits == BITMAP:
        return unpack(stream, count, 0, 1).bool().view(shape)
    lengths = unpack(stream, runs, 0, bits).long()
    ends = lengths < 2**bits - 1
    positions = (lengths + ends).cumsum(0)[ends] - 1
    if len(positions) and positions[-1] >= count:
        raise ValueError(f"a mask of {count} weights has one at {int(positions[-1])}")
    mask = torch.zeros(count, dtype=torch.bool)
    mask[positions] = True
    return mask.view(shape)
