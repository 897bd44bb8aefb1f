"""A teacher from a float model file of this package, which says itself what network it holds."""

from pathlib import Path

from torch import nn

from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.models.file import read, to_network
from kdq.roots.sources.fetch import fetch


def load(prepared: Prepared, keys: dict, log) -> tuple[nn.Module, dict, dict[str, Path]]:
    """Return ``(network, architecture, files by role)``; raise UserError if the file does not fit the data set."""
    paths = fetch(keys)
    path = paths["weights"]
    file = read(path)
    header, architecture = file.header, file.header["architecture"]
    if file.codes:
        raise UserError(f"{path}: the codes of {header.get('recipe')}, expected a float model")
    for key, values in (("classes", prepared.classes), ("channels", prepared.mean)):
        if (found := architecture.get(key, len(values))) != len(values):
            raise UserError(f"{path}: a network of {found} {key}, the data set has {len(values)}")
    if header.get("dataset") != prepared.dataset:
        log(f"{path}: trained on {header.get('dataset')}; its classes are taken to be in the data set's order")
    return to_network(file, path), architecture, paths
