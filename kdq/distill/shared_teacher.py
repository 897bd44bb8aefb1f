"""Several students of one teacher trained side by side: what it says of a batch is computed once for all of them.

Students of one seed see the same batches, and where the teacher is the larger network its forward pass is most of a
step's work. Each student is trained by the same loop as alone, in a thread of its own. One thread runs at a time; when
it has what the teacher says it passes the turn on, so that all of them ask about a batch before any asks about the
next. A student that sees other images, since it went on from another epoch, has a forward pass of its own.
"""

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


class Turns:
    """Threads of which one runs at a time, each with torch's random numbers to itself."""

    def __init__(self):
        self._condition = threading.Condition()
        self._waiting: list[threading.Thread] = []  # in their order; the first is the one that runs
        self._end: BaseException | None = None

    def run(self, functions: Sequence[Callable[[], object]]) -> list[object]:
        """What each function returns, or the exception that ended it.

        An exception of the caller, of a signal, ends them all where they pass their turns on; as the first that it
        ended says it, it is raised here.
        """
        results: list[object] = [None] * len(functions)
        threads = [
            threading.Thread(target=self._run_one, args=(results, index, function), daemon=True)
            for index, function in enumerate(functions)
        ]
        self._waiting = list(threads)
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:
            self._end = error
            for thread in threads:
                thread.join()
            raise next((end for end in results if isinstance(end, type(error))), error) from None
        return results

    def pass_on(self) -> None:
        """In a thread: let the others run until each has passed its turn on, or has ended."""
        cpu = torch.get_rng_state()
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        with self._condition:
            self._waiting.append(self._waiting.pop(0))
            self._await_turn()
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if self._end:
            raise self._end

    def _run_one(self, results: list, index: int, function: Callable[[], object]) -> None:
        with self._condition:
            self._await_turn()
        try:
            results[index] = function()
        except BaseException as error:
            results[index] = error
        finally:
            with self._condition:
                self._waiting.pop(0)
                self._condition.notify_all()

    def _await_turn(self) -> None:
        self._condition.notify_all()
        self._condition.wait_for(lambda: self._waiting[0] is threading.current_thread())


class SharedTeacher:
    """The forward pass of ``network``, computed once for students that ask about the same images one after the other.

    ``taps`` are the features that any of them asks for; ``turns`` those of their threads.
    """

    def __init__(self, network: nn.Module, taps: Sequence[str], turns: Turns):
        self._network, self._taps, self._turns = network, tuple(dict.fromkeys(taps)), turns
        self._images: Tensor | None = None
        self._said: tuple[Tensor, dict[str, Tensor]] | None = None
        self.computed = 0

    def __call__(self, images: Tensor, taps: Sequence[str] = ()):
        """As the network: logits, or with ``taps`` logits and these features."""
        if self._images is None or not torch.equal(self._images, images):
            self._images, self._said = images, self._forward(images)
            self.computed += 1
        logits, features = self._said
        self._turns.pass_on()
        return (logits, {tap: features[tap] for tap in taps}) if taps else logits

    def _forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._network(images, taps=self._taps) if self._taps else (self._network(images), {})
