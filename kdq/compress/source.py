"""What the words MODEL and DATA of ``make compress`` mean: keys of a study."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from kdq.data.catalog import CATALOG
from kdq.data.folder_files import image_files
from kdq.errors import UserError, nearest
from kdq.models import registry
from kdq.models.libraries import LIBRARIES
from kdq.provenance.files import read_header, sha256
from kdq.provenance.formats import DATA, MODEL
from kdq.provenance.regular_file import FILE, FOLDER, NOTHING, kind
from kdq.recipe.path import Cell, data_file
from kdq.study import strict_yaml

WEIGHTS, CONFIG, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
CHECKPOINT = re.compile(r"\.(bin|ckpt|pth?|safetensors)$")
LIBRARY_NAME = re.compile(rf"((?:{'|'.join(LIBRARIES)})/\w+)(?:\.(.+))?", re.ASCII)
EXPECTED = (
    "expected a folder of transformers, a model.safetensors of KDQ, a YAML file with the keys of a teacher, or a "
    "pretrained network such as torchvision/resnet18"
)
# of images whose source has no test part: half of the test part chooses, half reports
SHARES = {"validation_fraction": 0.3, "test_fraction": 0.5}


@dataclass(frozen=True)
class Source:
    """Where a float network comes from: the keys of a study, ``config``, that import it as ``teacher``.

    ``size`` is the side in pixels of the images it takes, 0 if nothing tells. ``trained_on`` is the header of the data
    file that it was trained with, empty if that is not known. ``trains``: there are no weights, the study trains it.
    """

    config: dict
    size: int = 0
    trained_on: dict = field(default_factory=dict)
    trains: bool = False

    def split_of(self, dataset: str) -> dict:
        """Return the keys of the split that the network was trained with, empty unless that was of this data set."""
        if self.trained_on.get("dataset") != dataset:
            return {}
        keys = self.trained_on["provenance"]["keys"]
        shares = {key: keys[key] for key in SHARES if key in keys}
        return {"split_seed": self.trained_on["split_seed"], **shares}


def source_of(model: str) -> Source:
    """Return where ``model``, a path, comes from; raise UserError if it is no network with weights."""
    if not model:
        raise UserError(f"MODEL: missing, {EXPECTED}")
    path = Path(model)
    lies_there = kind(path)
    if lies_there == FOLDER:
        return _of_folder(path)
    if lies_there == FILE and path.suffix in (".yaml", ".yml"):
        return _of_yaml(path)
    if lies_there == FILE and path.suffix == ".safetensors" and is_own(path):
        return _of_model_file(path)
    if lies_there == FILE and CHECKPOINT.search(path.name):
        raise _undescribed(path)
    if lies_there != NOTHING:
        raise UserError(f"MODEL: {path}: found {lies_there} that is no model, {EXPECTED}")
    if named := LIBRARY_NAME.fullmatch(model):
        return _of_library(named[1], named[2] or "")
    if any(family.has(model) for family in registry.FAMILIES):
        raise UserError(
            f"MODEL: {model!r} is a network without weights; to have it trained first, write teacher: {{architecture: "
            f"{model}, epochs: ...}} to a YAML file and give that as MODEL"
        )
    beside = sorted(os.listdir(path.parent)) if path.parent.is_dir() else []
    raise UserError(f"MODEL: {path}: no such file or folder, {EXPECTED}{nearest(path.name, beside)}")


def _of_folder(folder: Path) -> Source:
    """Return the source of a folder: a model of KDQ, or one of transformers with its configuration."""
    weights = folder / WEIGHTS
    if kind(weights) == FILE and is_own(weights):
        return _of_model_file(weights)
    if kind(folder / CONFIG) != FILE:
        for name in sorted(os.listdir(folder)):
            if CHECKPOINT.search(name):
                raise _undescribed(folder / name)
        raise UserError(f"MODEL: {folder}: no model in this folder, {EXPECTED}")
    keys = {"source": "transformers", "folder": str(folder.resolve())}
    if kind(weights) != FILE and kind(folder / "pytorch_model.bin") == FILE:
        keys["file"] = "pytorch_model.bin"
    return Source({"stages": {"teacher": keys}}, _size_of_processor(folder / PROCESSOR))


def _undescribed(path: Path) -> UserError:
    return UserError(
        f"MODEL: {path}: a checkpoint, which names neither network nor normalisation; write these keys of a teacher to "
        "a YAML file (docs/compress.md) and give that as MODEL"
    )


def _size_of_processor(path: Path) -> int:
    """Return the side in pixels to which an image processor resizes; 0 if it does not say, which its reader judges."""
    try:
        size = json.loads(path.read_bytes())["size"]
        sides = size.values() if isinstance(size, dict) else [size]
        return max(side for side in sides if type(side) is int)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def is_own(path: Path) -> bool:
    """Return whether a file of safetensors is a model file of KDQ."""
    try:
        read_header(path, MODEL)
    except UserError:
        return False
    return True


def _of_model_file(path: Path) -> Source:
    """Return the source of a float model file of KDQ; its header describes the network."""
    header = read_header(path, MODEL)
    if header["layers"]:
        raise UserError(f"MODEL: {path}: {header.get('recipe')}: is quantized already, expected a float model")
    teacher = {"source": "kdq", "folder": str(path.resolve().parent), "file": path.name}
    trained_on = _trained_on(path, header)
    keys = trained_on.get("provenance", {}).get("keys", {})
    sides = header["architecture"].get("preprocessing", {}).get("size", [header["architecture"].get("side", 0)])
    size = keys.get("image_size") or max(sides)
    return Source({"stages": {"teacher": teacher}}, size, trained_on)


def _trained_on(path: Path, header: dict) -> dict:
    """Return the header of the data file that a model was trained with, if it lies where the model's study has it."""
    try:
        cell = Cell.of(path.absolute())
    except UserError:
        return {}
    results = Path(str(path.absolute()).removesuffix(cell.path(path.name)))
    digest = header.get("provenance", {}).get("inputs", {}).get("data")
    for data in sorted((results / data_file(cell.dataset, 0)).parent.glob("split=*.safetensors")):
        if sha256(data) == digest:
            return read_header(data, DATA)
    return {}


