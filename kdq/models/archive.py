"""Archives: model files whose codes are entropy coded, with the same content.

A safetensors file as in ``kdq/models/file.py``, with two differences: one tensor ``codes`` replaces the packed codes,
the stream of all layers in the order of the header, see ``kdq/models/entropy.py``, and of a pruned one also its mask,
before the codes that are left; and the header also holds the SHA-256 of the model file and the checksum of the decoded
stream, which reveals a damaged one or a changed coder.
"""

import zlib

import numpy as np
import torch
from safetensors.torch import save

from kdq.errors import UserError, reason
from kdq.models import entropy, masks, packing
from kdq.models import file as model_file
from kdq.models.file import ModelFile, to_network
from kdq.provenance.files import header_text, read_tensors, sha256, write_tensors
from kdq.provenance.formats import ARCHIVE as FORMAT

__all__ = ["ModelFile", "pack", "read", "size_bytes", "to_network", "unpack"]

STREAM = "codes"
CHECKSUM = "codes_crc32"
MADE_FROM = "archive"  # header key: code and model file; the rest of the header is the model's
NO_CODE = "-" * 16  # as long as a fingerprint: the size of an archive does not depend on the code that packs it


def pack(model, archive, code: str = NO_CODE) -> None:
    """Write the archive of the model file ``model``; raise UserError if it has no quantized layer.

    ``code`` is the fingerprint of the code that packs.
    """
    write_tensors(archive, *_encoded(model, code))


def unpack(archive, model) -> None:
    """Write the model file of an archive, byte for byte the one that it was made from."""
    write_tensors(model, *_decoded(archive))


def read(path) -> ModelFile:
    """Return the content of the archived model file; raise UserError that names the archive if it is corrupted."""
    tensors, header = _decoded(path)
    return model_file.parse(header, tensors, path)


def size_bytes(model) -> int:
    """Return the size of the archive of the model file ``model`` without writing it."""
    tensors, header = _encoded(model)
    return len(save(tensors, metadata=header_text(header)))


def _encoded(path, code: str = NO_CODE) -> tuple[dict, dict]:
    """Return tensors and header of the archive of a model file."""
    header, tensors = read_tensors(path, model_file.FORMAT)
    file, parts = model_file.parse(header, dict(tensors), path), []
    if not file.codes:
        raise UserError(f"{path}: a float model, expected quantized layers, whose codes an archive makes smaller")
    for layer, weight in file.codes.items():
        codes, mask = weight.codes - weight.low, file.masks.get(layer)
        if mask is not None:
            parts.append((mask.numpy(), 2))
            codes = codes[mask]
            del tensors[f"{layer}.weight.mask"]
        parts.append((codes.numpy(), weight.high - weight.low + 1))
        del tensors[f"{layer}.weight.codes"]
    tensors[STREAM] = torch.from_numpy(entropy.encode(parts))
    made_from = {"code": code, "inputs": {"model": sha256(path)}}
    return tensors, {**header, "format": FORMAT, MADE_FROM: made_from, CHECKSUM: _checksum([row for row, _ in parts])}


def _decoded(path) -> tuple[dict, dict]:
    """Return tensors and header of the model file of an archive."""
    header, tensors = read_tensors(path, FORMAT)
    try:
        checksum, layers, _ = header.pop(CHECKSUM), header["layers"], header.pop(MADE_FROM)
        pruned, shapes = header.get("pruned", {}), []
        for layer, facts in layers.items():
            shape = tuple(facts["shape"])
            if layer in pruned:
                shapes.append((shape, 2))
                shape = (pruned[layer]["left"],)
            shapes.append((shape, facts["high"] - facts["low"] + 1))
        parts = entropy.decode(tensors.pop(STREAM).numpy(), shapes)
        if _checksum(parts) != checksum:
            raise ValueError("the checksum of its codes is another")
        decoded = map(torch.from_numpy, parts)
        for layer, facts in layers.items():
            if layer in pruned:
                tensors[f"{layer}.weight.mask"] = masks.encoded(next(decoded).bool())[0]
            tensors[f"{layer}.weight.codes"] = packing.pack(next(decoded), 0, facts["storage_bits"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path}: corrupted, its codes cannot be decoded ({reason(error, 300)})") from None
    return tensors, header | {"format": model_file.FORMAT}


def _checksum(codes: list[np.ndarray]) -> int:
    """Return the CRC-32 of codes in order, as little-endian int16."""
    return zlib.crc32(b"".join(np.ascontiguousarray(values, dtype="<i2").tobytes() for values in codes))
