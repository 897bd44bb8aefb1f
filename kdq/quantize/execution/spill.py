"""The tensors of a forward pass that waits, on disk for a while.

The passes that a limit leaves no room for give the memory of their tensors back whenever they stop, and get it again
before they go on. The tensors themselves stay where the model's code holds them, in variables and lists; only their
storage is emptied and filled again.
"""

import contextlib
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Smaller tensors stay: they are not worth a read, and constants that a model keeps for later passes are among them.
SMALLEST_BYTES = 2**16


class Room:
    """``limit_bytes`` of memory that passes share."""

    def __init__(self, limit_bytes: float):
        self.limit_bytes, self.taken_bytes = limit_bytes, 0

    def take(self, size_bytes: int) -> bool:
        """Whether there is room for so many bytes more; if so they are taken."""
        fits = self.taken_bytes + size_bytes <= self.limit_bytes
        self.taken_bytes += size_bytes * fits
        return fits

    def give(self, size_bytes: int) -> None:
        self.taken_bytes -= size_bytes


class Spill:
    """What one pass of ``model`` has in memory between two layers; in ``file``, where the ``room`` is too small.

    ``size_bytes`` is how much that was when the pass last stopped, tensors of less than ``smallest_bytes`` left aside;
    ``away``, whether it is on disk.
    """

    def __init__(self, model: nn.Module, room: Room, file: Path, smallest_bytes: int = SMALLEST_BYTES):
        self.away = False
        self.size_bytes = 0
        self._model, self._room, self._file, self._smallest_bytes = model, room, file, smallest_bytes
        self._made: dict[int, weakref.ref] = {}
        self._storages: list[torch.UntypedStorage] = []
        self._sizes: list[int] = []

    def watch(self) -> TorchDispatchMode:
        """A context in which the results of all operations of this thread are noted."""
        return _Watch(self.note)

    def note(self, tensor: torch.Tensor) -> None:
        """Remember a tensor, as long as something else holds it."""
        self._made[id(tensor)] = weakref.ref(tensor)

    def resume(self) -> None:
        """Have everything in memory: the pass goes on."""
        if self.away:
            self._fill(*range(len(self._storages)))
            self.away = False
        else:
            self._room.give(self.size_bytes)
            self.size_bytes = 0

    def suspend(self) -> None:
        """The pass has stopped: what it holds now goes to disk, unless there is room for it."""
        self._storages = self._live()
        self._sizes = [storage.nbytes() for storage in self._storages]
        self.size_bytes = sum(self._sizes)
        if not self._room.take(self.size_bytes):
            for number, storage in enumerate(self._storages):
                self._content(number).copy_(_bytes_of(storage))
                storage.resize_(0)
            self.away = True

    @contextlib.contextmanager
    def loaded(self, tensor: torch.Tensor) -> Iterator[None]:
        """A tensor that the pass holds is in memory in the block, in which it is not changed."""
        address = tensor.untyped_storage()._cdata
        numbers = [number for number, storage in enumerate(self._storages) if storage._cdata == address]
        if not self.away or not numbers:
            yield
            return
        self._fill(*numbers)
        try:
            yield
        finally:
            self._storages[numbers[0]].resize_(0)

    def _content(self, number: int) -> torch.Tensor:
        """A storage's place on disk, mapped to memory as uint8."""
        return torch.from_file(f"{self._file}.{number}", shared=True, size=self._sizes[number], dtype=torch.uint8)

    def _fill(self, *numbers: int) -> None:
        for number in numbers:
            self._storages[number].resize_(self._sizes[number])
            _bytes_of(self._storages[number]).copy_(self._content(number))

    def _live(self) -> list[torch.UntypedStorage]:
        """The storages of the tensors that are still held, each once, but for small ones and those of the model."""
        held = {key: tensor for key, reference in self._made.items() if (tensor := reference()) is not None}
        self._made = {key: self._made[key] for key in held}
        # A view of a weight is a tensor that the pass made, but its storage is not.
        own = [*self._model.parameters(), *self._model.buffers()]
        addresses = {tensor.untyped_storage().data_ptr() for tensor in own}
        found = []
        for storage in (tensor.untyped_storage() for tensor in held.values()):
            large = storage.resizable() and storage.nbytes() >= self._smallest_bytes
            if large and storage.data_ptr() not in addresses:
                addresses.add(storage.data_ptr())
                found.append(storage)
        return found


class _Watch(TorchDispatchMode):
    def __init__(self, note):
        super().__init__()
        self._note = note

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: nothing here is compiled, and to skip the compiler it is imported, most of a second in every job."""
        return False

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf)
        return result


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    """The content as uint8, without a copy."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
