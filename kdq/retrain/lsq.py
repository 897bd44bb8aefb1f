"""Learned step size quantization (LSQ): weights on a grid of codes, trained together with the grid's steps.

Source: Esser et al., Learned Step Size Quantization, ICLR 2020, arXiv:1902.08153. Each quantized layer keeps float
weights; the network computes with them rounded to the grid, and gradients pass straight through the rounding.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kdq.models.codes import Codes, QuantizedWeight
from kdq.models.model import Model

KEPT_FACTS = ("bits", "levels")  # a layer's other facts describe the codes before retraining
INSIDE = 0.49  # of a step: the largest distance of a float weight from its code at the start


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(weight, step)
        ctx.low, ctx.high = low, high
        return rounded(weight, step, low, high) * step

    @staticmethod
    def backward(ctx, gradient: Tensor):
        weight, step = ctx.saved_tensors
        ratio = weight / step
        inside = (ratio >= ctx.low) & (ratio <= ctx.high)
        codes = ratio.clamp(ctx.low, ctx.high).round()
        of_step = gradient * torch.where(inside, codes - ratio, codes)
        scale = (step.numel() / (weight.numel() * ctx.high)) ** 0.5
        return gradient * inside, scale * of_step.sum_to_size(step.shape), None, None


def rounded(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return the codes of a float weight, as floats: round(clip(weight / step, low, high))."""
    return (weight / step).clamp(low, high).round()


def lsq(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return code * step with code = round(clip(weight / step, low, high)), of ``weight``'s shape.

    ``step`` broadcasts with ``weight``: one element, or one per row. With g the incoming gradient, that of a weight is
    g if weight / step is within low .. high, else 0. That of a step is the sum over its weights of g (code - weight /
    step) if within, g code if outside, scaled by 1 / sqrt(number of its weights * high).
    """
    return _Quantize.apply(weight, step, low, high)


class LearnedStep(nn.Module):
    """The quantizer of a layer's weight: a parametrization with the steps as parameters."""

    def __init__(self, codes: QuantizedWeight, device: torch.device):
        super().__init__()
        ones = [1] * (codes.codes.dim() - 1)
        self.step = nn.Parameter(codes.step.to(device).view(-1, *ones).clone())
        self.low, self.high = codes.low, codes.high

    def forward(self, weight: Tensor) -> Tensor:
        return lsq(weight, self.step, self.low, self.high)


def attach(model: Model, floats: nn.Module | None = None) -> nn.Module:
    """Put LSQ on every quantized layer of the model's network, in place, and return it: the same function, bit by bit.

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
    return model.network


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


def detach(network: nn.Module, before: dict[str, QuantizedWeight]) -> Codes:
    """Undo :func:`attach` in place, so that weights are the decoded ones again; return the new codes.

    Alphabet and bits are those of the codes ``before``; of their facts the bits and the alphabet's name are kept.
    Layers that stayed float beside them still are.
    """
    modules = dict(network.named_modules())
    after = Codes(kept=getattr(before, "kept", None))
    for name, codes in before.items():
        module = modules[name]
        quantizer, weight = module.parametrizations.weight[0], module.parametrizations.weight.original
        now = rounded(weight.detach(), quantizer.step.detach(), codes.low, codes.high).to(torch.int16)
        facts = {key: codes.facts[key] for key in KEPT_FACTS if key in codes.facts}
        step = quantizer.step.detach().flatten().cpu()
        after[name] = QuantizedWeight(now.contiguous().cpu(), step, codes.low, codes.high, codes.storage_bits, facts)
        parametrize.remove_parametrizations(module, "weight")
    return after
