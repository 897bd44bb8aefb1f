"""Quantization of a network: one forward pass in all, every layer quantized when the calibration images reach it.

The float network and every copy of it that is to be quantized take the images side by side, in lock-step: at a layer
all of them stop. Each copy's layer is quantized on what reaches it in both networks, and all pass on their outputs. So
no layer runs twice on the same images, and several bit-widths share the float network's work.
"""

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from kdq.errors import UserError
from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.bits.scale import choose
from kdq.quantize.execution import bias
from kdq.quantize.execution.batchnorm import reestimate
from kdq.quantize.execution.lockstep import Lockstep, Pass, side_by_side
from kdq.quantize.execution.survey import later_inputs, survey
from kdq.quantize.gram.calibration import Calibration, RelativeError, rows, weight_matrix
from kdq.quantize.gram.chunks import Chunks
from kdq.quantize.keys import Quantizer


@dataclass(frozen=True)
class QuantizedLayer:
    """One layer's weight as integers: the decoded weight is ``codes.float() * step``, a step for all rows or one a row.

    ``codes`` int16, of the weight's shape; ``step`` float32, (1,) or (N,); ``bits`` and ``levels`` name the alphabet,
    whose codes are ``low .. high`` and take ``storage_bits`` each (b + 1 for the published alphabet).
    ``relative_error`` is ||X W' - X~ Q'|| / ||X W'|| (Frobenius) on the calibration patches, 0 where X W' is 0;
    ``scale`` the C of the steps, its mean over the rows where each row chose its own.
    """

    codes: torch.Tensor
    step: torch.Tensor
    bits: int
    levels: str
    low: int
    high: int
    relative_error: float
    scale: float

    @property
    def storage_bits(self) -> int:
        """Whole bits that one stored code takes."""
        return Alphabet(self.bits, self.levels).storage_bits


