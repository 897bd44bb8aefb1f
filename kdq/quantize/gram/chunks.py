"""A layer's inputs in chunks of samples, so that they need not stand in memory together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chunks:
    """Tensors that differ in the number of their samples alone, the first dimension.

    ``read()`` yields them in order, each to be used before the next is asked for; ``resident`` says whether they are in
    memory all the while.
    """

    shapes: tuple[torch.Size, ...]
    read: Callable[[], Iterable[Tensor]]
    resident: bool = True

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.read())

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all samples together."""
        return sum(shape[0] for shape in self.shapes), *self.shapes[0][1:]


def chunked(inputs: Tensor | Chunks) -> Chunks:
    """``inputs`` as chunks: a tensor is a single one."""
    return Chunks((inputs.shape,), lambda: (inputs,)) if isinstance(inputs, Tensor) else inputs
