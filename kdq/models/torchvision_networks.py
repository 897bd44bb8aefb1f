"""Classifiers of torchvision: how they are made, where their weights come from, what their feature maps are called."""

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from kdq.errors import UserError, nearest, reason
from kdq.models.libraries import REDUCTIONS
from kdq.provenance.files import sha256

COLOURS_ONLY = True  # every network takes three channels
HALF = [0.5, 0.5, 0.5]
TO_HALF = ("googlenet", "inception_v3")  # their weights are for images of mean and deviation 1/2
SIDE = 256  # of a trial image: its feature maps have sides like none of the numbers of channels


@cache
def names() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)


def is_fixed(name: str) -> bool:
    """Return whether a network is built for images of one size."""
    return name.startswith(("vit_", "maxvit_"))


def make(name: str, *, classes: int, channels: int, side: int, weights: str = "", whole: bool = False) -> nn.Module:
    """Return a network for images of that side; ``weights``, a name in the library's enum, are loaded strictly.

    The classifier is new unless ``whole``.
    """
    options = {}
    if name in TO_HALF:
        options = {"aux_logits": False, "init_weights": False}
    elif is_fixed(name):
        options = {"image_size": side} if name.startswith("vit_") else {"input_size": (side, side)}
    network = torchvision.models.get_model(name, weights=None, num_classes=classes, **options)
    if weights:
        network.load_state_dict(_state(name, weights, network, options, whole))
    return network


def normalisation(name: str, weights: str) -> tuple[list[float], list[float]]:
    """Return mean and deviation per channel of the images that the weights were trained with."""
    seen_as = _entry(name, weights).transforms()
    return (HALF, HALF) if name in TO_HALF else (list(seen_as.mean), list(seen_as.std))


def preprocessing(name: str, weights: str) -> dict:
    """Return how images are resized and cropped for the published accuracy, see kdq/models/preprocessing.py."""
    facts = _entry(name, weights).transforms()
    (edge,), (side,) = facts.resize_size, facts.crop_size
    return {"size": [edge, edge], "resample": facts.interpolation.value, "crop": [side, side]}


def class_names(name: str, weights: str) -> list[str]:
    """Return the names of the weights' classes in order."""
    return list(_entry(name, weights).meta["categories"])


def pinned(name: str, weights: str) -> str:
    """Return ``weights``, or if that is empty the name of those that the library's version prefers."""
    entries = torchvision.models.get_model_weights(name)
    if not weights and len(entries):
        return entries.DEFAULT.name
    return _entry(name, weights).name


def classifier(network: nn.Module) -> str:
    """Return the name of the last layer, a linear one or SqueezeNet's convolution."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]


def feature_maps(network: nn.Module, side: int) -> dict[str, tuple[str, bool]]:
    """Return the name of the deepest feature map of each reduction and whether its channels come last, by stage.

    Looked at are the outputs of blocks: modules of the network, and those within them.
    """
    side = side or SIDE
    try:
        nodes = [name for mode in get_graph_node_names(network) for name in mode]
        blocks = [name for name, _ in network.named_modules() if name and name.count(".") < 2]
        run = [name for name in blocks if any(f"{node}.".startswith(f"{name}.") for node in nodes)]
        shadow = create_feature_extractor(copy.deepcopy(network).to("meta").eval(), run)
        with torch.no_grad():
            maps = shadow(torch.empty(1, 3, side, side, device="meta"))
    except Exception:  # noqa: BLE001, a graph of any kind: a network without taps
        return {}
    stages = {}
    for reduction, stage in REDUCTIONS.items():
        for name, value in maps.items():
            shape, sides = tuple(getattr(value, "shape", ())), (side // reduction,) * 2
            if len(shape) == 4 and sides in (shape[2:], shape[1:3]):
                stages[stage] = name, shape[2:] != sides
    return stages if len(stages) > 1 else {}  # a transformer of one resolution has no stages


def reader(network: nn.Module, places: list[tuple[str, bool]]) -> Callable[[Tensor], tuple[Tensor, list[Tensor]]]:
    """Return the function that gives logits and the feature maps (B, C, H, W) of those places for images."""
    output = get_graph_node_names(network)[1][-1]
    extractor = create_feature_extractor(network, [*dict.fromkeys([*(name for name, _ in places), output])])

    def read(images: Tensor) -> tuple[Tensor, list[Tensor]]:
        extractor.train(network.training)  # chooses its graph
        values = extractor(images)
        return values[output], [values[name].movedim(3, 1) if last else values[name] for name, last in places]

    return read


def _entry(name: str, weights: str):
    """Return the entry of the library's enum; raise UserError if it has none of that name."""
    # without aliases: DEFAULT names other weights in another version
    entries = {entry.name: entry for entry in torchvision.models.get_model_weights(name)}
    if weights not in entries:
        expected = f"one of {', '.join(entries)}{nearest(weights, entries)}"
        raise UserError(f"weights: found {weights!r} of torchvision/{name}, expected {expected}")
    return entries[weights]


def _state(name: str, weights: str, network: nn.Module, options: dict, whole: bool) -> dict[str, Tensor]:
    """Return the tensors of ``network``: those of the weights, but for its new classifier unless ``whole``."""
    given = _pretrained(name, weights, {key: value for key, value in options.items() if key.endswith("_size")})
    state, last = dict(network.state_dict()), classifier(network)
    for key, value in state.items():
        if key.rpartition(".")[0] == last and not whole:
            continue
        if key not in given or given[key].shape != value.shape:
            raise UserError(
                f"weights: {weights} of torchvision/{name}: its tensor {key} is missing or of another shape"
            )
        state[key] = given[key]
    return state


def _pretrained(name: str, weights: str, sizes: dict) -> dict[str, Tensor]:
    """Return the tensors of the weights in the library's own network."""
    checkpoint(name, weights)
    return torchvision.models.get_model(name, weights=_entry(name, weights), progress=False, **sizes).state_dict()


def checkpoint(name: str, weights: str) -> Path:
    """Return the file of the weights, from the library's cache or its server, with the digest that its name tells."""
    entry = _entry(name, weights)
    file = Path(torch.hub.get_dir(), "checkpoints", entry.url.rpartition("/")[2])
    try:
        if not file.is_file():
            torch.hub.load_state_dict_from_url(entry.url, progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        where = f"{file} is not there, and {entry.url} is not to be downloaded"
        raise UserError(f"weights: {where} ({reason(error)})") from None
    check_digest(file)
    return file


def check_digest(file: Path) -> None:
    """Raise UserError unless the SHA-256 of a file begins with the digits at the end of its name."""
    digits = re.search(r"-([0-9a-f]{8,})\.\w+$", file.name)
    if digits and not (found := sha256(file)).startswith(digits[1]):
        raise UserError(f"{file}: SHA-256 {found}, expected one that begins with {digits[1]}; remove the file")