def decode(codes: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    """The float32 weight of integer codes and a float32 step of shape (1,) or (N,), N = the codes' first size."""
    return codes.float() * step.view(-1, *[1] * (codes.dim() - 1))


@dataclass(frozen=True)
class Plan:
    """How a copy of a network is to be quantized.

    ``quantizer`` is a function like :func:`kdq.quantize.methods.gpfq.gpfq`; ``bits`` are those of each layer by name, where not
    all have the same.
    """

    quantizer: Callable
    parameters: Quantizer
    log: Callable[[str], None] = print
    bits: Mapping[str, int] | None = None

    def alphabet(self, layer: str) -> Alphabet:
        """The codes of a layer, by its name."""
        return Alphabet(self.bits[layer] if self.bits else self.parameters.bits, self.parameters.levels)


@dataclass
class Copy:
    """A copy of a network by a plan: its quantized ``layers`` in order of execution, or the ``error`` that ended it.

    Where the plan corrects biases, ``holders`` are the tensors that hold the corrections, ``shifts``, of each layer.
    """

    network: nn.Module
    plan: Plan
    layers: dict[str, QuantizedLayer] = field(default_factory=dict)
    error: UserError | None = None
    holders: dict[str, tuple[torch.Tensor, int]] = field(default_factory=dict)
    shifts: dict[str, torch.Tensor] = field(default_factory=dict)

    @contextlib.contextmanager
    def ended_by_errors(self) -> Iterator[None]:
        """A UserError of the block ends this copy alone."""
        try:
            yield
        except UserError as error:
            self.error = error


def quantize(
    model: nn.Module,
    images: torch.Tensor,
    quantizer: Callable,
    parameters: Quantizer,
    seed: int = 0,
    device=None,
    log=print,
    bits: Mapping[str, int] | None = None,
    views: torch.Tensor | None = None,
) -> dict[str, QuantizedLayer]:
    """Quantize every nn.Conv2d and nn.Linear of a float network in place; returns the layers in order of execution.

    ``model`` takes float images in [0, 1] and treats each on its own; ``images`` uint8 (M, C, H, W), the calibration
    images, ``views`` those from which the statistics of BatchNorm are measured again where the parameters ask for it,
    by default the same; the other arguments are those of a :class:`Plan`. The model is left in evaluation mode and
    computes with the decoded weights. Raises UserError for a layer that never runs, on other samples or with numbers
    that are not finite.

    A layer that runs more than once is quantized at its first call, on the inputs of all calls. Those of the later
    calls depend on its own codes; in their place the float network's stand on both sides.
    """
    one = Copy(model, Plan(quantizer, parameters, log, bits))
    _quantize_copies(copy.deepcopy(model), images, views, [one], seed, device)
    if one.error:
        raise one.error
    return one.layers


def quantize_each(
    model: nn.Module, images: torch.Tensor, plans: Sequence[Plan], seed: int = 0, device=None, views=None
) -> list[Copy]:
    """Quantize a copy of a float network by each of the ``plans``, all in one pass.

    Every copy has the codes that :func:`quantize` finds alone. A UserError of one copy ends it, and not the others. The
    model itself stays float and is left in evaluation mode.
    """
    copies = [Copy(copy.deepcopy(model), plan) for plan in plans]
    _quantize_copies(model, images, views, copies, seed, device)
    return copies


@torch.no_grad()
def _quantize_copies(model, images, views, copies, seed, device) -> None:
    """Quantize the networks of ``copies``, all equal to ``model``, which stays float."""
    device = device or next(model.parameters()).device
    networks = [network.to(device).eval() for network in (model, *(one.network for one in copies))]
    stops = [(network, quantizable_layers(network)) for network in networks]
    images = images.to(device)
    views = images if views is None else views.to(device)
    for one, (network, layers) in zip(copies, stops[1:], strict=True):
        if one.plan.parameters.bias == "correct":
            with one.ended_by_errors():
                one.holders = bias.holders(network, layers, images[:1].float() / 255)
    order, image_bytes = survey(*stops[0], images[:1])
    later = later_inputs(*stops[0], order, images)
    limit_bytes = min(one.plan.parameters.memory for one in copies) * 2**30
    with side_by_side(stops, images, image_bytes, limit_bytes) as (analog, *others):
        going = [(one, passes) for one, passes in zip(copies, others, strict=True) if not one.error]
        for index, name in enumerate(order):
            inputs, first = analog.arrived(name), name not in order[:index]
            for one, passes in going:
                with one.ended_by_errors():
                    quantized = passes.arrived(name)
                    if first:
                        _arrive(one, name, inputs, quantized, later.get(name, ()), seed)
            going = [(one, passes) for one, passes in going if not one.error]
            if not going:
                return
            _pass_on(model.get_submodule(name), name, analog, going, first)
    for one, _ in going:
        with one.ended_by_errors():
            bias.store(one.holders, one.shifts)
            if one.plan.parameters.batchnorm == "reestimate":
                reestimate(one.network, views.float() / 255)


def _arrive(one: Copy, name: str, analog: Chunks, quantized: Chunks, later: Sequence[torch.Tensor], seed: int) -> None:
    """Quantize a layer of one copy, where its first call has come; ``later`` are the inputs of the other calls."""
    if other := [tuple(inputs.shape) for inputs in later if inputs.shape[1:] != analog.shape[1:]]:
        raise UserError(f"{name}: runs on inputs of shape {analog.shape}, then {other[0]}, expected one shape")
    kinds = (_with_later(inputs, later) for inputs in (analog, quantized))
    calibration = Calibration(
        one.network.get_submodule(name), *kinds, one.plan.parameters.patches, seed + len(one.layers), not later
    )
    alphabet = one.plan.alphabet(name)
    one.layers[name] = quantize_layer(name, calibration, one.plan.quantizer, alphabet, one.plan.parameters)


def _with_later(inputs: Chunks, later: Sequence[torch.Tensor]) -> Chunks:
    if not later:
        return inputs
    shapes = *inputs.shapes, *(more.shape for more in later)
    return Chunks(shapes, lambda: itertools.chain(inputs, later), inputs.resident)


def _pass_on(
    float_layer: nn.Module, name: str, analog: Lockstep, going: list[tuple[Copy, Lockstep]], first: bool
) -> None:
    """Every network goes on with its own output of the layer; at its ``first`` call the copies' errors are measured."""
    errors = [RelativeError() for _ in going]
    for one, passes in going:
        if name in one.holders and first:
            one.shifts[name] = _mean_difference(float_layer, one.network.get_submodule(name), analog, passes)
    for index, own in enumerate(analog.passes):
        expected = [_output(float_layer, own)]  # in a list, to be handed over: what is held here stays in memory
        for (one, passes), error in zip(going, errors, strict=True):
            output = [_output(one.network.get_submodule(name), passes.passes[index])]
            if one.layers[name].relative_error is None:
                error.add(*(_without_bias(float_layer, outputs[0]) for outputs in (expected, output)))
            if name in one.shifts:
                output.append(bias.shifted(float_layer, output.pop(), one.shifts[name]))
            passes.passes[index].advance(output.pop())
        own.advance(expected.pop())
    for (one, _), error in zip(going if first else (), errors, strict=first):
        if one.layers[name].relative_error is None:
            one.layers[name] = replace(one.layers[name], relative_error=float(error))
        one.plan.log(describe(name, one.layers[name]))


def _mean_difference(float_layer: nn.Module, own_layer: nn.Module, analog: Lockstep, passes: Lockstep) -> torch.Tensor:
    """:func:`kdq.quantize.execution.bias.mean_difference` over all chunks, whose outputs are computed for it alone."""
    total, samples = 0, 0
    for own, other in zip(analog.passes, passes.passes, strict=True):
        outputs = _output(float_layer, own), _output(own_layer, other)
        total = total + len(outputs[0]) * bias.mean_difference(float_layer, *outputs)
        samples += len(outputs[0])
    return total / samples


def _output(module: nn.Module, one: Pass) -> torch.Tensor:
    with one.loaded() as given:
        return type(module).forward(module, given)


def _without_bias(module: nn.Module, outputs: torch.Tensor) -> torch.Tensor:
    if module.bias is None:
        return outputs
    return outputs - module.bias.view(-1, *[1] * 2 * isinstance(module, nn.Conv2d))


def quantize_layer(
    name: str, calibration: Calibration, quantizer: Callable, alphabet: Alphabet, parameters: Quantizer
) -> QuantizedLayer:
    """Quantize one layer in place. Its relative error is left None where it is that of the outputs on all inputs.

    Raises UserError, which begins with ``name``, for numbers that are not finite.
    """
    module, float_weight = calibration.module, weight_matrix(calibration.module)
    if not (calibration.finite() and float_weight.sum().isfinite()):
        raise UserError(f"{name}: infinite or NaN weights or inputs, expected finite numbers")
    choice = choose(float_weight, calibration, quantizer, alphabet, parameters)
    codes = choice.codes.contiguous().reshape(module.weight.shape)
    step = choice.step.flatten()[: None if parameters.granularity == "channel" else 1]
    module.weight.data = decode(codes, step).to(module.weight)
    error = choice.relative_error
    if error is None and not calibration.of_outputs:
        error = _error_on_rows(calibration, float_weight)
    return QuantizedLayer(
        codes=codes.cpu(),
        step=step.cpu(),
        bits=alphabet.bits,
        levels=alphabet.levels,
        low=alphabet.low,
        high=alphabet.high,
        scale=float(choice.scale.mean()),
        relative_error=error,
    )


def with_error(layer: QuantizedLayer, float_layer: nn.Module, own_layer: nn.Module, analog, quantized):
    """``layer`` with its relative error on inputs that are tensors, where that was left None."""
    if layer.relative_error is not None:
        return layer
    error, pairs = RelativeError(), ((float_layer, analog), (own_layer, quantized))
    error.add(*(_without_bias(module, type(module).forward(module, inputs)) for module, inputs in pairs))
    return replace(layer, relative_error=float(error))


def _error_on_rows(calibration: Calibration, float_weight: torch.Tensor) -> float:
    """||X W' - X~ Q'|| / ||X W'|| of a layer whose weight is decoded codes by now."""
    weights = (weight.mT.float() for weight in (float_weight, weight_matrix(calibration.module)))
    error, weights = RelativeError(), tuple(weights)
    for x, xq in rows(*calibration.inputs, dtype=torch.float32):
        error.add(x @ weights[0], xq @ weights[1])
    return float(error)


def describe(name: str, layer: QuantizedLayer) -> str:
    """A quantized layer as one line of a log."""
    return f"{name}: {layer.bits} bits, scale {layer.scale:.3f}, relative error {layer.relative_error:.4f}"


def quantizable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers to quantize by name; refuses those whose weight is not their own or whose forward is another."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    owners: dict[int, str] = {}
    for name, module in layers.items():
        if type(module).forward not in (nn.Conv2d.forward, nn.Linear.forward) or "weight" not in module._parameters:
            raise UserError(
                f"{name}: {type(module).__name__} computes in its own way, expected a plain Conv2d or Linear"
            )
        other = owners.setdefault(id(module.weight), name)
        if other != name:
            raise UserError(f"{name}: shares its weight with {other}, expected a weight of its own")
    if not layers:
        raise UserError(f"{type(model).__name__}: no Conv2d or Linear found, expected at least one to quantize")
    return layers
