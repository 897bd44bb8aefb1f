"""A teacher from the library transformers: any model for image classification, its weights loaded strictly.

Classes, channels and image processor are checked against the data set: what does not fit is refused.
"""

import json
import re
from pathlib import Path

import torch
from torch import nn

from kdq.data.batches import to_float
from kdq.data.prepared import Prepared
from kdq.errors import UserError, reason
from kdq.models.huggingface import Pretrained, check_kernels
from kdq.roots.keys import WEIGHTS
from kdq.roots.sources.fetch import fetch

FILTERS = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
CHECKED_IMAGES = 8
MOST_PIXELS = 4096  # a side of a resized image
LEVELS = 2  # grey levels that two rounded resamplings may be apart


def load(prepared: Prepared, keys: dict, log) -> tuple[nn.Module, dict, Path]:
    """Return ``(network, architecture, path of the weights)``; raise UserError if model and data set do not fit."""
    if keys["file"] not in ("", *WEIGHTS.values()):
        raise UserError(f"file: found {keys['file']!r}, expected one of {', '.join(sorted(WEIGHTS.values()))}")
    weights = fetch(keys)[0]
    config, processor = read_description(weights.parent)
    check_classes(weights.parent, config, prepared.classes, keys["labels"], log)
    channels = prepared.train.images.shape[1]
    if (expected := getattr(config, "num_channels", channels)) != channels:
        raise UserError(f"{weights.parent}: for images of {expected} channels, the data set's have {channels}")
    images = prepared.train.images[:CHECKED_IMAGES]
    network, preprocessing = assemble(weights.parent, read_weights(weights, config), processor, images)
    check_own_tensors(weights, network.network)
    described = json.loads(network.network.config.to_json_string(use_diff=False))
    described.pop("_name_or_path", None)  # a path of this machine
    size, crop = preprocessing["size"], preprocessing["crop"]
    log(f"{weights}: {config.model_type}, images resized to {size}, cropped to {crop}")
    return network, {"architecture": "transformers", "config": described, "preprocessing": preprocessing}, weights


