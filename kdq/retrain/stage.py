"""Train a model further, float, pruned or on its quantized weights, with an ancestor or a root as the teacher."""

import importlib
from dataclasses import replace

import torch
from torch import nn

from kdq.data.prepared import Prepared
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.model import Model
from kdq.quantize.activation_ranges import measured_points
from kdq.quantize.execution.equalization import equalize
from kdq.quantize.gram.calibration_images import calibration_images
from kdq.recipe.implementation import declared_class
from kdq.retrain.keys import PARENTS
from kdq.retrain.method import Retraining
from kdq.train.device import prepare
from kdq.train.stage import train_task

CALIBRATION = 256  # training images that give the ranges of activations


def retrain(
    prepared: Prepared, parent, teacher, module: str, keys: dict, *, seed: int, threads: int, ancestor="", **places
) -> Model:
    """Train the model in the file ``parent`` further by the method in the module ``module``.

    ``teacher`` is the file of the teacher's model, ``ancestor`` that of the float ancestor if the weights to start from
    are its own; ``keys`` are the resolved keys of the stage. ``places`` are ``checkpoint``, ``identity`` and ``log`` as
    in :func:`kdq.train.loop.fit`.
    """
    device = prepare(threads)
    kind = importlib.import_module(module).Parameters
    parameters = kind(**{key: value for key, value in keys.items() if key in kind.model_fields})
    floats = float_weights(ancestor, parent, device) if ancestor else None
    method = declared_class(module, Retraining)(parameters, keys["epochs"], places["log"], floats)
    start = with_activations(load(parent, device), parameters, prepared, seed)
    torch.manual_seed(seed)  # a method's random numbers do not depend on what was drawn before
    task = method.task(start, load(teacher, device), prepared, seed=seed, device=device)
    history = []
    if keys["epochs"]:
        history = train_task(task, prepared, keys, seed=seed, threads=threads, device=device, **places)
    return replace(method.model(task, start), history=history)


def float_weights(ancestor, parent, device: torch.device) -> nn.Module:
    """Return the network in the file ``ancestor`` with the float weights that those in the file ``parent`` were."""
    network = load(ancestor, device).network
    if model_file.read(parent).header["keys"].get("channels") == "equalize":
        equalize(network)
    return network


def with_activations(model: Model, parameters, prepared: Prepared, seed: int) -> Model:
    """Return the model with the quantized activations that the keys ask for: the parent's, none, or those of new bits.

    Points of new bits get their ranges from the parent's network on ``CALIBRATION`` training images.
    """
    bits = getattr(parameters, "activations", PARENTS)
    if bits == PARENTS or {point.bits for point in model.codes.points} == {bits}:
        return model
    codes = Codes(model.codes, kept=model.codes.kept)
    if not bits:
        return replace(model, codes=codes)
    images = calibration_images(prepared, CALIBRATION, seed).images.to(next(model.network.parameters()).device)
    codes.points = tuple(measured_points(model.network, codes, images, bits, parameters.activation_range))
    return replace(model, codes=codes)


def load(path, device: torch.device) -> Model:
    """Return the model in the file ``path``: its network on ``device`` and in eval mode, its codes on the CPU."""
    file = model_file.read(path)
    network = model_file.to_network(file, path, integer=False).to(device, memory_format=torch.channels_last)
    return Model(network, file.header["architecture"], file.codes)
