"""Threads that take turns, so that several trainings can share one forward pass of their teacher.

One thread runs at a time. It passes its turn on after each of the teacher's outputs, so that every student has had the
outputs for a batch before any of them gets to the next batch.
"""

import threading
from collections.abc import Callable, Sequence

import torch


class Turns:
    """Threads of which one runs at a time, each with its own state of torch's random number generators."""

    def __init__(self):
        self._condition = threading.Condition()
        self._waiting: list[threading.Thread] = []  # in their order; the first is the one that runs
        self._end: BaseException | None = None

    def run(self, functions: Sequence[Callable[[], object]]) -> list[object]:
        """Run each function in a thread; return what each returned, or the exception that ended it.

        An exception in the caller's thread, raised by a signal handler, ends every thread when its turn comes. Raised
        here is then the first exception of its type from the threads, which may have added to the message.
        """
        results: list[object] = [None] * len(functions)
        threads = [
            threading.Thread(target=self._run_in_turn, args=(results, index, function), daemon=True)
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

    def pass_turn(self) -> None:
        """Let each of the other threads run until it passes its turn or ends; call this in one of the threads."""
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

    def _run_in_turn(self, results: list, index: int, function: Callable[[], object]) -> None:
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
