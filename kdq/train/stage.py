"""Train a network: the steps that all stages share, and the simplest stage, a root trained on labels."""

import torch

from kdq.data.batches import TrainingBatches
from kdq.data.prepared import Prepared, Split
from kdq.models import file as model_file
from kdq.models import registry
from kdq.models.model import Model
from kdq.train import history
from kdq.train.device import prepare
from kdq.train.loop import fit
from kdq.train.settings import Training
from kdq.train.task import Classification, Task


def train_root(prepared: Prepared, keys: dict, **options) -> Model:
    """Return a network trained on labels. ``keys`` are a root's resolved keys, ``options`` those of :func:`train`."""
    return train(prepared, keys, lambda network, _: Classification(network, keys["label_smoothing"]), **options)


def train(prepared: Prepared, keys: dict, make_task, *, seed: int, threads: int, **places) -> Model:
    """Return a fresh network trained on the training part of ``prepared``.

    ``keys`` are the resolved keys of a stage, including those of ``Network`` and ``Training``; ``make_task`` returns
    the task given ``(network, device)``; ``places`` are ``checkpoint``, ``identity`` and ``log`` as in
    :func:`kdq.train.loop.fit`.
    """
    device = prepare(threads)
    statistics = {"mean": prepared.mean, "std": prepared.std}
    architecture = registry.described(keys, **prepared.size, **statistics)
    torch.manual_seed(seed)  # every method of a seed starts from the same weights: only the method differs
    weights = keys.get("weights")
    network = registry.pretrained(weights, **architecture) if weights else registry.build(**architecture)
    network = network.to(device, memory_format=torch.channels_last)
    task = make_task(network, device)
    epochs = train_task(task, prepared, keys, seed=seed, threads=threads, device=device, **places)
    return Model(task.network, architecture, history=epochs)


def train_task(
    task: Task, prepared: Prepared, keys: dict, *, seed: int, threads: int, device: torch.device, log, **places
) -> list[dict]:
    """Train ``task``, which is on ``device``, on the training part of ``prepared``; return the history.

    ``keys`` are the resolved keys of a stage, including those of ``Training``; ``log`` and ``places`` (``checkpoint``
    and ``identity``) as in :func:`kdq.train.loop.fit`, which leaves the selected weights in the task's network.
    """
    settings = Training(**{key: keys[key] for key in Training.model_fields})
    images, labels = prepared.train.images.to(device), prepared.train.labels.to(device)
    batches = TrainingBatches(
        images,
        labels,
        batch_size=settings.batch_size,
        crop=settings.crop,
        flip=settings.flip,
        cutout=settings.cutout,
        fill=prepared.mean,
        resolution=settings.resolution,
        small_epochs=round(settings.resolution_share * settings.epochs),
    )
    validation = Split(prepared.validation.images.to(device), prepared.validation.labels.to(device))
    parameters = sum(parameter.numel() for parameter in task.network.parameters())
    log(f"{parameters:,} parameters, {len(labels):,} images, device {device}, {threads} threads")
    return fit(task, batches, validation, settings, seed=seed, log=log, **places)


def save(model_path, history_path, model: Model, **header) -> None:
    """Write the history, then the model with the history's digest: if the model exists, so does its history."""
    digest = history.write(history_path, model.history)
    model_file.save(model_path, model.network, model.architecture, model.codes, history=digest, **header)
