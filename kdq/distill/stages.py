"""Stages of two networks that correspond: what the methods that compare feature maps read."""

from torch import nn

from kdq.errors import UserError


def stages_of(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the stages of ``network``, in order; raise UserError if its features can't be read."""
    if not (stages := getattr(network, "stages", ())):
        name = getattr(network, "architecture", {}).get("architecture", f"of the kind {type(network).__name__}")
        raise UserError(
            f"the network {name} gives no feature maps of several sizes; expected one that does, such as a ResNet, or "
            "a method that needs none"
        )
    return stages


def deepest_stages(student: nn.Module, teacher: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the last stages of both networks, as many as the network with fewer of them has, in order."""
    stages = stages_of(student), stages_of(teacher)
    count = min(map(len, stages))
    return stages[0][-count:], stages[1][-count:]
