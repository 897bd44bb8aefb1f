"""Stages of two networks that correspond: what the methods that compare feature maps read."""

from torch import nn

from kdq.errors import UserError
from kdq.models.network import Network


def stages_of(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the stages of ``network``, in order; raise UserError if its features can't be read."""
    if not isinstance(network, Network):
        raise UserError(
            f"a network of the kind {type(network).__name__} gives no features, logits alone; "
            "expected a ResNet or another network of this package, or a method that needs none"
        )
    return network.stages


def deepest_stages(student: nn.Module, teacher: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the last stages of both networks, as many as the network with fewer of them has, in order."""
    stages = stages_of(student), stages_of(teacher)
    count = min(map(len, stages))
    return stages[0][-count:], stages[1][-count:]
