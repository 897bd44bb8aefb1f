"""Retrain: train a model further on its own quantized weights, from its float ancestor or the root."""

import importlib
from dataclasses import replace

import torch

from kdq.data.prepared import Prepared
from kdq.models import file as model_file
from kdq.models.model import Model
from kdq.recipe.implementation import declared_class
from kdq.retrain.method import Retraining
from kdq.train.device import prepare
from kdq.train.stage import train_task


def retrain(
    prepared: Prepared, parent, teacher, module: str, keys: dict, *, seed: int, threads: int, **places
) -> Model:
    """Train the model in the file ``parent`` further by the method in the module ``module`` (``kdq.retrain.NAME``).

    ``teacher`` is the file of the model that it learns from, ``keys`` are the resolved keys of the stage. ``places``
    are ``checkpoint``, ``identity`` and ``log`` as in :func:`kdq.train.loop.fit`.
    """
    device = prepare(threads)
    own = importlib.import_module(module).Parameters
    parameters = own(**{key: value for key, value in keys.items() if key in own.model_fields})
    method = declared_class(module, Retraining)(parameters, keys["epochs"], places["log"])
    start = load(parent, device)
    torch.manual_seed(seed)  # what a method draws is the same whatever was drawn before it
    task = method.task(start, load(teacher, device), prepared, seed=seed, device=device)
    history = train_task(task, prepared, keys, seed=seed, threads=threads, device=device, **places)
    trained = method.model(task, start)
    return replace(trained, history=history)


def load(path, device: torch.device) -> Model:
    """The model in the file ``path``, its network on ``device`` and in eval mode, its codes on the CPU."""
    file = model_file.read(path)
    network = model_file.to_network(file, path).to(device, memory_format=torch.channels_last)
    return Model(network, file.header["architecture"], file.codes)
