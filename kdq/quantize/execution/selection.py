"""Which layers of a network are quantized, and why the others stay float: no layer stops the network."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdq.errors import UserError, nearest
from kdq.models import masks
from kdq.models.codes import Point
from kdq.models.folded_norms import fold_norms, foldable
from kdq.models.network import Network
from kdq.models.plain_layers import replace
from kdq.quantize.activation_ranges import measured_points
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.layer import quantizable_layers
from kdq.quantize.execution.outputs import NO_OUTPUTS, quantized_outputs
from kdq.quantize.execution.passes import before_calls, survey
from kdq.quantize.keys import Quantizing

FIRST, LAST = "first", "last"
NEVER_CALLED = "never called in a forward pass"


@dataclass(frozen=True)
class Selection:
    """The layers of a network by what becomes of them.

    ``layers`` are quantized, ``calls`` names them in the order of their calls. ``constants`` are those whose inputs are
    the same for all images, with the inputs of each of their calls; ``functional`` those that are called by the
    function nn.functional.linear. ``reasons`` tells of every other layer, by name, why it stays float. ``places`` is
    the place in the order of execution of every layer that runs, kept ones included; ``image_bytes`` the most memory
    that the activations of an image take.
    """

    layers: dict[str, nn.Module]
    calls: list[str]
    constants: dict[str, list[Tensor]]
    functional: dict[str, nn.Module]
    reasons: dict[str, str]
    places: dict[str, int]
    image_bytes: int

    @property
    def executed(self) -> list[str]:
        """The layers to quantize, each once, in the order of execution."""
        return list(dict.fromkeys(self.calls))

    def kept(self, model: nn.Module) -> dict[str, dict]:
        """Return the layers that stay float by name, with the number of their weights (those left) and the reason."""
        return {
            name: {"weights": masks.left_in(model.get_submodule(name)), "reason": reason}
            for name, reason in self.reasons.items()
        }


def select(model: nn.Module, images: Tensor, keep: str = "", fold: bool = False) -> Selection:
    """Return which layers to quantize; ``keep`` names others, joined by ``+``, see :func:`named`.

    ``model`` is in eval mode and gets plain layers in place, see :mod:`kdq.models.plain_layers`; one or two of the
    ``images`` (M, C, H, W) pass. With ``fold`` BatchNorm is folded in place too, if the network is not of this package.
    Raises UserError if ``keep`` names what is no layer, or if no layer is left.
    """
    if fold and not isinstance(model, Network):
        fold_norms(model, foldable(model, floats(images[:1])))
    layers = quantizable_layers(replace(model))
    reasons = unlike_plain(layers)
    plain = {name: layer for name, layer in layers.items() if name not in reasons}
    calls, image_bytes = survey(model, plain, images[:1])
    functional = {}
    if missing := {name: layer for name, layer in plain.items() if name not in calls}:
        functional, uncalled = called_by_function(model, missing, images[:1])
        reasons |= uncalled
    with as_modules(functional):
        if functional:
            calls, image_bytes = survey(model, plain, images[:1])
        unfit, constants = _by_inputs(model, {name: plain[name] for name in dict.fromkeys(calls)}, images)
    reasons |= unfit
    places = {name: place for place, name in enumerate(dict.fromkeys(calls))}
    reasons |= dict.fromkeys(named(keep, list(layers), list(places)), "named by the key keep")
    calls = [name for name in calls if name not in reasons]
    if not calls:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3])
        found = f"{type(model).__name__}: no layer is left for this stage ({why or 'no Conv2d or Linear'})"
        raise UserError(f"{found}, expected at least one")
    chosen = {name: layer for name, layer in layers.items() if name in calls}
    reasons = {name: reasons[name] for name in layers if name in reasons}
    constants, functional = (
        {name: value for name, value in part.items() if name in chosen} for part in (constants, functional)
    )
    return Selection(chosen, calls, constants, functional, reasons, places, image_bytes)


def activation_points(model: nn.Module, selection: Selection, images: Tensor, keys: Quantizing) -> list[Point]:
    """Return the quantized activations that the keys ask for; inputs that are the same for all images stay float."""
    if not keys.activations:
        return []
    aside = {*selection.constants, *selection.functional}
    layers = [name for name in selection.executed if name not in aside]
    outputs = quantized_outputs(model, layers, floats(images[:1])) if keys.batchnorm == "fold" else NO_OUTPUTS
    return measured_points(model, layers, images, keys.activations, keys.activation_range, outputs)


def point_of(name: str, points: Iterable[Point]) -> Point | None:
    """Return the quantized activation that a layer reads, None if there is none."""
    return next((point for point in points if name in point.readers), None)


def seen(points: Sequence[Point], keys: Quantizing) -> Sequence[Point]:
    """Return the quantized activations in the inputs on which weights are quantized."""
    return points if keys.activation_order == "first" else ()


def unlike_plain(layers: dict[str, nn.Module]) -> dict[str, str]:
    """Return for every layer that computes otherwise than nn.Conv2d and nn.Linear, or shares its weight, the reason."""
    reasons, owners = {}, {}
    for name, layer in layers.items():
        if type(layer).forward not in (nn.Conv2d.forward, nn.Linear.forward) or "weight" not in layer._parameters:
            reasons[name] = f"{type(layer).__name__} computes in its own way"
            continue
        if (owner := owners.setdefault(id(layer.weight), name)) != name:
            reasons |= {name: f"shares its weight with {owner}", owner: f"shares its weight with {name}"}
    return reasons


def named(keep: str, layers: list[str], executed: list[str]) -> list[str]:
    """Return the layers that ``keep`` names, each by its own name, that of a module around it, `first` or `last`.

    ``layers`` are all of the network, ``executed`` those that run, in this order. Raises UserError for other names.
    """
    chosen = []
    for name in filter(None, keep.split("+")):
        if name in (FIRST, LAST) and executed:
            of_name = [executed[0 if name == FIRST else -1]]
        else:
            of_name = [layer for layer in layers if f"{layer}.".startswith(f"{name}.")]
        if not of_name:
            modules = {layer[:end] for layer in layers for end, letter in enumerate(layer) if letter == "."}
            hint = nearest(name, [FIRST, LAST, *layers, *sorted(modules)])
            expected = f"first, last, or a layer or module of the network such as {layers[0]}" if layers else "none"
            raise UserError(f"keep: found {name!r}, expected {expected}{hint}")
        chosen += of_name
    return chosen


class _AsModules(TorchFunctionMode):
    """Calls of nn.functional.linear with a layer's weight and bias become calls of the layer: hooks run."""

    def __init__(self, layers: dict[str, nn.Linear]):
        super().__init__()
        self.layers = {id(layer.weight): layer for layer in layers.values()}

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is F.linear:
            input, weight, bias = _arguments(*arguments, **(keywords or {}))
            layer = self.layers.get(id(weight))
            if layer is not None and layer.bias is bias:
                return layer(input)  # this mode is off within
        return function(*arguments, **(keywords or {}))