def assemble(folder: Path, model: nn.Module, processor, images: torch.Tensor) -> tuple[Pretrained, dict]:
    """Return the model behind its preprocessing, and that; raise UserError if ``images`` do not pass both."""
    try:
        preprocessing = read_preprocessing(processor, images)
        network = Pretrained(model, **preprocessing).eval()
        check_preprocessing(network, processor, images)
        with torch.no_grad():
            network(to_float(images))
    except (ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: model and image processor do not fit together ({reason(error)})") from None
    return network, preprocessing


def read_description(folder: Path):
    """Return the configuration of the model in ``folder`` and its image processor."""
    from transformers import AutoConfig, AutoImageProcessor

    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        check_kernels(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        return AutoConfig.from_pretrained(folder, **local), AutoImageProcessor.from_pretrained(folder, **local)
    except Exception as error:  # of many kinds, whatever makes these no descriptions
        raise UserError(f"{folder}: config.json or preprocessor_config.json can't be read ({reason(error)})") from None


def read_weights(path: Path, config) -> nn.Module:
    """Return the model of ``config`` with the weights in ``path``, in float32, loaded strictly."""
    from transformers import AutoModelForImageClassification

    try:
        network, report = AutoModelForImageClassification.from_pretrained(
            path.parent,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=path.suffix == ".safetensors",
        )
    except Exception as error:  # likewise
        # the message on sizes gives advice that would leave tensors random
        cause = "of other shapes" if "ignore_mismatched_sizes" in str(error) else reason(error)
        raise UserError(f"{path}: its tensors do not fit config.json ({cause}); the log lists them") from None
    for kind in ("missing", "unexpected", "mismatched"):
        if names := sorted(map(str, report[f"{kind}_keys"])):
            raise UserError(
                f"{path}: the tensor {names[0]} is {kind} ({len(names)} in all are), of {config.model_type}"
            )
    return network


def check_own_tensors(path: Path, network: nn.Module) -> None:
    """Raise UserError if two of a network's tensors are one in memory (tied), which no model file here can hold."""
    owners: dict[int, str] = {}
    for name, tensor in network.state_dict().items():
        owner = owners.setdefault(tensor.data_ptr(), name)
        if owner != name and tensor.numel():
            raise UserError(f"{path}: the tensors {owner} and {name} are one (tied), expected a model without such")


def check_classes(folder: Path, config, classes: list[str], labels: str, log) -> None:
    """Raise UserError unless the model has the data set's classes in the data set's order."""
    if config.num_labels != len(classes):
        raise UserError(f"{folder}: a model of {config.num_labels} classes, the data set has {len(classes)}")
    named = [str(config.id2label[index]) for index in range(len(classes))]
    plain, wanted = ([re.sub(r"[\W_]+", "", name.casefold()) for name in names] for names in (named, classes))
    if plain == wanted:
        return
    index = next(index for index, pair in enumerate(zip(plain, wanted, strict=True)) if len(set(pair)) > 1)
    differ = f"class {index} is {named[index]!r}, the data set's is {classes[index]!r}"
    if sorted(plain) == sorted(wanted):
        raise UserError(f"{folder}: the same classes in another order: {differ}")
    if labels == "names":
        raise UserError(f"{folder}: other classes: {differ}; if only the names differ, labels=order accepts the order")
    log(f"{folder}: {differ}; the order is accepted because of labels=order")


def read_preprocessing(processor, images: torch.Tensor) -> dict:
    """Return the steps of an image processor for ``images`` (M, C, H, W), as arguments of Pretrained.

    The normalisation is that of images in [0, 1], whatever the processor scales them to first.
    """
    config = processor.to_dict()
    name, (rows, columns) = type(processor).__name__, images.shape[2:]
    size, crop, resample = [rows, columns], None, 2
    if config.get("do_resize"):
        size, crop = _resized(config, rows, columns)
        resample = int(config.get("resample", 2))
    if config.get("do_center_crop"):
        crop = [config["crop_size"]["height"], config["crop_size"]["width"]]
    if max(size or [0]) > MOST_PIXELS:
        raise UserError(f"{name}: resizes images to {size}, expected at most {MOST_PIXELS} pixels a side")
    if size is None or resample not in FILTERS:
        raise UserError(f"{name}: size {config.get('size')}, resample {resample}: no known way to resize")
    scale = 255 * (config.get("rescale_factor", 1 / 255) if config.get("do_rescale") else 1.0)
    statistics = {}
    for key, neutral in (("mean", 0.0), ("std", 1.0)):
        values = config[f"image_{key}"] if config.get("do_normalize") else neutral
        values = list(values) if isinstance(values, list | tuple) else [values] * images.shape[1]
        if len(values) != images.shape[1]:
            raise UserError(f"{name}: image_{key}: {len(values)} values, expected {images.shape[1]}, one per channel")
        statistics[key] = [float(value) / scale for value in values]
    return {"size": size, "resample": FILTERS[resample], "crop": crop or size, **statistics}


def _resized(config: dict, rows: int, columns: int) -> tuple[list[int] | None, list[int] | None]:
    """Return the size after resizing and that of the crop, None for all of it; (None, None) if the way is unknown."""
    size = config["size"]
    if size.get("height") and size.get("width"):
        return [size["height"], size["width"]], None
    edge, share = size.get("shortest_edge"), config.get("crop_pct")
    if not edge or size.get("longest_edge"):
        return None, None
    if share and edge >= 384:  # of ConvNeXT's processor, which several models share: large images are not cropped
        return [edge, edge], None
    shortest = int(edge / share) if share else edge
    longest = int(shortest * max(rows, columns) / min(rows, columns))
    return [shortest, longest] if rows <= columns else [longest, shortest], [edge, edge] if share else None


def check_preprocessing(network: Pretrained, processor, images: torch.Tensor) -> None:
    """Raise UserError if our preprocessing of ``images`` differs from that of the model's image processor."""
    name = type(processor).__name__
    ours = network.pixels(to_float(images))
    try:
        theirs = processor(list(images), return_tensors="pt")["pixel_values"]
    except Exception as error:  # of many kinds: a processor may refuse such images
        raise UserError(f"{name}: does not take the data set's images ({reason(error)})") from None
    apart = torch.inf
    if ours.shape == theirs.shape:
        apart = float(((ours - theirs) * network.std).abs().max() * 255)
    if not apart <= LEVELS:
        raise UserError(
            f"{name}: gives {tuple(theirs.shape)}, {apart:.3g} grey levels from {tuple(ours.shape)} here: "
            "it does more than to resize, crop and normalise, which is not supported"
        )
