"""The students that a job trains beside its own: of one teacher and seed, on the same batches.

A job leaves the checkpoints of the others at their last epoch; their own jobs, which Snakemake starts one after the
other as ever, go on from there and have nothing left to train. So every student keeps its job, its log and its files,
and one that fails fails in its own job. A lock on a student's folder says that some job trains it.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from kdq.distill.method import Method
from kdq.distill.shared_teacher import SharedTeacher, Turns
from kdq.models.fold import fold_batchnorm
from kdq.models.resnet import TAPS
from kdq.recipe.implementation import declared_class


@contextlib.contextmanager
def claims() -> Iterator[Callable[..., bool]]:
    """Yields ``claim(folder, wait=False)``: whether the folder is this process's from now to the end of the block."""
    with contextlib.ExitStack() as held:

        def claim(folder: Path, wait: bool = False) -> bool:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:  # another's, or a file system without locks
                os.close(descriptor)
                return False
            held.callback(os.close, descriptor)
            return True

        yield claim


def shares(job: dict) -> bool:
    """Can this student hear what a teacher says to others? Not where it learns, or sees images of the method's own."""
    method = declared_class(job["module"], Method)
    return not method.teacher_learns and method.view is Method.view


def train_with(students: list, others: dict, parent: Path, teacher, device, train, log) -> None:
    """Train the ``students`` and beside them some of the ``jobs`` of ``others``, so many ``students`` in all at most.

    Taken are those that have no model yet and that no other job trains; the ``parent`` folder is that of the teacher.
    """
    with claims() as claim:
        for other in others["jobs"]:
            folder = parent / other["stage"]
            if len(students) < others["students"] and shares(other):
                folder.mkdir(exist_ok=True)
                if not (folder / "model.safetensors").exists() and claim(folder):
                    students = [*students, (other, folder)]
        if len(students) > 1:
            train_each(students, teacher, device, train, log)


def train_each(students: Sequence[tuple[dict, Path]], teacher: nn.Module, device: torch.device, train, log) -> None:
    """Call ``train(job, folder, log, teacher_forward=...)`` for every (job, folder), side by side.

    What ends one of them is logged and left to its own job.
    """
    log(f"{len(students)} students side by side: {', '.join(folder.name for _, folder in students)}")
    turns = Turns()
    network = fold_batchnorm(teacher).to(device, memory_format=torch.channels_last).requires_grad_(False)
    if device.type == "cuda":
        network = torch.compile(network, dynamic=False)
    listens = any(declared_class(job["module"], Method).features for job, _ in students)
    shared = SharedTeacher(network, TAPS if listens else (), turns)

    def start(job: dict, folder: Path):
        return train(job, folder, lambda line: log(f"{folder.name}: {line}"), teacher_forward=shared)

    for (_, folder), end in zip(students, turns.run([partial(start, *student) for student in students]), strict=True):
        if isinstance(end, BaseException):
            log(f"{folder.name}: {type(end).__name__}: {end}")
