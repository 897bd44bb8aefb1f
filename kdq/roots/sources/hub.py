"""A teacher from a checkpoint: the state dict of one of our architectures, loaded strictly.

ResNets and MobileNetV2 have torchvision's parameter names (timm's ResNets too). Only tensors are read.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from kdq.data.prepared import Prepared
from kdq.errors import UserError, reason
from kdq.models import registry
from kdq.roots.sources.fetch import fetch
from kdq.train.settings import Network
from kdq.workflow.signals import defer_sigterm

# The normalisation in the training of edadaltocg/*_<data set>, from the package detectors, published with them; the
# deviations of the pixels are larger.
KNOWN = {
    "cifar10": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]},
    "cifar100": {"mean": [0.5071, 0.4867, 0.4408], "std": [0.2675, 0.2565, 0.2761]},
}


def load(prepared: Prepared, keys: dict, log) -> tuple[nn.Module, dict, Path]:
    """Return ``(network, architecture, path of the weights)``; raise UserError if checkpoint and keys do not fit."""
    channels = prepared.train.images.shape[1]
    architecture = {
        **{key: keys[key] for key in Network.model_fields},
        "classes": len(prepared.classes),
        "channels": channels,
        **statistics(keys, channels),
    }
    network = registry.build(**architecture)
    path = fetch(keys)[0]
    state = read(path)
    compare(path, state, network.state_dict(), prepared.classes, keys)
    network.load_state_dict(state, strict=True)
    log(f"{path}: {len(state)} tensors")
    return network.eval(), architecture, path


def statistics(keys: dict, channels: int) -> dict[str, list[float]]:
    """Return mean and deviation per channel of the network's training, from the keys or a known repository."""
    given = {key: keys[key] for key in ("mean", "std")}
    owner, _, name = keys.get("repository", "").partition("/")
    if owner == "edadaltocg" and not any(given.values()):
        given = KNOWN.get(name.rpartition("_")[2], given)
    for key, values in given.items():
        if len(values) != channels:
            raise UserError(
                f"{key}: {len(values)} values for {channels} channels, expected one per channel: "
                f"the {key} that the network was trained with"
            )
    return given


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file, or of a file of torch, from which only tensors are loaded."""
    from safetensors.torch import load_file

    try:
        with defer_sigterm():
            if path.suffix == ".safetensors":
                return load_file(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, whatever a damaged file means to torch
        raise UserError(f"{path}: not readable as weights ({reason(error)})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: no state dict, expected tensors by name")
    return state


def compare(path: Path, found: dict, expected: dict, classes: list[str], keys: dict) -> None:
    """Raise UserError for the first tensor that is missing, unexpected or of another shape.

    The last weight in ``expected`` is the classifier's, if ``classes`` are given.
    """
    *_, last = (name for name in expected if name.endswith(".weight"))
    described = f"{keys['architecture']}, stem={keys['stem']}, width={keys['width']:g}"
    if classes and last in found and len(found[last]) != len(classes):
        raise UserError(f"{path}: a network of {len(found[last])} classes, the data set has {len(classes)}")
    for names, fault in (
        ([name for name in expected if name not in found], "missing"),
        ([name for name in found if name not in expected], "unexpected"),
    ):
        if names:
            raise UserError(f"{path}: the tensor {names[0]} is {fault} ({len(names)} in all are), of {described}")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
            raise UserError(f"{path}: the tensor {name} has the shape {shapes}, of {described}")
