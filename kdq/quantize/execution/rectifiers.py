"""The ReLUs behind layers: which outputs of a layer they pass on, so that an error of the others changes nothing."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kdq.errors import UserError
from kdq.models.tracing import rectified, trace


def passed_outputs(model: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return by name the bounds (2, N), float64, of the outputs that the ReLU behind a layer passes on.

    Outputs are those less the bias, and a BatchNorm in eval mode may lie between: where its gain is negative the ReLU
    passes on what is below a bound. Layers are left out that run more than once or whose outputs something else reads,
    and all of a network that can't be traced.
    """
    try:
        behind = rectified(model, trace(model))
    except UserError:
        return {}
    norms = {name: model.get_submodule(norm) if norm else None for name, norm in behind.items() if name in layers}
    return {
        name: _bounds(layers[name], norm)
        for name, norm in norms.items()
        if norm is None or norm.running_var is not None
    }


def _bounds(layer: nn.Module, norm: nn.Module | None) -> Tensor:
    """Return the least and the largest output, less the bias, of which the ReLU behind ``norm`` gives more than 0."""
    gain = torch.ones(len(layer.weight), dtype=torch.float64, device=layer.weight.device)
    offset = torch.zeros_like(gain) if layer.bias is None else layer.bias.detach().double()
    if norm is not None:
        gain = (norm.running_var.double() + norm.eps).rsqrt()
        offset = (offset - norm.running_mean.double()) * gain
        if norm.affine:
            gain, offset = gain * norm.weight.detach(), offset * norm.weight.detach() + norm.bias.detach()
    zero, everything = -offset / gain, torch.full_like(gain, torch.inf)
    return torch.stack([torch.where(gain > 0, zero, -everything), torch.where(gain < 0, zero, everything)])
