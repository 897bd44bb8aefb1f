"""Quantized activations: which tensors of a network are quantized, with which scale, and the network that computes so.

A *point* is a tensor that a quantized layer, an addition, a pooling or a BatchNorm of its own reads. A tensor that
several of them read is one point: it has one scale, as it has one in the exported file. Codes are unsigned, with a zero
point, one scale per tensor: x ~ scale (code - zero_point), code = clip(round(x / scale) + zero_point, 0, 2^b - 1), ties
to the even code, as ONNX's QuantizeLinear computes.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from kdq.models.codes import Point
from kdq.models.network import Network
from kdq.models.operations import Add, GlobalAverage
from kdq.models.tracing import lone_norms

SECOND = ":1"  # behind a module's name: its second input
QUANTIZERS = "activation_quantizers"  # the submodule that holds them


def fake_quantized(x: Tensor, scale: Tensor, zero_point: Tensor | int, bits: int) -> Tensor:
    """Return scale (code - zero_point) of the codes of ``x``, in its shape."""
    codes = (torch.round(x / scale) + zero_point).clamp(0, 2**bits - 1)
    return (codes - zero_point) * scale


class FakeQuantizer(nn.Module):
    """A point within a network: replaces what its readers read by its codes' values."""

    def __init__(self, point: Point):
        super().__init__()
        self.bits, self.zero_point = point.bits, point.zero_point
        self.register_buffer("scale", point.scale.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return fake_quantized(x, self.scale, self.zero_point, self.bits)


def module_and_place(reader: str) -> tuple[str, int]:
    """Return the module's name and the place of the input, 0 or 1."""
    return (reader.removesuffix(SECOND), 1) if reader.endswith(SECOND) else (reader, 0)


def readers(network: nn.Module, layers: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules whose inputs are points: quantized ``layers``, additions, poolings, lone BatchNorms.

    A lone BatchNorm can't be folded into the convolution before it; a network that is not of this package is not looked
    through for them.
    """
    names, kinds = set(layers), (Add, GlobalAverage)
    if isinstance(network, Network):
        names |= lone_norms(network)
    return {name: module for name, module in network.named_modules() if name in names or isinstance(module, kinds)}


@torch.no_grad()
def groups(network: nn.Module, modules: dict[str, nn.Module], images: Tensor) -> list[tuple[str, ...]]:
    """Return for every point its readers, in the order of reading, from one pass of float ``images`` (one is enough).

    Two inputs are one point if they are the very same tensor.
    """
    read: dict[tuple[int, int], list[str]] = {}
    noted, alive = set(), []  # alive: so that no later tensor takes the place of an earlier one

    def note(name, inputs):
        for place, tensor in enumerate(inputs):
            alive.append(tensor)
            reader = name + SECOND * place
            if reader not in noted:
                noted.add(reader)
                read.setdefault((id(tensor), tensor._version), []).append(reader)

    with observed(modules, note):
        network(images)
    return [tuple(entries) for entries in read.values()]


@contextlib.contextmanager
def observed(modules: dict[str, nn.Module], action: Callable[[str, tuple], None]) -> Iterator[None]:
    """In the block ``action(name, inputs)`` runs before every call of a module."""
    with contextlib.ExitStack() as hooks:
        for name, module in modules.items():
            hook = lambda module, given, keywords, name=name: action(name, (*given, *keywords.values()))  # noqa: E731
            hooks.enter_context(module.register_forward_pre_hook(hook, with_kwargs=True))
        yield


@contextlib.contextmanager
def quantized_activations(
    network: nn.Module, points: Sequence[Point], half: bool = False, kind: type = FakeQuantizer
) -> Iterator[None]:
    """In the block ``network`` computes with quantized activations: for the whole batch, or for its second half.

    ``kind`` makes a module of each point that replaces what its readers read.
    """
    device = next(network.parameters()).device
    quantizers = [kind(point).to(device) for point in points]
    with contextlib.ExitStack() as hooks:
        for name, at in by_module(points, quantizers).items():
            module = network.get_submodule(name)
            hooks.enter_context(module.register_forward_pre_hook(_Replace(at, half), with_kwargs=True))
        yield


def attach(network: nn.Module, points: Sequence[Point]) -> nn.Module:
    """Let a network compute with quantized activations, in place, and return it."""
    return attach_quantizers(network, points, [FakeQuantizer(point) for point in points])


def attach_quantizers(network: nn.Module, points: Sequence[Point], quantizers: Sequence[nn.Module]) -> nn.Module:
    """Let the readers of each point read what its quantizer returns, in place, and return the network.

    The quantizers become a submodule, so that they move, are copied and are trained with the network.
    """
    network.add_module(QUANTIZERS, nn.ModuleList(quantizers))
    for name, at in by_module(points, quantizers).items():
        network.get_submodule(name).register_forward_pre_hook(_Replace(at), with_kwargs=True)
    return network


def by_module(points: Sequence[Point], quantizers: Iterable[nn.Module]) -> dict[str, dict[int, nn.Module]]:
    """Return the quantizer of each input, by name of the module that reads it and place, 0 or 1."""
    table: dict[str, dict[int, nn.Module]] = {}
    for point, quantizer in zip(points, quantizers, strict=True):
        for name, place in map(module_and_place, point.readers):
            table.setdefault(name, {})[place] = quantizer
    return table


def has_quantizers(network: nn.Module) -> bool:
    """Return whether :func:`attach` let the network compute with quantized activations."""
    return hasattr(network, QUANTIZERS)


def detach_quantizers(network: nn.Module) -> list[nn.Module]:
    """Undo :func:`attach_quantizers` in place; return the quantizers."""
    for module in network.modules():
        for key in [key for key, hook in module._forward_pre_hooks.items() if isinstance(hook, _Replace)]:
            del module._forward_pre_hooks[key], module._forward_pre_hooks_with_kwargs[key]
    quantizers = list(network.get_submodule(QUANTIZERS))
    delattr(network, QUANTIZERS)
    return quantizers


class _Replace:
    """The hook of a reader: its inputs, quantized; with ``half`` those of the batch's second half alone."""

    def __init__(self, quantizers: dict[int, nn.Module], half: bool = False):
        self.quantizers, self.half = quantizers, half

    def __call__(self, module, inputs, keywords):
        tensors = (*inputs, *keywords.values())
        return tuple(self._replaced(place, x) for place, x in enumerate(tensors)), {}

    def _replaced(self, place: int, x: Tensor) -> Tensor:
        if place not in self.quantizers:
            return x
        if not self.half:
            return self.quantizers[place](x)
        analog, quantized = x.chunk(2)
        return torch.cat([analog, self.quantizers[place](quantized)])
