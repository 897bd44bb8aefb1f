"""Networks and the files that hold them: model files, and archives of these."""

import importlib

from kdq.provenance.files import read_header

__all__ = ["load"]

# By name: planning reads the registry without torch, and what trains or quantizes must not depend on the coder.
READERS = {"kdq-model/1": "kdq.models.file", "kdq-archive/1": "kdq.models.archive"}


def load(path):
    """Return the network (nn.Module) in a model file or an archive, float or quantized, in eval mode.

    Raise UserError that names the file if it is missing, corrupted or foreign.
    """
    reader = importlib.import_module(READERS[read_header(path, *READERS)["format"]])
    return reader.to_network(reader.read(path), path)
