"""What reaches a layer: the order in which layers are executed, and the input of one of them."""

import contextlib

import torch
from torch import nn

from kdq.errors import UserError
from kdq.quantize.execution.network import quantizable_layers

AT_ONCE = 250  # images of a forward pass: besides the inputs that are asked for, little has to be in memory


class _Reached(Exception):
    """The layer has its input: the rest of the forward pass is not needed."""


@torch.no_grad()
def execution_order(model: nn.Module, images: torch.Tensor) -> list[str]:
    """The names of all nn.Conv2d and nn.Linear in the order in which a forward pass of ``images`` calls them.

    Raises UserError for a layer that is called twice or never.
    """
    layers, called = quantizable_layers(model), []
    hooks = [
        module.register_forward_pre_hook(lambda module, arguments, name=name: called.append(name))
        for name, module in layers.items()
    ]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    for name in layers:
        if called.count(name) != 1:
            raise UserError(f"{name}: runs {called.count(name)} times in one forward pass, expected once")
    return called


@torch.no_grad()
def layer_inputs(model: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    """The input of the layer ``name`` for float ``images`` (M, C, H, W), (M, ...); what follows it is not computed."""
    caught = []

    def catch(module, arguments):
        caught.append(arguments[0])
        raise _Reached

    with model.get_submodule(name).register_forward_pre_hook(catch):
        for batch in images.split(AT_ONCE):
            with contextlib.suppress(_Reached):
                model(batch)
    return torch.cat(caught)