def _of_library(architecture: str, weights: str) -> Source:
    """Return the source of a pretrained network; ``weights`` as torchvision or timm names them, "" if left to it."""
    from kdq.models.networks.library import library_of  # imports torch

    module, name = library_of(architecture)
    try:
        weights = module.pinned(name, weights)
    except UserError as error:
        raise UserError(f"MODEL: {architecture}: {error}") from None
    teacher = {"architecture": architecture, "weights": weights}
    size = module.preprocessing(name, weights)["size"][0]
    return Source({"teacher": teacher, "stages": {"teacher": {"source": "library"}}}, size)


def _of_yaml(path: Path) -> Source:
    """Return the source that a file of keys describes, as a config does under ``teacher`` and ``stages``."""
    config = strict_yaml.read_file(path)
    stages, network = (config.get(section) or {} for section in ("stages", "teacher"))
    teacher = (stages.get("teacher") if isinstance(stages, dict) else None) or {}
    trains = isinstance(teacher, dict) and teacher.get("source", "train") == "train"
    if not isinstance(teacher, dict) or trains and not (isinstance(network, dict) and "architecture" in network):
        raise UserError(
            f"MODEL: {path}: found neither stages.teacher.source nor teacher.architecture, expected hub or "
            "transformers, where weights are, or a network to train"
        )
    if folder := teacher.get("folder"):
        teacher["folder"] = os.path.abspath(folder)
    return Source(config, (config.get("data") or {}).get("image_size", 0), trains=trains)


def data_keys(data: str, source: Source, image_size: int) -> tuple[str, dict]:
    """Return the name of the data set ``data`` and the study's section ``data``.

    ``data`` is a name or a folder of images. Raise UserError if it is neither, or if nothing tells the images' size.
    """
    choices = [name for name in CATALOG if name != "folder"]
    expected = f"expected a folder with a folder of images for each class, or one of {', '.join(choices)}"
    if not data:
        raise UserError(f"DATA: missing, {expected}")
    name = data if data in choices else "folder"
    shares = {} if source.trains else SHARES
    keys = {"folder": str(Path("data").absolute()), **source.split_of(name), **source.config.get("data", {})}
    if data in choices:
        if "cifar" not in data:
            keys = shares | keys
        return data, {key: value for key, value in keys.items() if key != "image_size"}
    lies_there = kind(data)
    if lies_there == NOTHING:
        parent = Path(data).parent
        beside = [entry.name for entry in os.scandir(parent) if entry.is_dir()] if parent.is_dir() else []
        hint = nearest(data, choices) or nearest(Path(data).name, beside)
        raise UserError(f"DATA: {data!r}: no such folder, {expected}{hint}")
    if lies_there != FOLDER:
        raise UserError(f"DATA: {data}: found {lies_there}, {expected}")
    files = image_files({"image_folder": data})
    size = image_size or source.size
    if not size:
        raise UserError(
            "IMAGE_SIZE: missing, expected the side in pixels of the images that the network was trained on"
        )
    if files.test:
        shares = {key: value for key, value in shares.items() if key == "validation_fraction"}
    return "folder", {**shares, **keys, "image_folder": str(Path(data).resolve()), "image_size": size}


def drop_of(text: str) -> float:
    """Return the points of accuracy that MAX_DROP says; raise UserError if it says none."""
    points = _number("MAX_DROP", text.removesuffix("%"), "points of accuracy, such as 1")
    if not 0 <= points < 100:
        raise UserError(f"MAX_DROP: found {text}, expected points of accuracy, 0 to less than 100")
    return points


def confidence_of(text: str) -> float:
    """Return the confidence that SURE says; raise UserError if it says none."""
    sure = _number("SURE", text, "a confidence, such as 0.95")
    if not 0.5 <= sure < 1:
        raise UserError(f"SURE: found {text}, expected a confidence, 0.5 to less than 1")
    return sure


def image_size_of(text: str) -> int:
    """Return the pixels that IMAGE_SIZE says, 0 if it is empty; raise UserError if it says none."""
    if text and not (text.isdecimal() and 8 <= int(text) <= 512):
        raise UserError(f"IMAGE_SIZE: found {text!r}, expected the side of an image in pixels, 8 to 512")
    return int(text or 0)


def name_of(text: str, otherwise: str) -> str:
    """Return the name that NAME says, ``otherwise`` if it is empty; raise UserError if it is no name of a folder."""
    if text and not re.fullmatch(r"\w[\w.+-]*", text):
        raise UserError(f"NAME: found {text!r}, expected letters, digits and any of ._+-, the name of a folder")
    return text or otherwise


def _number(name: str, text: str, expected: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{name}: found {text!r}, expected {expected}") from None
