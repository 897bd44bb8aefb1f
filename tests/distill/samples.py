"""What the tests of methods train on, and a way to kill them while they do."""

import contextlib
from unittest import mock

import pytest
import torch

from kdq.data.batches import Batch
from kdq.train.loop import Run


def batches(count=3, rows=8):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        images = torch.rand(rows, 1, 8, 8, generator=generator)
        yield Batch(images, torch.randint(0, 10, (rows,), generator=generator), torch.arange(rows), 1)


@contextlib.contextmanager
def killed_at(number: int):
    """In the block a training run has to get to its step of this number, and ends there by what no code catches."""
    steps, step = [], Run._step

    class Killed(BaseException):
        pass

    def counted(self, batch):
        steps.append(batch)
        if len(steps) == number:
            raise Killed
        return step(self, batch)

    with mock.patch.object(Run, "_step", counted), pytest.raises(Killed):
        yield
