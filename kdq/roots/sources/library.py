"""A teacher from timm or torchvision: a classifier with pretrained weights, its own classes included."""

from pathlib import Path

from torch import nn

from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.models import registry
from kdq.models.networks.library import library_of
from kdq.roots.sources.classes import check_classes


def load(prepared: Prepared, keys: dict, log) -> tuple[nn.Module, dict, dict[str, Path]]:
    """Return ``(network, architecture, files by role)``; raise UserError if the weights do not fit the data set.

    Images are resized and cropped as for the accuracy that the library publishes.
    """
    (module, name), weights = library_of(keys["architecture"]), keys["weights"]
    where = f"{keys['architecture']}, {weights}"
    names, classes = module.class_names(name, weights), prepared.classes
    if len(names) != len(classes):
        hint = "without source=library its classifier is new, and it is trained"
        raise UserError(f"{where}: a network of {len(names)} classes, the data set has {len(classes)}; {hint}")
    check_classes(where, names, classes, keys["labels"], log)
    architecture = registry.described(keys, **prepared.size, mean=prepared.mean, std=prepared.std)
    network = registry.pretrained(weights, whole=True, **architecture)
    shown_as = architecture["preprocessing"]
    log(f"{where}: images resized to {shown_as['size']}, cropped to {shown_as['crop']}")
    return network.eval(), architecture, {"weights": module.checkpoint(name, weights)}
