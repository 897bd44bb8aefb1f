"""Distil: train a fresh student from a teacher by one of the methods."""

import importlib

import torch
from torch import nn

from kdq.data.batches import to_float
from kdq.data.prepared import Prepared
from kdq.distill.keys import Distilling
from kdq.distill.method import Method
from kdq.distill.task import Distillation
from kdq.distill.teacher import Peer, Teacher
from kdq.models.model import Model
from kdq.recipe.implementation import declared_class
from kdq.train.stage import train


def distill(
    prepared: Prepared, parent: nn.Module, module: str, keys: dict, *, teacher: Teacher | None = None, log, **settings
) -> Model:
    """Train a fresh student from the model ``parent`` by the method in the module ``module``.

    ``keys`` are the resolved keys of the stage. The teacher's outputs come from a forward pass of ``parent``, or from
    ``teacher`` if it is given. ``settings`` (``seed``, ``threads``, ``checkpoint``, ``identity``) and ``log`` are those
    of :func:`kdq.train.stage.train`.
    """
    make_method = declared_class(module, Method)
    options, parameters = (
        kind(**{key: value for key, value in keys.items() if key in kind.model_fields})
        for kind in (Distilling, importlib.import_module(module).Parameters)
    )

    def make_task(student, device) -> Distillation:
        method = make_method(parameters, options, keys["epochs"])
        method.start(student, log)
        example = to_float(prepared.train.images[:2].to(device))
        if method.teacher_learns:
            source = Peer(method.peer(parent)).to(device, memory_format=torch.channels_last)
        else:
            source = teacher or Teacher(parent, device)
        return Distillation(student, source, method, example, prepared.train.labels, settings["seed"])

    return train(prepared, keys, make_task, log=log, **settings)
