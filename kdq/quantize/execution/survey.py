"""What a forward pass will do, found out with few images: the order of the layers, and what it holds between them."""

import math
from pathlib import Path

import torch
from torch import nn

from kdq.errors import UserError
from kdq.quantize.execution.lockstep import Pass, stopping
from kdq.quantize.execution.spill import Room, Spill


def survey(model: nn.Module, layers: dict[str, nn.Module], image: torch.Tensor) -> tuple[list[str], int]:
    """(names of the layers in the order of their calls, the most bytes held at a call) for ``image`` (1, C, H, W).

    A layer that is called twice stands there twice. Raises UserError for one that is never called.
    """
    spill = Spill(model, Room(math.inf), Path(), smallest_bytes=1)
    one, order, most_bytes = Pass(model, image, spill), [], 0
    with stopping(layers):
        one.advance()
        while one.layer:
            order.append(one.layer)
            most_bytes = max(most_bytes, spill.size_bytes)
            one.advance(type(layers[one.layer]).forward(layers[one.layer], one.input))
    for name in layers:
        if name not in order:
            raise UserError(f"{name}: never called in a forward pass, expected every Conv2d and Linear to take part")
    return order, most_bytes


def later_inputs(model, layers, order: list[str], images: torch.Tensor, at_once: int = 64) -> dict[str, list]:
    """For each layer that is called more than once the inputs of all its calls but the first, some images at a time.

    ``images`` uint8 (M, C, H, W); one forward pass more, and only for networks with such a layer.
    """
    found = {name: [] for name in layers if order.count(name) > 1}
    if not found:
        return found
    calls = dict.fromkeys(found, 0)

    def arrive(name, given):
        calls[name] += 1
        if calls[name] > 1:
            found[name].append(given[0].clone())  # an activation in place may come

    hooks = [
        layers[name].register_forward_pre_hook(lambda module, given, name=name: arrive(name, given)) for name in found
    ]
    try:
        for chunk in images.split(at_once):
            calls.update(dict.fromkeys(found, 0))
            model(chunk.float() / 255)
    finally:
        for hook in hooks:
            hook.remove()
    return found
