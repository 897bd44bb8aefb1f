"""Export a model as an ONNX file, read it back, and score it as a runtime computes it."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from kdq.data.prepared import Prepared
from kdq.deploy.graph_nodes import FLOAT32_NCHW, UINT8_NHWC
from kdq.deploy.onnx_file import check_codes, read, to_onnx
from kdq.errors import UserError
from kdq.evaluate.metrics import top_k_accuracy
from kdq.evaluate.stage import check_fits
from kdq.models.file import ModelFile
from kdq.provenance.files import atomic

BATCH = 128


def export(file: ModelFile, model_path, path, prepared: Prepared, digest: str, images: str = FLOAT32_NCHW) -> None:
    """Write the ONNX file ``path`` of a model file and check what was written: its structure, codes and steps.

    ``digest`` is the model file's SHA-256, ``images`` the input, see :func:`kdq.deploy.onnx_graph.graph_of`. Raise
    UserError, naming the file, for a network without ONNX form.
    """
    check_fits(file, model_path, prepared)
    metadata = {key: file.header[key] for key in ("dataset", "seed", "recipe", "keys", "provenance")}
    metadata |= {"classes": list(prepared.classes), "model_sha256": digest}
    model = to_onnx(file, model_path, metadata, images, tuple(prepared.test.images.shape[1:]))
    with atomic(path) as temporary:
        Path(temporary).write_bytes(model.SerializeToString(deterministic=True))
        check_codes(read(temporary), file, path)


def score(path, split, predicted: Tensor) -> dict:
    """Return top-1 accuracy of an ONNX file on a part in ONNX Runtime, and the share of ``predicted`` classes.

    ``predicted`` int16 (M,) are the classes that the model file's network predicts.
    """
    logits = run(path, split.images)
    return {
        "images": len(split.labels),
        "top1": top_k_accuracy(logits, split.labels, 1),
        "agreement": float((logits.argmax(1) == predicted).double().mean()),
    }


def run(path, images: Tensor, optimized: bool = True) -> Tensor:
    """Return logits float32 (M, classes) of uint8 ``images`` (M, C, H, W) in ONNX Runtime on the CPU."""
    convert = {"tensor(uint8)": lambda batch: batch.permute(0, 2, 3, 1).contiguous()}
    convert["tensor(float)"] = lambda batch: batch.float() / 255
    options, levels = onnxruntime.SessionOptions(), onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001, the runtime raises errors of its own kinds
        raise UserError(f"{path}: ONNX Runtime can't load it ({' '.join(str(error).split())[:300]})") from None
    takes = convert[session.get_inputs()[0].type]
    batches = (takes(batch).numpy() for batch in images.split(BATCH))
    return torch.from_numpy(np.concatenate([session.run(None, {"images": batch})[0] for batch in batches]))


def input_of(images: Tensor, form: str) -> dict:
    """Return the type and the shape of one of ``images`` uint8 (M, C, H, W) as an ONNX file of the input takes it."""
    channels, height, width = images.shape[1:]
    if form == UINT8_NHWC:
        return {"type": "uint8", "shape": [height, width, channels]}
    return {"type": "float32", "shape": [channels, height, width]}
