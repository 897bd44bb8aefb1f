"""Networks and the files that hold them: model files, and archives of these."""

import importlib

from torch import nn

from kdq.models.file import to_network
from kdq.provenance.files import read_header

__all__ = ["load"]

# By name: nothing that trains or quantizes reads an archive, and an import would make it depend on the coder.
READERS = {"kdq-model/1": "kdq.models.file", "kdq-archive/1": "kdq.models.archive"}


def load(path) -> nn.Module:
    """The network in a model file or an archive, float or quantized, in eval mode.

    Raises UserError that names the file where it is missing, corrupted or foreign.
    """
    reader = READERS[read_header(path, *READERS)["format"]]
    return to_network(importlib.import_module(reader).read(path), path)
