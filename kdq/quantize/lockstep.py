"""Forward passes in lock-step: each stops wherever it calls one of the layers, until it is given the layer's output.

A pass is a thread that only ever runs while whoever advances it waits, so that passes take turns as generators do: the
forward of any nn.Module can be held at any of its layers, with the shortcuts and lists that it keeps meanwhile.
"""

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import nn

from kdq.quantize.spill import Spill


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
        with self._spill.in_use(output) if self._spill else contextlib.nullcontext():
            self._output, self.layer, self.input = output, None, None
            del output
            if not self._going:
                self.start()
                self._going = True
            self._go.release()
            self._stopped.acquire()
            if self._error:
                raise self._error

    @contextlib.contextmanager
    def loaded(self) -> Iterator[torch.Tensor]:
        """The input of the layer that the pass has stopped at, in memory within the block."""
        with self._spill.loaded() if self._spill else contextlib.nullcontext():
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
