"""Learned step size quantization (LSQ): weights on a grid of codes, trained together with the grid's steps.

Source: Esser et al., Learned Step Size Quantization, ICLR 2020, arXiv:1902.08153. Each quantized layer keeps float
weights; the network computes with them rounded to the grid, and gradients pass straight through the rounding. So do
those of quantized activations, whose scales are learned too; their zero points stay. With a zero point the gradient
scale is that of Bhalgat et al., LSQ+, CVPR Workshops 2020, arXiv:2004.09576.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kdq.models import masks
from kdq.models.activations import QUANTIZERS, attach_quantizers, detach_quantizers
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.integer import round_biases
from kdq.models.model import Model
from kdq.retrain.method import Retraining
from kdq.train.task import Task

KEPT_FACTS = ("bits", "levels")  # a layer's other facts describe the codes before retraining
INSIDE = 0.49  # of a step: the largest distance of a float weight from its code at the start
LEAST = 2.0**-7  # of its first value: the least step or scale; runtimes' integer kernels refuse scales 2^8 apart


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, step: Tensor, low: int, high: int, gain: float) -> Tensor:
        ctx.save_for_backward(weight, step)
        ctx.low, ctx.high, ctx.gain = low, high, gain
        return rounded(weight, step, low, high).mul_(step)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        weight, step = ctx.saved_tensors
        ratio = weight / step
        codes = ratio.clamp(ctx.low, ctx.high)
        inside = torch.eq(codes, ratio, out=torch.empty_like(ratio))  # 1 or 0, for products in place
        of_step = codes.round_().sub_(ratio.mul_(inside)).mul_(gradient)
        return inside.mul_(gradient), ctx.gain * of_step.sum_to_size(step.shape), None, None, None


def rounded(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return the codes of a float weight, as floats: round(clip(weight / step, low, high))."""
    return (weight / step).clamp_(low, high).round_()


