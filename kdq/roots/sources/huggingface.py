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
from kdq.errors import UserError, reason, shown
from kdq.models.networks.huggingface import Pretrained, check_kernels
from kdq.roots.keys import DESCRIPTIONS, WEIGHTS
from kdq.roots.sources import tensors
from kdq.roots.sources.classes import check_classes
from kdq.roots.sources.fetch import fetch
from kdq.roots.sources.image_processor import CHECKED_IMAGES, check_preprocessing, read_preprocessing

MOST_CLASSES = 1_000_000  # the library makes a name for each


def load(prepared: Prepared, keys: dict, log) -> tuple[nn.Module, dict, dict[str, Path]]:
    """Return ``(network, architecture, files by role)``; raise UserError if model and data set do not fit."""
    if keys["file"] not in ("", *WEIGHTS.values()):
        raise UserError(f"file: found {keys['file']!r}, expected one of {', '.join(sorted(WEIGHTS.values()))}")
    paths = fetch(keys)
    weights, folder = paths["weights"], paths["weights"].parent
    config, processor = read_description(folder, {name: paths[name] for name in DESCRIPTIONS["transformers"]})
    check_classes(folder, names_of_classes(folder, config), prepared.classes, keys["labels"], log)
    channels = prepared.train.images.shape[1]
    if (expected := getattr(config, "num_channels", channels)) != channels:
        raise UserError(f"{folder}: for images of {expected} channels, the data set's have {channels}")
    images = prepared.train.images[:CHECKED_IMAGES]
    network, preprocessing = assemble(folder, read_weights(weights, config, log), processor, images)
    check_own_tensors(weights, network.network)
    described = json.loads(network.network.config.to_json_string(use_diff=False))
    described.pop("_name_or_path", None)  # a path of this machine
    size, crop = preprocessing["size"], preprocessing["crop"]
    log(f"{weights}: {config.model_type}, images resized to {size}, cropped to {crop}")
    return network, {"architecture": "transformers", "config": described, "preprocessing": preprocessing}, paths


def assemble(folder: Path, model: nn.Module, processor, images: torch.Tensor) -> tuple[Pretrained, dict]:
    """Return the model behind its preprocessing, and that; raise UserError if ``images`` do not pass both."""
    try:
        preprocessing = read_preprocessing(processor, images)
        network = Pretrained(model, **preprocessing).eval()
        check_preprocessing(network, processor, images)
        with torch.no_grad():
            logits = network(to_float(images))
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    except (ArithmeticError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: model and image processor do not fit together ({reason(error)})") from None
    expected = (len(images), model.config.num_labels)
    if tuple(logits.shape) != expected or not torch.isfinite(logits).all():
        found = f"logits {tuple(logits.shape)}, {int(torch.isfinite(logits).sum())} of them finite"
        raise UserError(f"{folder}: the model gives {found}, expected {expected}, all finite")
    return network, preprocessing


def read_description(folder: Path, paths: dict[str, Path]):
    """Return the configuration of the model in ``folder`` and its image processor, from the files in ``paths``.

    Given a folder, the library would also read files that lie beside them, such as ``processor_config.json``, which are
    no part of what the model is known to be made from: it is given these files alone.
    """
    from transformers import AutoConfig, AutoImageProcessor

    local = {"local_files_only": True, "trust_remote_code": False}
    raw, _ = (read_json(path) for path in paths.values())
    try:
        check_kernels(raw)
        if isinstance(labels := raw.get("num_labels"), int) and labels > MOST_CLASSES:
            raise UserError(f"num_labels: found {labels}, expected at most {MOST_CLASSES}")
        config_file, processor_file = map(str, paths.values())
        config = AutoConfig.from_pretrained(config_file, **local)
        return config, AutoImageProcessor.from_pretrained(processor_file, config=config, **local)
    except Exception as error:  # of many kinds, whatever makes these no descriptions
        raise UserError(f"{folder}: config.json or preprocessor_config.json can't be read ({reason(error)})") from None


def read_json(path: Path) -> dict:
    """Return the JSON object in a file; raise UserError if there is none, or for a number like NaN."""

    def refused(constant: str):
        raise ValueError(f"{constant} is no JSON")

    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refused)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: can't be read as JSON ({reason(error)})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: found {shown(value)}, expected a JSON object")
    return value


def read_weights(path: Path, config, log) -> nn.Module:
    """Return the model of ``config`` with the weights in ``path``, in float32, loaded strictly."""
    from transformers import AutoModelForImageClassification

    state = tensors.read(path)
    check_size(path, config.to_dict(), len(state))
    try:
        with torch.device("meta"):
            model = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
        counts = {
            name.rpartition(".")[2] for name, value in model.state_dict().items() if not value.is_floating_point()
        }
    except Exception as error:  # likewise
        raise UserError(f"{path.parent}: config.json describes no model ({reason(error)})") from None
    tensors.check_values(path, state, [name for name in state if _leaf(name) in counts])
    try:
        # renames the tensors of older files
        network, report = type(model).from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # likewise
        # the message on sizes gives advice that would leave tensors random
        cause = "of other shapes" if "ignore_mismatched_sizes" in str(error) else reason(error)
        raise UserError(f"{path}: its tensors do not fit config.json ({cause}); the log lists them") from None
    faults = ("missing", "unexpected", "mismatched")
    if message := tensors.names({kind: sorted(map(str, report[f"{kind}_keys"])) for kind in faults}):
        raise UserError(f"{path}: {message}, of {config.model_type}")
    log(f"{path}: {tensors.types(state)}")
    return network


def check_size(path: Path, config: dict, count: int) -> None:
    """Raise UserError if a configuration has more layers than there are tensors: building them could take forever."""
    for key, value in config.items():
        if re.search("layers|depth|blocks", key):
            for number in value if isinstance(value, list | tuple) else [value]:
                if isinstance(number, int) and number > count:
                    raise UserError(f"{path}: {count} tensors, config.json describes more: {key} is {shown(value)}")


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def check_own_tensors(path: Path, network: nn.Module) -> None:
    """Raise UserError if two of a network's tensors are one in memory (tied), which no model file here can hold."""
    owners: dict[int, str] = {}
    for name, tensor in network.state_dict().items():
        owner = owners.setdefault(tensor.data_ptr(), name)
        if owner != name and tensor.numel():
            raise UserError(f"{path}: the tensors {owner} and {name} are one (tied), expected a model without such")


def names_of_classes(folder: Path, config) -> list[str]:
    """Return the model's names of classes in order; raise UserError unless there is one name for each."""
    names = config.id2label
    indices = sorted(names) if isinstance(names, dict) else []
    if indices != list(range(len(indices))) or not indices:
        gap = next((index for index, key in enumerate(indices) if index != key), 0)
        raise UserError(f"{folder}: id2label in config.json: no class {gap}, expected all from 0 to the last")
    for index, name in names.items():
        if not isinstance(name, str):
            raise UserError(f"{folder}: id2label in config.json: class {index} is {shown(name)}, expected a name")
    return [names[index] for index in indices]
