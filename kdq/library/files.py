"""Quantized networks in files: the model file of the workflow, of any network."""

import importlib
from os import PathLike

from torch import nn

from kdq.errors import UserError
from kdq.library.network import QuantizedNetwork
from kdq.models import READERS
from kdq.models.file import to_network, write
from kdq.provenance.files import read_header


def save(path: str | PathLike, quantized: QuantizedNetwork) -> None:
    """Write the model file, safetensors, of a quantized network: each code takes exactly its bits.

    The file is written atomically, holds its own checksum, and has the format of the workflow's model.safetensors.

    >>> import torch, kdq, tempfile, pathlib
    >>> network = torch.nn.Sequential(torch.nn.Linear(256, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
    >>> quantized = kdq.quantize(network, torch.rand(64, 256), bits=2)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> kdq.save(path, quantized)
    >>> path.stat().st_size < 10_000 < sum(4 * p.numel() for p in network.parameters())
    True
    """
    if not isinstance(quantized, QuantizedNetwork):
        raise UserError(f"save: found {type(quantized).__name__}, expected what kdq.quantize returns")
    write(path, quantized.file)


def load(path: str | PathLike, into: nn.Module | None = None) -> nn.Module:
    """Return the network in a model file or an archive, in eval mode: a :class:`QuantizedNetwork` if it has codes.

    A network that is not KDQ's is loaded ``into`` an instance of its class, whose weights don't matter; it becomes part
    of the result. KDQ's own networks need none. Raise UserError that names the file if it is missing or corrupted, or
    does not fit.

    >>> import torch, kdq, tempfile, pathlib
    >>> make = lambda: torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> images, path = torch.rand(64, 16), pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> quantized = kdq.quantize(make(), images, bits=4, activations=8)
    >>> kdq.save(path, quantized)
    >>> bool((kdq.load(path, into=make())(images) == quantized(images)).all())
    True
    """
    reader = importlib.import_module(READERS[read_header(path, *READERS)["format"]])
    file = reader.read(path)
    network = to_network(file, path, into=into)
    return QuantizedNetwork(network, file) if file.codes else network
