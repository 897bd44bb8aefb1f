"""Quantize a float ONNX file by NNCF's post-training quantization with its defaults.

python -m benchmarks.rivals.nncf_onnx FLOAT.onnx MODEL.safetensors CALIBRATION.npy OUTPUT.onnx
"""

import sys

import nncf
import numpy as np
import onnx


def main(float_onnx: str, model: str, calibration: str, output: str) -> None:
    images = np.load(calibration).astype(np.float32) / 255
    batches = nncf.Dataset([images[index : index + 1] for index in range(len(images))], lambda image: {"images": image})
    onnx.save(nncf.quantize(onnx.load(float_onnx), batches, subset_size=len(images)), output)


if __name__ == "__main__":
    main(*sys.argv[1:])