def lsq(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return code * step with code = round(clip(weight / step, low, high)), of ``weight``'s shape.

    ``step`` broadcasts with ``weight``: one element, or one per row. With g the incoming gradient, that of a weight is
    g if weight / step is within low .. high, else 0. That of a step is the sum over its weights of g (code - weight /
    step) if within, g code if outside, scaled by 1 / sqrt(number of its weights * high).
    """
    return _Quantize.apply(weight, step, low, high, (step.numel() / (weight.numel() * high)) ** 0.5)


def positive(step: Tensor, least: Tensor | float) -> Tensor:
    """Return the steps, or ``least`` for those that training drove below; the gradient passes either way."""
    return torch.where(step < least, least + (step - step.detach()), step)


class LearnedScale(nn.Module):
    """The quantizer of a point: its scale is a parameter, which stays positive."""

    def __init__(self, point: Point):
        super().__init__()
        self.point = point
        self.scale = nn.Parameter(point.scale.clone())
        self.least = LEAST * float(point.scale)
        self.low, self.high = -point.zero_point, 2**point.bits - 1 - point.zero_point

    def positive(self) -> Tensor:
        """Return the scale that it quantizes with, float32 ()."""
        return positive(self.scale, self.least)

    def learned(self) -> Point:
        """Return the point with its scale as it is by now."""
        return replace(self.point, scale=self.positive().detach().cpu())

    def forward(self, x: Tensor) -> Tensor:
        """Return the codes' values, in the shape and type of ``x`` (B, ...); codes are computed in float32.

        The gradient of the scale is that of a step, scaled by 1 / sqrt(numbers per sample * (2^bits - 1)).
        """
        gain = (x[0].numel() * (self.high - self.low)) ** -0.5
        return _Quantize.apply(x.float(), self.positive(), self.low, self.high, gain).to(x.dtype)


class LearnedStep(nn.Module):
    """The quantizer of a layer's weight: a parametrization with the steps, (1,) or (rows,), as parameters.

    The alphabet is a part of its state, so that a checkpoint holds it.
    """

    def __init__(self, codes: QuantizedWeight, device: torch.device):
        super().__init__()
        self.step = nn.Parameter(codes.step.to(device).clone())
        self.register_buffer("least", LEAST * self.step.detach())
        self.low, self.high = codes.low, codes.high

    @torch.no_grad()
    def learned(self, weight: Tensor) -> QuantizedWeight:
        """Return the codes of the float ``weight`` with the steps as they are by now, without facts."""
        codes = rounded(weight, self.rows(weight), self.low, self.high).to(torch.int16).contiguous().cpu()
        bits = (self.high - self.low).bit_length()
        return QuantizedWeight(codes, self.positive().cpu(), self.low, self.high, bits, {})

    @torch.no_grad()
    def restart(self, codes: QuantizedWeight) -> None:
        """Go on with another alphabet, and steps of the same shape."""
        self.step.copy_(codes.step)
        self.least.copy_(LEAST * codes.step)
        self.low, self.high = codes.low, codes.high

    def positive(self) -> Tensor:
        """Return the steps that it quantizes with, float32 (1,) or (rows,); they stay positive."""
        return positive(self.step, self.least)

    def forward(self, weight: Tensor) -> Tensor:
        return lsq(weight, self.rows(weight), self.low, self.high)

    def rows(self, weight: Tensor) -> Tensor:
        """Return the steps in a shape that broadcasts with ``weight`` (rows, ...)."""
        return self.positive().view(-1, *[1] * (weight.dim() - 1))

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.low, self.high])

    def set_extra_state(self, state: Tensor) -> None:
        self.low, self.high = state.tolist()


class LearnedStepsTask(Task):
    """A task whose network has LSQ on its layers: it is validated with the biases of an integer runtime."""

    def before_validation(self, networks: dict[str, nn.Module]) -> None:
        round_biases(networks["network"].eval(), learned_codes(networks["network"]))


def attach(model: Model, floats: nn.Module | None = None) -> nn.Module:
    """Put LSQ on every quantized layer of the model's network, in place, and return it: the same function, bit by bit.

    If the model has quantized activations, their scales are learned too.

    The float weights are the decoded ones. With ``floats`` they are those of its layers of the same name and shape,
    moved to within 0.49 steps of the code, except beyond the first and the last code.
    """
    modules = dict(model.network.named_modules())
    float_modules = dict(floats.named_modules()) if floats is not None else {}
    for name, codes in model.codes.items():
        module = modules[name]
        quantizer = LearnedStep(codes, module.weight.device)
        with torch.no_grad():
            module.weight.copy_(_start(module.weight, quantizer, getattr(float_modules.get(name), "weight", None)))
        parametrize.register_parametrization(module, "weight", quantizer)
    masks.impose(model.network)  # the float ancestor may be older than they are
    device, points = next(model.network.parameters()).device, model.codes.points
    return attach_quantizers(model.network, points, [LearnedScale(point).to(device) for point in points])


def _start(decoded: Tensor, quantizer: LearnedStep, weight: Tensor | None) -> Tensor:
    step, low, high = quantizer.rows(decoded), quantizer.low, quantizer.high
    codes = rounded(decoded, step, low, high)
    if weight is not None and weight.shape == decoded.shape:
        least = torch.where(codes > low, codes - INSIDE, -torch.inf)
        most = torch.where(codes < high, codes + INSIDE, torch.inf)
        return (weight / step).clamp(least, most) * step
    # rounding errors must not put a weight beyond the last code, where its gradient would be 0
    beyond = (decoded / step).clamp(low, high) != decoded / step
    return torch.where(beyond, decoded.nextafter(torch.zeros_like(decoded)), decoded)


def learned_codes(network: nn.Module) -> Codes:
    """Return the codes and the points of a network with LSQ as they are by now."""
    codes = Codes(points=[quantizer.learned() for quantizer in network.get_submodule(QUANTIZERS)])
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            quantizer, weight = module.parametrizations.weight[0], module.parametrizations.weight.original
            codes[name] = quantizer.learned(weight)
    return codes


def detach(network: nn.Module, before: Codes) -> Codes:
    """Undo :func:`attach` in place, so that weights are the decoded ones again; return the new codes.

    Alphabet and bits are those of the codes ``before``; of their facts the bits and the alphabet's name are kept.
    Layers that stayed float beside them still are.
    """
    now = learned_codes(network)
    detach_quantizers(network)
    after = Codes(kept=before.kept, points=now.points)
    for name, codes in before.items():
        parametrize.remove_parametrizations(network.get_submodule(name), "weight")
        facts = {key: codes.facts[key] for key in KEPT_FACTS if key in codes.facts}
        after[name] = replace(now[name], facts=facts)
    return after


class LearnedSteps(Retraining):
    """A method that trains the parent's codes by LSQ; its task trains the network of :meth:`attached`."""

    def attached(self, parent: Model) -> nn.Module:
        """Return the parent's network with learned steps, from the float ancestor's weights if ``start=float``."""
        return attach(parent, self.floats)

    def model(self, task: Task, parent: Model) -> Model:
        return Model(task.network, parent.architecture, detach(task.network, parent.codes))
