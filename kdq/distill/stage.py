"""Distil: train a fresh student from a teacher by one of the methods."""

import importlib

import torch

from kdq.data.batches import to_float
from kdq.data.prepared import Prepared
from kdq.distill.cached_logits import CachedLogits
from kdq.distill.keys import Distilling
from kdq.distill.method import Distillation, Method
from kdq.models.fold import fold_batchnorm
from kdq.models.model import Model
from kdq.recipe.implementation import declared_class
from kdq.train.stage import train
from kdq.train.task import Task


def distill(
    prepared: Prepared,
    teacher: torch.nn.Module,
    module: str,
    keys: dict,
    *,
    seed: int,
    threads: int,
    checkpoint,
    identity: str,
    log,
    teacher_logits: torch.Tensor | None = None,
    teacher_forward=None,
) -> Model:
    """Train a fresh student from ``teacher`` by the method in the module ``module`` (``kdq.distill.NAME``).

    ``teacher_logits`` (views, M, classes) are those of all views of the training part, where they are not computed.
    """
    make_method = declared_class(module, Method)
    parameters = importlib.import_module(module).Parameters
    options, own = (
        kind(**{key: value for key, value in keys.items() if key in kind.model_fields})
        for kind in (Distilling, parameters)
    )

    def task(network, device) -> Task:
        example = to_float(prepared.train.images[:2].to(device))
        method = make_method(own, options, keys["epochs"])
        method.start(network, log)
        # folded it is a fifth faster, and the teacher is nearly half of a step's cost
        other = method.peer(teacher) if method.teacher_learns else fold_batchnorm(teacher)
        other = other.to(device, memory_format=torch.channels_last)
        cached = None if teacher_logits is None else CachedLogits(teacher_logits.to(device))
        return Distillation(network, other, method, example, prepared.train.labels, seed, cached, teacher_forward)

    return train(prepared, keys, task, seed=seed, threads=threads, checkpoint=checkpoint, identity=identity, log=log)
