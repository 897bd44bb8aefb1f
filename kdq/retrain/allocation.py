"""Bits per layer that follow training: what the layers cost now, and the best choice in the room of the first codes."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from kdq.data.batches import to_float
from kdq.data.prepared import Split
from kdq.models import masks
from kdq.models.codes import Codes, QuantizedWeight
from kdq.quantize.bits.allocation import allocate
from kdq.quantize.bits.alphabet import BITS, Alphabet
from kdq.quantize.bits.budget import never_rising
from kdq.quantize.bits.losses import Reference, log_probabilities
from kdq.quantize.bits.scale import radius, smallest_weight_error, steps
from kdq.quantize.execution.batchnorm import reestimate
from kdq.quantize.gram.calibration import pruned_matrix, weight_matrix
from kdq.quantize.quantizer import nearest_codes
from kdq.retrain.lsq import LearnedStep


@torch.no_grad()
def reallocate(network: nn.Module, first: Mapping[str, QuantizedWeight], part: Split, cost: str) -> dict[str, int]:
    """Give the layers of ``first`` the bits of the least sum of :func:`costs` in the room of these codes; return them.

    ``network`` has learned steps, see :func:`kdq.retrain.lsq.attach`. In place, a layer whose bits change goes on with
    the steps of the smallest error of its weights; all else stays as it is.
    """
    floats = floating(network, part)
    table = [never_rising(values) for values in costs(floats, first, part, cost)]
    left = {name: masks.left_in(network.get_submodule(name)) for name in first}
    sizes = [[left[name] * _alphabet(codes, bits).storage_bits for bits in BITS] for name, codes in first.items()]
    room = sum(left[name] * codes.storage_bits for name, codes in first.items())
    chosen = [BITS[index] for index in allocate(sizes, table, room)]
    for (name, codes), bits in zip(first.items(), chosen, strict=True):
        quantizer, alphabet = learned_step(network, name), _alphabet(codes, bits)
        if (quantizer.low, quantizer.high) != (alphabet.low, alphabet.high):
            quantizer.restart(nearest(floats.get_submodule(name), codes, bits))
    return dict(zip(first, chosen, strict=True))


def floating(network: nn.Module, part: Split) -> nn.Module:
    """Return a copy in eval mode that computes with the float weights behind the codes.

    Statistics of BatchNorm are measured on the images ``part``: the network's own are those of quantized weights.
    """
    floats = copy.deepcopy(network).eval()
    for module in floats.modules():
        if hasattr(module, "parametrizations"):
            module.parametrizations.weight[0] = nn.Identity()
    reestimate(floats, to_float(part.images))
    return floats


@torch.no_grad()
def costs(floats: nn.Module, layers: Mapping[str, QuantizedWeight], part: Split, cost: str) -> list[list[float]]:
    """Return what a network of :func:`floating` loses if a layer alone has each of ``BITS``: a row per layer.

    ``cost`` is a column of :class:`kdq.quantize.bits.losses.Reference`. The codes are those of :func:`nearest`.
    """
    device = part.images.device
    reference, rows = Reference(log_probabilities(floats, part.images, device), part.labels.cpu()), []
    for name, codes in layers.items():
        module, row = floats.get_submodule(name), []
        weight = module.parametrizations.weight.original
        before = weight.clone()
        for bits in BITS:
            weight.copy_(nearest(module, codes, bits).decode())
            row.append(reference.losses(log_probabilities(floats, part.images, device))[cost])
            weight.copy_(before)
        rows.append(row)
    return rows


def nearest(module: nn.Module, codes: QuantizedWeight, bits: int) -> QuantizedWeight:
    """Return the module's weight as the nearest levels, with steps of the smallest squared error, as many as now.

    The alphabet is that of ``codes`` with ``bits`` bits.
    """
    weight, alphabet = weight_matrix(module), _alphabet(codes, bits)
    granularity = "layer" if len(codes.step) < len(codes.codes) else "channel"
    reach = radius(weight, 1.0, granularity, pruned_matrix(module))
    step = steps(smallest_weight_error(weight, reach, alphabet, granularity)[0], reach, alphabet)
    values = nearest_codes(weight, step, alphabet.low, alphabet.high)
    return replace(
        _with(codes, alphabet),
        codes=values.reshape(codes.codes.shape).cpu(),
        step=step.flatten()[: len(codes.step)].cpu(),
    )


def in_alphabets(network: nn.Module, first: Codes) -> Codes:
    """Return the codes ``first`` with the alphabets that the network's layers have by now."""
    by_layer = dict(first)
    for name, codes in first.items():
        if (high := learned_step(network, name).high) != codes.high:
            alphabet = next(alphabet for bits in BITS if (alphabet := _alphabet(codes, bits)).high == high)
            by_layer[name] = _with(codes, alphabet)
    return Codes(by_layer, kept=first.kept, points=first.points)


def learned_step(network: nn.Module, name: str) -> LearnedStep:
    """Return the quantizer of a layer's weight."""
    return network.get_submodule(name).parametrizations.weight[0]


def _alphabet(codes: QuantizedWeight, bits: int) -> Alphabet:
    return Alphabet(bits, codes.facts["levels"])


def _with(codes: QuantizedWeight, alphabet: Alphabet) -> QuantizedWeight:
    facts = codes.facts | {"bits": alphabet.bits}
    return replace(codes, low=alphabet.low, high=alphabet.high, storage_bits=alphabet.storage_bits, facts=facts)
