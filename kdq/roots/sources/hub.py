"""A teacher from a checkpoint: the state dict of one of our architectures, loaded strictly.

ResNets and MobileNetV2 have torchvision's parameter names (timm's ResNets too). Only tensors are read.
"""

from pathlib import Path

from torch import nn

from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.models import registry
from kdq.roots.sources import tensors
from kdq.roots.sources.fetch import fetch
from kdq.roots.sources.tensors import read

COUNTER = ".num_batches_tracked"  # of a BatchNorm: the oldest files lack it, and nothing here reads it

# The normalisation in the training of edadaltocg/*_<data set>, from the package detectors, published with them; the
# deviations of the pixels are larger.
KNOWN = {
    "cifar10": {"mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.2010]},
    "cifar100": {"mean": [0.5071, 0.4867, 0.4408], "std": [0.2675, 0.2565, 0.2761]},
}


def load(prepared: Prepared, keys: dict, log) -> tuple[nn.Module, dict, dict[str, Path]]:
    """Return ``(network, architecture, files by role)``; raise UserError if checkpoint and keys do not fit."""
    size = prepared.size
    architecture = registry.described(keys, **size, **statistics(keys, size["channels"]))
    network = registry.build(**architecture)
    loaded = getattr(network, "network", network)  # that of a library has its names
    paths, expected = fetch(keys), loaded.state_dict()
    path = paths["weights"]
    state = {name: value for name, value in expected.items() if name.endswith(COUNTER)} | read(path)
    compare(path, state, expected, prepared.classes, keys)
    loaded.load_state_dict(state, strict=True)
    log(f"{path}: {tensors.types(state)}; its classes have no names and are taken to be in the data set's order")
    return network.eval(), architecture, paths


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


def compare(path: Path, found: dict, expected: dict, classes: list[str], keys: dict) -> None:
    """Raise UserError for tensors that are missing, unexpected or of another shape, or that can't be weights.

    The last weight in ``expected`` is the classifier's, if ``classes`` are given.
    """
    *_, last = (name for name in expected if name.endswith(".weight"))
    described = keys["architecture"]
    if "stem" in keys:
        described += f", stem={keys['stem']}, width={keys['width']:g}"
    if classes and last in found and found[last].dim() and len(found[last]) != len(classes):
        raise UserError(f"{path}: a network of {len(found[last])} classes, the data set has {len(classes)}")
    missing, unexpected = ([name for name in a if name not in b] for a, b in ((expected, found), (found, expected)))
    if message := tensors.names({"missing": missing, "unexpected": unexpected}):
        raise UserError(f"{path}: {message}, of {described}")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            shapes = f"{tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
            raise UserError(f"{path}: the tensor {name} has the shape {shapes}, of {described}")
    tensors.check_values(path, found, [name for name, value in expected.items() if not value.is_floating_point()])
