"""The teacher of a student: one object that gives the outputs for a batch, however they come about.

A frozen teacher (``Teacher`` and its subclasses) is no module, so that neither the optimizer nor ``train()`` nor a
checkpoint of the task that holds it can reach its network. A teacher that is trained (``Peer``) is a module.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.outputs import Outputs
from kdq.models.fold import fold_batchnorm


def frozen(network: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Return a copy of ``network`` for inference: eval mode, channels last, no gradients, BatchNorms folded.

    Folded it is a fifth faster, and a teacher's forward pass is nearly half of a student's step.
    """
    return fold_batchnorm(network).to(device, memory_format=torch.channels_last).requires_grad_(False)


class Teacher:
    """A frozen teacher with a forward pass per batch; ``network`` is its :func:`frozen` copy."""

    def __init__(self, network: nn.Module, device: torch.device | None = None):
        self.network = frozen(network, device)
        on_gpu = any(parameter.is_cuda for parameter in self.network.parameters())
        # for batches of one size; on a CPU the import of the compiler alone takes seconds per job
        self._forward = torch.compile(self.network, dynamic=False) if on_gpu else self.network

    @torch.no_grad()
    def outputs(self, batch: Batch, taps: tuple[str, ...] = ()) -> Outputs:
        """Return the outputs for the images of ``batch``, with the features of ``taps``."""
        return Outputs.of(self._forward, batch.images, taps)

    def alone(self) -> AbstractContextManager:
        """Return a context in which every call of :meth:`outputs` computes them, for one student."""
        return nullcontext()


class CachedTeacher(Teacher):
    """A teacher whose logits (views, M, classes) of all views are known; on a CPU they stay in their mapped file."""

    def __init__(self, network: nn.Module, device: torch.device | None, logits: Tensor):
        super().__init__(network, device)
        self._logits = logits.to(device)

    def outputs(self, batch: Batch, taps: tuple[str, ...] = ()) -> Outputs:
        """Return the cached logits; raise ValueError if the batch's images are no views. There are no features."""
        if batch.views is None:
            raise ValueError("the batch's images are no views in the teacher's cache: they were mixed or cut out")
        return Outputs(self._logits[batch.views, batch.indices].float())


class SharedTeacher(Teacher):
    """A teacher of several students side by side: one forward pass per batch for all of them.

    ``taps`` are the features that any of the students reads. ``pass_turn`` lets the other students run until each of
    them has had the outputs for its batch too. A student with other images, because it resumed from another epoch,
    costs another forward pass; ``computed`` counts the passes.
    """

    def __init__(
        self, network: nn.Module, device: torch.device | None, taps: tuple[str, ...], pass_turn: Callable[[], None]
    ):
        super().__init__(network, device)
        self._taps, self._pass_turn = taps, pass_turn
        self._images: Tensor | None = None
        self._outputs: Outputs | None = None
        self._shares = True
        self.computed = 0

    def outputs(self, batch: Batch, taps: tuple[str, ...] = ()) -> Outputs:
        """As :meth:`Teacher.outputs`."""
        if not self._shares:
            return super().outputs(batch, taps)
        if self._images is None or not torch.equal(self._images, batch.images):
            self._images, self._outputs = batch.images, super().outputs(batch, self._taps)
            self.computed += 1
        shared = self._outputs
        self._pass_turn()
        return Outputs(shared.logits, {tap: shared.features[tap] for tap in taps})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """As :meth:`Teacher.alone`; no turn is passed in the block, so no other student is in it."""
        self._shares = False
        try:
            yield
        finally:
            self._shares = True


class Peer(nn.Module):
    """A teacher that is trained together with the student: its outputs carry gradients."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.requires_grad_(True)

    def outputs(self, batch: Batch, taps: tuple[str, ...] = ()) -> Outputs:
        """As :meth:`Teacher.outputs`."""
        return Outputs.of(self.network, batch.images, taps)
