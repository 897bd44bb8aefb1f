"""Which operation reads what another one gives, in one forward pass of any network: it need not be traceable."""

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

RETURN = "return"  # the name of the last step, which reads what the network gives


@dataclass(frozen=True)
class Step:
    """One operation, or one call of a noted module with all operations in it: the values that it reads and gives.

    ``name`` is the module's, or that of torch's operator, such as ``relu``. A value is the number of a tensor with one
    content: a tensor that is changed in place becomes another value.
    """

    name: str
    is_module: bool
    reads: tuple[int, ...]
    gives: tuple[int, ...]


class Dataflow:
    """The ``steps`` of a forward pass in order; ``givers``: the innermost module that runs once and gives a value."""

    def __init__(self, steps: list[Step], outputs: list[tuple[str, int]]):
        self.steps = steps
        runs = Counter(name for name, _ in outputs)
        self.givers = {value: name for name, value in reversed(outputs) if runs[name] == 1}

    def calls(self, name: str) -> list[Step]:
        """Return the calls of a noted module."""
        return [step for step in self.steps if step.is_module and step.name == name]

    def readers(self, value: int) -> list[Step]:
        """Return the steps that read a value."""
        return [step for step in self.steps if value in step.reads]


@torch.no_grad()
def dataflow(network: nn.Module, images: Tensor, modules: Mapping[str, nn.Module]) -> Dataflow:
    """Return the steps of a forward pass of ``images``, one is enough; each call of one of ``modules`` is a step."""
    recorder = _Recorder()
    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            stack.enter_context(module.register_forward_pre_hook(recorder.enter, with_kwargs=True))
            leave = lambda module, inputs, output, name=name: recorder.leave(name, output)  # noqa: E731
            stack.enter_context(module.register_forward_hook(leave))
        for name, module in network.named_modules():
            give = lambda module, inputs, output, name=name: recorder.give(name, output)  # noqa: E731
            stack.enter_context(module.register_forward_hook(give))
        stack.enter_context(recorder)
        output = network(images)
    recorder.add(RETURN, False, output, ())
    return Dataflow(recorder.steps, recorder.outputs)


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.steps: list[Step] = []
        self.outputs: list[tuple[str, int]] = []  # module and value, in the order in which modules return
        self.numbers: dict[int, int] = {}  # of tensors, by id
        self.alive: list[Tensor] = []  # so that no later tensor takes the place of an earlier one
        self.entered: list = []  # the inputs of the noted modules that run

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        reads = self._values((arguments, keywords))
        output = function(*arguments, **keywords)
        if not self.entered:
            for tensor in _tensors(output):
                self.numbers.pop(id(tensor), None)  # of a tensor that is changed in place
            self.steps.append(Step(function.overloadpacket.__name__, False, reads, self._values(output)))
        return output

    def enter(self, module, arguments, keywords) -> None:
        self.entered.append(self._values((arguments, keywords)))

    def leave(self, name: str, output) -> None:
        reads = self.entered.pop()
        if not self.entered:
            self.steps.append(Step(name, True, reads, self._values(output)))

    def give(self, name: str, output) -> None:
        if isinstance(output, Tensor) and not self.entered:
            self.outputs.append((name, self._value(output)))

    def add(self, name: str, is_module: bool, read, given) -> None:
        self.steps.append(Step(name, is_module, self._values(read), self._values(given)))

    def _values(self, tree) -> tuple[int, ...]:
        return tuple(self._value(tensor) for tensor in _tensors(tree))

    def _value(self, tensor: Tensor) -> int:
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = len(self.alive)
            self.alive.append(tensor)
        return self.numbers[id(tensor)]


def _tensors(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
