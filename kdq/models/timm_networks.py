"""Classifiers of timm: how they are made, where their weights come from, what their feature maps are called."""

from collections.abc import Callable
from pathlib import Path

import timm
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from kdq.data.download import hub_file, newest_commit
from kdq.errors import UserError, nearest, reason
from kdq.models.libraries import REDUCTIONS

COLOURS_ONLY = False
FILE = "model.safetensors"


def names() -> list[str]:
    return timm.list_models()


def is_fixed(name: str) -> bool:
    """Return whether a network is built for images of one size."""
    return bool(getattr(get_pretrained_cfg(name), "fixed_input_size", False))


def make(name: str, *, classes: int, channels: int, side: int, weights: str = "", whole: bool = False) -> nn.Module:
    """Return a network for images of that side; ``weights`` as in :func:`checkpoint` are loaded strictly.

    The classifier is new unless ``whole``.
    """
    size = {"img_size": side} if is_fixed(name) else {}
    if not weights:
        return timm.create_model(name, num_classes=classes, in_chans=channels, **size)
    given = _config(name, weights)
    overlay = {"file": str(checkpoint(name, weights)), "custom_load": False}
    network = timm.create_model(
        f"{name}.{given.tag}",
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        num_classes=given.num_classes,  # all tensors are then loaded strictly
        in_chans=channels,
        **size,
    )
    if not whole:
        network.reset_classifier(classes)
    return network


def normalisation(name: str, weights: str) -> tuple[list[float], list[float]]:
    """Return mean and deviation per channel of the images that the weights were trained with."""
    config = _config(name, weights)
    return list(config.mean), list(config.std)


def preprocessing(name: str, weights: str) -> dict:
    """Return how images are resized and cropped for the published accuracy, see kdq/models/preprocessing.py."""
    facts = resolve_data_config({}, pretrained_cfg=_config(name, weights).to_dict())
    side = facts["input_size"][1]
    edge = int(side / facts["crop_pct"])
    return {"size": [edge, edge], "resample": facts["interpolation"], "crop": [side, side]}


def class_names(name: str, weights: str) -> list[str]:
    """Return the names of the weights' classes in order, ImageNet's by WordNet's numbers; raise UserError if there
    are none, as of weights without a classifier."""
    config = _config(name, weights)
    if config.label_names:
        return list(config.label_names)
    if subset := infer_imagenet_subset(config.to_dict()):
        return ImageNetInfo(subset).label_names()
    raise UserError(f"weights: found {weights!r} of timm/{name}, whose classes timm does not name; expected others")


def pinned(name: str, weights: str) -> str:
    """Return ``TAG`` or ``TAG@COMMIT`` with what is left out: timm's own tag, and the newest commit.

    That is the commit in the hub client's cache, else the hub's. Raise UserError if neither is there.
    """
    tag, _, commit = weights.partition("@")
    tag = tag or getattr(get_pretrained_cfg(name), "tag", None) or ""
    config = _config(name, f"{tag}@{commit}")
    try:
        return f"{tag}@{commit or newest_commit(config.hf_hub_id, config.hf_hub_filename or FILE)}"
    except Exception as error:  # of many kinds, all of which mean that the hub can't be asked
        raise UserError(
            f"weights: {config.hf_hub_id}: neither cached nor to be asked for its commit ({reason(error)}), expected "
            f"one behind the tag, {tag}@COMMIT"
        ) from None


def classifier(network: nn.Module) -> str:
    """Return the name of the last layer, "" if there is no single one."""
    last = network.get_classifier()
    is_layer = isinstance(last, nn.Linear | nn.Conv2d)
    return next((name for name, module in network.named_modules() if is_layer and module is last), "")


def feature_maps(network: nn.Module, side: int) -> dict[str, int]:
    """Return the index of the deepest feature map of each reduction, by the name of the stage."""
    if not hasattr(network, "forward_intermediates"):
        return {}
    deepest = {entry["reduction"]: index for index, entry in enumerate(getattr(network, "feature_info", ()))}
    stages = {stage: deepest[reduction] for reduction, stage in REDUCTIONS.items() if reduction in deepest}
    return stages if len(stages) > 1 else {}  # a transformer of one resolution has no stages


def reader(network: nn.Module, places: list[int]) -> Callable[[Tensor], tuple[Tensor, list[Tensor]]]:
    """Return the function that gives logits and the feature maps (B, C, H, W) of those indices for images."""
    order = sorted(places)

    def read(images: Tensor) -> tuple[Tensor, list[Tensor]]:
        final, maps = network.forward_intermediates(images, indices=order)
        by_place = dict(zip(order, maps, strict=True))
        return network.forward_head(final), [by_place[place] for place in places]

    return read


def _config(name: str, weights: str):
    """Return timm's facts of the weights ``TAG@COMMIT``; raise UserError if it has none of that tag."""
    tag, at, _ = weights.partition("@")
    tags = [entry.partition(".")[2] for entry in timm.list_pretrained(f"{name}.*")]
    config = get_pretrained_cfg(f"{name}.{tag}") if at and tag in tags else None
    if config is None or not config.hf_hub_id:
        expected = (
            f"TAG@COMMIT with one of the tags {', '.join(tags)}" if tags else "none, timm has none of this network"
        )
        raise UserError(f"weights: found {weights!r} of timm/{name}, expected {expected}{nearest(tag, tags)}")
    return config


def checkpoint(name: str, weights: str) -> Path:
    """Return the file of the weights, at a commit of their repository, from the hub's cache or the hub."""
    config, revision = _config(name, weights), weights.partition("@")[2]
    repository, file = config.hf_hub_id, config.hf_hub_filename or FILE
    try:
        return hub_file(repository, revision, file)
    except Exception as error:  # of many kinds, all of which mean that the file can't be had
        where = f"{repository}, commit {revision[:12]}, file {file}"
        raise UserError(f"weights: {where}: neither cached nor to be downloaded ({reason(error)})") from None
