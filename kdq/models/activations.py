"""Quantized activations: which tensors of a network are quantized, with which scale, and the network that computes so.

A *point* is a tensor that a quantized layer, an addition, a pooling or a BatchNorm of its own reads. A tensor that
several of them read is one point: it has one scale, as it has one in the exported file. A point may also be what a
module gives: then all that read it read its codes' values. Codes are unsigned, with a zero point, one scale per tensor:
x ~ scale (code - zero_point), code = clip(round(x / scale) + zero_point, 0, 2^b - 1), ties to the even code, as ONNX's
QuantizeLinear computes.
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
OUTPUT = ":out"  # behind a module's name: what it gives
BEHIND = -1  # the place of an output
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


class _Quantizers(nn.ModuleList):
    """All quantizers of a network; called, as an nn.Sequential calls what is in it, the identity."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def module_and_place(reader: str) -> tuple[str, int]:
    """Return the module's name and the place: 0 or 1 of its inputs, ``BEHIND`` of its output."""
    for suffix, place in ((SECOND, 1), (OUTPUT, BEHIND)):
        if reader.endswith(suffix):
            return reader.removesuffix(suffix), place
    return reader, 0


def is_output(reader: str) -> bool:
    """Return whether a reader of a point stands for what a module gives."""
    return reader.endswith(OUTPUT)


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
        for hook in _hooked(network, points, quantizers, half):
            hooks.enter_context(hook)
        yield


def attach(network: nn.Module, points: Sequence[Point]) -> nn.Module:
    """Let a network compute with quantized activations, in place, and return it."""
    return attach_quantizers(network, points, [FakeQuantizer(point) for point in points])


def attach_quantizers(network: nn.Module, points: Sequence[Point], quantizers: Sequence[nn.Module]) -> nn.Module:
    """Let the readers of each point read what its quantizer returns, in place, and return the network.

    The quantizers become a submodule, so that they move, are copied and are trained with the network.
    """
    network.add_module(QUANTIZERS, _Quantizers(quantizers))
    _hooked(network, points, quantizers)
    return network


def _hooked(network: nn.Module, points: Sequence[Point], quantizers: Iterable[nn.Module], half: bool = False) -> list:
    """Let the readers of each point read what its quantizer returns; return the handles of the hooks."""
    handles = []
    for name, at in by_module(points, quantizers).items():
        module = network.get_submodule(name)
        if BEHIND in at:
            handles.append(module.register_forward_hook(_ReplaceOutput(at.pop(BEHIND), half)))
        if at:
            handles.append(module.register_forward_pre_hook(_Replace(at, half), with_kwargs=True))
    return handles


def by_module(points: Sequence[Point], quantizers: Iterable[nn.Module]) -> dict[str, dict[int, nn.Module]]:
    """Return the quantizer of each input or output, by name of the module and place.

    If the point is what a module gives, its readers read quantized values already.
    """
    table: dict[str, dict[int, nn.Module]] = {}
    for point, quantizer in zip(points, quantizers, strict=True):
        for name, place in map(module_and_place, list(filter(is_output, point.readers)) or point.readers):
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
        for key in [key for key, hook in module._forward_hooks.items() if isinstance(hook, _ReplaceOutput)]:
            del module._forward_hooks[key]
    quantizers = list(network.get_submodule(QUANTIZERS))
    delattr(network, QUANTIZERS)
    return quantizers


class _Replace:
    """The hook of a reader: its inputs, quantized; with ``half`` those of the batch's second half alone."""

    def __init__(self, quantizers: dict[int, nn.Module], half: bool = False):
        self.quantizers, self.half = quantizers, half

    def __call__(self, module, inputs, keywords):
        tensors = (*inputs, *keywords.values())
        quantizers = (self.quantizers.get(place) for place in range(len(tensors)))
        return tuple(map(self._replaced, quantizers, tensors)), {}

    def _replaced(self, quantizer: nn.Module | None, x: Tensor) -> Tensor:
        return x if quantizer is None else _quantized(quantizer, x, self.half)


class _ReplaceOutput:
    """The hook of a module: what it gives, quantized; with ``half`` that of the batch's second half alone."""

    def __init__(self, quantizer: nn.Module, half: bool = False):
        self.quantizer, self.half = quantizer, half

    def __call__(self, module, inputs, output):
        return _quantized(self.quantizer, output, self.half)


def _quantized(quantizer: nn.Module, x: Tensor, half: bool) -> Tensor:
    if not half:
        return quantizer(x)
    analog, second = x.chunk(2)
    return torch.cat([analog, quantizer(second)])