class _Called(TorchFunctionMode):
    """Notes the weights and biases with which nn.functional.linear is called."""

    def __init__(self):
        super().__init__()
        self.pairs: list[tuple] = []

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is F.linear:
            self.pairs.append(_arguments(*arguments, **(keywords or {}))[1:])
        return function(*arguments, **(keywords or {}))


def _arguments(input, weight, bias=None) -> tuple:
    """Return the arguments of nn.functional.linear in order."""
    return input, weight, bias


def called_by_function(
    model, layers: dict[str, nn.Module], image: Tensor
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Return those of the ``layers`` whose weight and bias reach nn.functional.linear, for one uint8 image.

    Second, for each of the others, the reason why it stays float.
    """
    with _Called() as called:
        model(floats(image))
    functional, reasons = {}, {}
    for name, layer in layers.items():
        biases = [bias for weight, bias in called.pairs if weight is layer.weight]
        if not biases:
            reasons[name] = NEVER_CALLED
        elif isinstance(layer, nn.Linear) and all(bias is layer.bias for bias in biases):
            functional[name] = layer
        else:
            reasons[name] = "its weight is used by a function with another bias"
    return functional, reasons


def as_modules(functional: dict[str, nn.Module]) -> contextlib.AbstractContextManager:
    """In the block calls of nn.functional.linear with the weight of one of these layers are calls of the layer."""
    return _AsModules(functional) if functional else contextlib.nullcontext()


def _by_inputs(model, layers, images) -> tuple[dict[str, str], dict[str, list[Tensor]]]:
    """Return for layers whose inputs can't be told apart by images the reason, and the inputs of constant ones.

    The inputs of a batch of two of the ``images`` must be twice as long as those of one, and begin with the same, or be
    the same for both, which makes them constant.
    """
    alone, pair = (_inputs(model, layers, floats(batch)) for batch in (images[:1], images[[0, -1]]))
    reasons, constants = {}, {}
    for name, calls in alone.items():
        if all(map(_same, calls, pair[name])) and len(calls) == len(pair[name]):
            constants[name] = [_rows(layers[name], inputs) for inputs in calls]
        if reason := _unfit(calls, pair[name], name in constants):
            reasons[name] = reason
            constants.pop(name, None)
    return reasons, constants


def _unfit(alone: list[Tensor], pair: list[Tensor], constant: bool) -> str:
    """Return why a layer with these inputs of one image and of two can't be quantized, "" if it can."""
    if len({inputs.shape[1:] for inputs in alone}) > 1:
        shapes = " and ".join(str(tuple(inputs.shape)) for inputs in alone[:2])
        return f"runs on inputs of several shapes, {shapes}"
    if len(alone) != len(pair):
        return f"called {len(alone)} times for one image, {len(pair)} times for two"
    if constant:
        return ""
    for single, double in zip(alone, pair, strict=True):
        if single.dim() < 2 or double.shape != (2 * len(single), *single.shape[1:]):
            return (
                f"inputs {tuple(single.shape)} of one image, {tuple(double.shape)} of two: samples not in dimension 0"
            )
        if not torch.allclose(double[: len(single)], single, rtol=1e-2, atol=1e-3, equal_nan=True):
            return "the samples of a batch are mixed along dimension 0"
    return ""


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-5, atol=1e-6, equal_nan=True)


def _rows(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return a layer's constant input with its samples in dimension 0."""
    return (
        inputs.reshape(-1, inputs.shape[-1]) if isinstance(layer, nn.Linear) else inputs.reshape(-1, *inputs.shape[-3:])
    )


def _inputs(model: nn.Module, layers: dict[str, nn.Module], batch: Tensor) -> dict[str, list[Tensor]]:
    """Return the inputs of all calls of every layer, by name."""
    inputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    with before_calls(layers, lambda name, tensor: inputs[name].append(tensor.clone())):  # may be changed in place
        model(batch)
    return inputs
