"""Which outputs of modules are quantized, so that an integer runtime computes all of a network's convolutions.

It computes a convolution on integers if its output is quantized next. In a network of this package additions quantize
what they read; in any other network a sum is no module, so what it reads is quantized where a module gives it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor, nn

from kdq.models.dataflow import Dataflow, Step, dataflow
from kdq.models.network import Network

# Operations of which a runtime computes with the codes: the largest code is the code of the largest value.
PASSING = ("relu", "relu_", "max_pool2d_with_indices", "max_pool2d", "view", "_unsafe_view")


@dataclass(frozen=True)
class Outputs:
    """``convolutions``, whose outputs are quantized; and for layers, by name, the module that gives what they read.

    Others read that too, such as the sum behind a residual block.
    """

    convolutions: tuple[str, ...] = ()
    shared: dict[str, str] = field(default_factory=dict)


NO_OUTPUTS = Outputs()


def quantized_outputs(model: nn.Module, layers: Iterable[str], images: Tensor) -> Outputs:
    """Return the outputs to quantize in a network whose ``layers`` have quantized inputs; none in one of this package.

    One pass of float ``images``, one is enough.
    """
    if isinstance(model, Network):
        return NO_OUTPUTS
    modules = {name: model.get_submodule(name) for name in layers}
    flow = dataflow(model, images, modules)
    shared = {name: giver for name in modules if (giver := _shared_giver(flow, name, modules))}
    values = {flow.calls(name)[0].reads[0] for name in shared}
    convolutions = (name for name, module in modules.items() if isinstance(module, nn.Conv2d))
    convolutions = (name for name in convolutions if len(flow.calls(name)) == 1)
    alone = (name for name in convolutions if not _quantized_next(flow, flow.calls(name)[0], modules, values))
    return Outputs(tuple(alone), shared)


def _shared_giver(flow: Dataflow, name: str, layers) -> str:
    """Return the module that gives what a layer reads if others than layers read it too, "" if there is none."""
    value = flow.calls(name)[0].reads[0]
    others = [step for step in flow.readers(value) if not (step.is_module and step.name in layers)]
    return flow.givers.get(value, "") if others and len(flow.calls(name)) == 1 else ""


def _quantized_next(flow: Dataflow, step: Step, layers, values: set[int]) -> bool:
    """Return whether what a step gives is quantized before anything else is computed of it.

    ``values`` are quantized as a module gives them.
    """
    value = step.gives[0]
    if value in values:
        return True
    readers = flow.readers(value)
    if readers and all(reader.is_module and reader.name in layers for reader in readers):
        return True
    return len(readers) == 1 and readers[0].name in PASSING and _quantized_next(flow, readers[0], layers, values)
