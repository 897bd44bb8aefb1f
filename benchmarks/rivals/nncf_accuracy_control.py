"""Quantize a float ONNX file by NNCF's quantization with accuracy control: layers return to float until it is within.

python -m benchmarks.rivals.nncf_accuracy_control FLOAT.onnx MODEL.safetensors CALIBRATION.npy OUTPUT.onnx
    CHOICE.npz POINTS

``CHOICE.npz`` holds the ``images`` uint8 (M, C, H, W) and ``labels`` (M,) on which the drop is at most ``POINTS``.
"""

import sys

import nncf
import numpy as np
import onnx
import onnxruntime

BATCH = 128


def accuracy(model: onnx.ModelProto, batches) -> tuple[float, list[float]]:
    """Return the accuracy of a model, and whether each image is classified right."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    right = [session.run(None, {"images": images})[0].argmax(1) == labels for images, labels in batches]
    each = np.concatenate(right).astype(float)
    return float(each.mean()), each.tolist()


def main(float_onnx: str, model: str, calibration: str, output: str, choice: str, points: str) -> None:
    images = np.load(calibration).astype(np.float32) / 255
    calibrated = nncf.Dataset(
        [images[index : index + 1] for index in range(len(images))], lambda image: {"images": image}
    )
    content = np.load(choice)
    parts = [slice(start, start + BATCH) for start in range(0, len(content["labels"]), BATCH)]
    batches = [(content["images"][part].astype(np.float32) / 255, content["labels"][part]) for part in parts]
    quantized = nncf.quantize_with_accuracy_control(
        onnx.load(float_onnx),
        calibrated,
        nncf.Dataset(batches),
        accuracy,
        max_drop=float(points) / 100,
        subset_size=len(images),
    )
    onnx.save(quantized, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
