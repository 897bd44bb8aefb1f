"""Archives: model files whose codes are entropy coded, to keep and to send; they hold exactly what the model file does.

A safetensors file as ``kdq/models/file.py`` describes, with two differences: in place of every layer's packed codes
there is one tensor ``codes``, the stream of all layers in the order of the header, see ``kdq/models/entropy.py``; and
the header has the checksum of the decoded codes, so that a damaged stream, or a coder that has changed, is noticed.
"""

import zlib

import numpy as np
import torch
from safetensors.torch import save

from kdq.errors import UserError
from kdq.models import entropy, packing
from kdq.models import file as model_file
from kdq.models.file import ModelFile, to_network
from kdq.provenance.files import header_text, read_tensors, write_tensors
from kdq.provenance.formats import ARCHIVE as FORMAT

__all__ = ["ModelFile", "pack", "read", "size_bytes", "to_network", "unpack"]

STREAM = "codes"
CHECKSUM = "codes_crc32"


def pack(model, archive) -> None:
    """Write the archive of the model file ``model``; raises UserError where it has no quantized layer."""
    write_tensors(archive, *_encoded(model))


def unpack(archive, model) -> None:
    """Write the model file of an archive: byte for byte the one that it was made of."""
    write_tensors(model, *_decoded(archive))


def read(path) -> ModelFile:
    """What the model file of an archive says; raises UserError that names the archive where it is no good one."""
    tensors, header = _decoded(path)
    return model_file.parse(header, tensors, path)


def size_bytes(model) -> int:
    """Bytes of the archive of the model file ``model``, which is not written."""
    tensors, header = _encoded(model)
    return len(save(tensors, metadata=header_text(header)))


def _encoded(path) -> tuple[dict, dict]:
    """(tensors, header) of the archive of a model file."""
    header, tensors = read_tensors(path, model_file.FORMAT)
    quantized = model_file.parse(header, dict(tensors), path).codes
    if not quantized:
        raise UserError(f"{path}: a float model, expected quantized layers, whose codes an archive makes smaller")
    layers = [(weight.codes.numpy() - weight.low, weight.high - weight.low + 1) for weight in quantized.values()]
    for layer in quantized:
        del tensors[f"{layer}.weight.codes"]
    tensors[STREAM] = torch.from_numpy(entropy.encode(layers))
    return tensors, {**header, "format": FORMAT, CHECKSUM: _checksum([codes for codes, _ in layers])}


def _decoded(path) -> tuple[dict, dict]:
    """(tensors, header) of the model file of an archive."""
    header, tensors = read_tensors(path, FORMAT)
    try:
        checksum, layers = header.pop(CHECKSUM), header["layers"]
        shapes = [(tuple(facts["shape"]), facts["high"] - facts["low"] + 1) for facts in layers.values()]
        codes = entropy.decode(tensors.pop(STREAM).numpy(), shapes)
        if _checksum(codes) != checksum:
            raise ValueError("the checksum of its codes is another")
        for (layer, facts), values in zip(layers.items(), codes, strict=True):
            packed = packing.pack(torch.from_numpy(values), 0, facts["storage_bits"])
            tensors[f"{layer}.weight.codes"] = packed
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: corrupted, its codes cannot be decoded ({reason[:300]})") from None
    return tensors, header | {"format": model_file.FORMAT}


def _checksum(codes: list[np.ndarray]) -> int:
    """CRC-32 of codes in order, as little-endian int16."""
    return zlib.crc32(b"".join(np.ascontiguousarray(values, dtype="<i2").tobytes() for values in codes))
