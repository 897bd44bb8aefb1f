"""ONNX files of quantized networks."""

import importlib.util
from os import PathLike
from pathlib import Path
from typing import Literal

from kdq.errors import UserError
from kdq.library.network import QuantizedNetwork
from kdq.provenance.files import atomic

METADATA = ("method", "keys", "seed", "dataset", "recipe")


def export(
    quantized: QuantizedNetwork,
    path: str | PathLike,
    images: Literal["float32_nchw", "uint8_nhwc"] = "float32_nchw",
    shape: tuple[int, ...] | None = None,
) -> None:
    """Write the ONNX file of a quantized network: codes packed at their bits, which a runtime unpacks when it loads it.

    With quantized activations ONNX Runtime and OpenVINO compute on integers. Input ``images`` float32 (N, ...), as the
    network takes them, or uint8 (N, H, W, C) if it was quantized with ``input="uint8"``; output ``logits``. ``shape``
    is that of one image (C, H, W), by default that of the calibration images. What was written is read back: its
    structure, codes and steps.

    Raise UserError if an operation has no ONNX form, or if ``pip install 'kdq[export]'`` is missing.
    """
    if not isinstance(quantized, QuantizedNetwork):
        raise UserError(f"export: found {type(quantized).__name__}, expected what kdq.quantize or kdq.load returns")
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"export: {name} is not installed, expected it: pip install 'kdq[export]'")
    from kdq.deploy.graph_nodes import FLOAT32_NCHW, UINT8_NHWC
    from kdq.deploy.onnx_file import check_codes_of, onnx_of, read

    if images not in (FLOAT32_NCHW, UINT8_NHWC):
        raise UserError(f"images: found {images!r}, expected {FLOAT32_NCHW!r} or {UINT8_NHWC!r}")
    facts = quantized.header.get("input", {"images": "uint8", "shape": None})  # of the workflow's files
    if images == UINT8_NHWC and facts["images"] != "uint8":
        raise UserError(f"images: found {UINT8_NHWC!r}, expected {FLOAT32_NCHW!r}: it was quantized on floats")
    metadata = {key: quantized.header[key] for key in METADATA if key in quantized.header}
    network, codes = quantized.float_activations().cpu(), quantized.file.codes
    size = shape or facts["shape"]
    model = onnx_of(network, codes, metadata, images, None if size is None else tuple(size))
    with atomic(path) as temporary:
        Path(temporary).write_bytes(model.SerializeToString(deterministic=True))
        check_codes_of(read(temporary), network, codes, path)
