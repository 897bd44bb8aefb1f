"""Train a network: the steps that all stages share, and the simplest stage, a root trained on labels."""

import torch

from kdq.data.batches import TrainingBatches
from kdq.data.prepared import Prepared, Split
from kdq.data.streamed import StreamedBatches, bytes_on_device, is_streamed
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
    the task given ``(network, device)``; ``places`` are ``checkpoint``, ``identity``, ``log`` and ``resident`` as in
    :func:`train_task`.
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
    task: Task,
    prepared: Prepared,
    keys: dict,
    *,
    seed: int,
    threads: int,
    device: torch.device,
    log,
    resident: str = "auto",
    **places,
) -> list[dict]:
    """Train ``task``, which is on ``device``, on the training part of ``prepared``; return the history.

    ``keys`` are the resolved keys of a stage, including those of ``Training``; ``log`` and ``places`` (``checkpoint``
    and ``identity``) as in :func:`kdq.train.loop.fit`, which leaves the selected weights in the task's network.
    ``resident``, the config's key, says whether the images are on the device (``true``), in their file (``false``), or
    there if they do not fit (``auto``): the bytes of the result are the same.
    """
    settings = Training(**{key: keys[key] for key in Training.model_fields if key in keys})
    crop = 0 if settings.area else settings.crop
    parts, labels = (prepared.train, prepared.validation), prepared.train.labels.to(device)
    streamed = is_streamed(resident, sum(bytes_on_device(part.images, crop) for part in parts), device, log)
    train_images, validation_images = (part.images if streamed else part.images.to(device) for part in parts)
    batches = (StreamedBatches if streamed else TrainingBatches)(
        train_images,
        labels,
        batch_size=settings.batch_size,
        crop=crop,
        area=settings.area,
        flip=settings.flip,
        cutout=settings.cutout,
        fill=prepared.mean,
        resolution=settings.resolution,
        small_epochs=round(settings.resolution_share * settings.epochs),
    )
    validation = Split(validation_images, prepared.validation.labels.to(device))
    parameters = sum(parameter.numel() for parameter in task.network.parameters())
    log(f"{parameters:,} parameters, {len(labels):,} images, device {device}, {threads} threads")
    return fit(task, batches, validation, settings, seed=seed, log=log, **places)


def save(model_path, history_path, model: Model, **header) -> None:
    """Write the history, then the model with the history's digest: if the model exists, so does its history."""
    digest = history.write(history_path, model.history)
    model_file.save(model_path, model.network, model.architecture, model.codes, history=digest, **header)
