"""Forward passes in lock-step: each stops wherever it calls one of the layers, until it is given the layer's output.

A pass is a thread that only ever runs while whoever advances it waits, so that passes take turns as generators do: the
forward of any nn.Module can be held at any of its layers, with the shortcuts and lists that it keeps meanwhile.
"""

import contextlib
import functools
import itertools
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from kdq.errors import UserError
from kdq.quantize.execution.spill import Room, Spill
from kdq.quantize.gram.chunks import Chunks

# Images of a pass: many enough for the processors; at most so many passes, as each is a thread. Neither depends on the
# memory's limit, so that with any that is not too small the layers compute the very same numbers.
IMAGES, PASSES = 32, 16
# Of the memory's limit the share that one pass may hold. While it is at work, one of another network holds as much, an
# output is made in each, and float64 copies of the inputs.
AT_WORK = 1 / 8


class _Abandoned(BaseException):
    """Ends the forward of a pass that nobody will advance any more; no handler of the model should catch it."""


class Pass(threading.Thread):
    """A forward pass of ``model``, evaluation without gradients, on ``images`` (uint8, (M, C, H, W)).

    ``layer`` and ``input`` are the name of the layer that it has stopped at, None at the end, and what it called it
    with. Between two advances a ``spill`` may keep its tensors out of memory: read ``input`` within :meth:`loaded`.
    """

    def __init__(self, model: nn.Module, images: torch.Tensor, spill: Spill | None = None):
        super().__init__(daemon=True)
        self.layer: str | None = None
        self.input: torch.Tensor | None = None
        self._model, self._images, self._spill = model, images, spill
        self._output = self._error = None
        self._going, self._abandoned = False, False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)

    def advance(self, output: torch.Tensor | None = None) -> None:
        """Go on with the layer's ``output`` to the next layer or to the end; raises what the model raises."""
        if self._spill:
            self._spill.resume()
            if output is not None:
                self._spill.note(output)
        self._output, self.layer, self.input = output, None, None
        del output  # what is held here would count as held by the pass
        if not self._going:
            self.start()
            self._going = True
        self._go.release()
        self._stopped.acquire()
        if self._error:
            raise self._error
        if self._spill and self.layer:
            self._spill.suspend()

    @contextlib.contextmanager
    def loaded(self) -> Iterator[torch.Tensor]:
        """The input of the layer that the pass has stopped at, in memory within the block."""
        with self._spill.loaded(self.input) if self._spill else contextlib.nullcontext():
            yield self.input

    @property
    def spilled(self) -> bool:
        """Whether the input is out of memory, to be read again at every use."""
        return self._spill is not None and self._spill.away

    def abandon(self) -> None:
        """End the thread, wherever it has stopped."""
        if self._going and self.is_alive():
            self._abandoned = True
            self._go.release()
            self.join()

    def run(self) -> None:
        self._go.acquire()
        try:
            with torch.no_grad(), self._spill.watch() if self._spill else contextlib.nullcontext():
                self._model(self._images.float() / 255)
        except _Abandoned:
            pass
        except BaseException as error:
            self._error = error
        finally:
            self._stopped.release()

    def call(self, layer: str, given: torch.Tensor) -> torch.Tensor:
        """In the thread: the layer's output, for which the pass waits."""
        self.layer, self.input = layer, given
        del given
        self._stopped.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned
        output, self._output = self._output, None
        return output


@contextlib.contextmanager
def stopping(layers: dict[str, nn.Module]) -> Iterator[None]:
    """Within the block a pass that calls one of the layers stops there."""
    for name, module in layers.items():
        module.forward = functools.partial(_stop, name)
    try:
        yield
    finally:
        for module in layers.values():
            del module.forward


def _stop(name: str, input: torch.Tensor) -> torch.Tensor:  # named as in nn.Conv2d.forward and nn.Linear.forward
    return threading.current_thread().call(name, input)


class Lockstep:
    """Passes of one network on chunks of the images, all advanced to the same layer."""

    def __init__(self, passes: list[Pass], samples: list[int]):
        self.passes, self._samples = passes, samples

    def arrived(self, layer: str) -> Chunks:
        """What the passes called ``layer`` with; raises UserError where they did not, or with other samples."""
        for one, samples in zip(self.passes, self._samples, strict=True):
            if one.layer != layer:
                raise UserError(f"{layer}: not called where other images call it, expected one order for all images")
            shape = tuple(one.input.shape)
            if len(shape) < 2 or shape[0] % samples or not shape[0]:
                raise UserError(f"{layer}: input of shape {shape}, expected the {samples} samples in dimension 0")
        resident = not any(one.spilled for one in self.passes)
        return Chunks(tuple(one.input.shape for one in self.passes), self._read, resident)

    def _read(self) -> Iterator[torch.Tensor]:
        for one in self.passes:
            with one.loaded() as given:
                yield given


def images_of_a_pass(images: int, image_bytes: int, limit_bytes: float) -> int:
    """How many of the images a pass takes."""
    size = max(IMAGES, -(-images // PASSES))
    while size > 1 and size * image_bytes > limit_bytes * AT_WORK:
        size = -(-size // 2)
    return size


@contextlib.contextmanager
def side_by_side(networks, images: torch.Tensor, image_bytes: int, limit_bytes: float) -> Iterator[list[Lockstep]]:
    """Yield the passes of each network, a pair (model, layers to stop at), advanced to their first layer.

    ``image_bytes`` is what a pass holds at most of one image between two layers. Where that is more than the limit for
    all ``images`` and networks together, what there is no room for lies on disk while it is not used, in the folder for
    temporary files.
    """
    fits = image_bytes * len(images) * len(networks) <= limit_bytes
    chunks = images.split(images_of_a_pass(len(images), image_bytes, limit_bytes))
    room, files = Room(limit_bytes / 2), itertools.count()
    with contextlib.ExitStack() as open_until_the_end:
        folder = None if fits else Path(open_until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="kdq-")))
        all_passes = []
        for model, layers in networks:
            open_until_the_end.enter_context(stopping(layers))
            spills = [None if fits else Spill(model, room, folder / str(next(files))) for _ in chunks]
            passes = [Pass(model, chunk, spill) for chunk, spill in zip(chunks, spills, strict=True)]
            for one in passes:
                open_until_the_end.callback(one.abandon)
            all_passes.append(Lockstep(passes, [len(chunk) for chunk in chunks]))
        for one in (one for lockstep in all_passes for one in lockstep.passes):
            one.advance()
        yield all_passes
