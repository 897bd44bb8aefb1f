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

from kdq.models.activations import QUANTIZERS, attach_quantizers, detach_quantizers
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.integer import round_biases
from kdq.models.model import Model
from kdq.train.task import Task

KEPT_FACTS = ("bits", "levels")  # a layer's other facts describe the codes before retraining
INSIDE = 0.49  # of a step: the largest distance of a float weight from its code at the start
LEAST = 1e-3  # of its first value: the least scale of an activation


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, step: Tensor, low: int, high: int, gain: float) -> Tensor:
        ctx.save_for_backward(weight, step)
        ctx.low, ctx.high, ctx.gain = low, high, gain
        return rounded(weight, step, low, high) * step

    @staticmethod
    def backward(ctx, gradient: Tensor):
        weight, step = ctx.saved_tensors
        ratio = weight / step
        inside = (ratio >= ctx.low) & (ratio <= ctx.high)
        codes = ratio.clamp(ctx.low, ctx.high).round()
        of_step = gradient * torch.where(inside, codes - ratio, codes)
        return gradient * inside, ctx.gain * of_step.sum_to_size(step.shape), None, None, None


def rounded(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return the codes of a float weight, as floats: round(clip(weight / step, low, high))."""
    return (weight / step).clamp(low, high).round()


def lsq(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return code * step with code = round(clip(weight / step, low, high)), of ``weight``'s shape.

    ``step`` broadcasts with ``weight``: one element, or one per row. With g the incoming gradient, that of a weight is
    g if weight / step is within low .. high, else 0. That of a step is the sum over its weights of g (code - weight /
    step) if within, g code if outside, scaled by 1 / sqrt(number of its weights * high).
    """
    return _Quantize.apply(weight, step, low, high, (step.numel() / (weight.numel() * high)) ** 0.5)


class LearnedScale(nn.Module):
    """The quantizer of a point: its scale is a parameter, which stays positive."""

    def __init__(self, point: Point):
        super().__init__()
        self.point = point
        self.scale = nn.Parameter(point.scale.clone())
        self.least = LEAST * float(point.scale)
        self.low, self.high = -point.zero_point, 2**point.bits - 1 - point.zero_point

    def positive(self) -> Tensor:
        """Return the scale, or the least one if training drove it below; the gradient passes either way."""
        least = self.least + (self.scale - self.scale.detach())
        return torch.where(self.scale < self.least, least, self.scale)

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
    """The quantizer of a layer's weight: a parametrization with the steps as parameters."""

    def __init__(self, codes: QuantizedWeight, device: torch.device):
        super().__init__()
        ones = [1] * (codes.codes.dim() - 1)
        self.step = nn.Parameter(codes.step.to(device).view(-1, *ones).clone())
        self.low, self.high, self.storage_bits = codes.low, codes.high, codes.storage_bits
        self.facts = {key: codes.facts[key] for key in KEPT_FACTS if key in codes.facts}

    def learned(self, weight: Tensor) -> QuantizedWeight:
        """Return the codes of the float ``weight`` with the steps as they are by now."""
        codes = rounded(weight.detach(), self.step.detach(), self.low, self.high).to(torch.int16).contiguous().cpu()
        return QuantizedWeight(
            codes, self.step.detach().flatten().cpu(), self.low, self.high, self.storage_bits, self.facts
        )

    def forward(self, weight: Tensor) -> Tensor:
        return lsq(weight, self.step, self.low, self.high)


class LearnedSteps(Task):
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
    device, points = next(model.network.parameters()).device, model.codes.points
    return attach_quantizers(model.network, points, [LearnedScale(point).to(device) for point in points])


def _start(decoded: Tensor, quantizer: LearnedStep, weight: Tensor | None) -> Tensor:
    step, low, high = quantizer.step, quantizer.low, quantizer.high
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
    for name in before:
        parametrize.remove_parametrizations(network.get_submodule(name), "weight")
    return Codes({name: now[name] for name in before}, kept=before.kept, points=now.points)
