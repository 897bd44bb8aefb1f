"""Quantize a float ONNX file by ONNX Runtime's static quantization: QDQ, int8 weights per channel, uint8 activations.

python -m benchmarks.rivals.static_onnxruntime FLOAT.onnx MODEL.safetensors CALIBRATION.npy OUTPUT.onnx
"""

import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)


class Batches(CalibrationDataReader):
    def __init__(self, images: np.ndarray):
        self.batches = iter(
            [images[start : start + 32].astype(np.float32) / 255 for start in range(0, len(images), 32)]
        )

    def get_next(self) -> dict | None:
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch}


def main(float_onnx: str, model: str, calibration: str, output: str) -> None:
    prepared = f"{output}.prepared"
    quant_pre_process(float_onnx, prepared)
    quantize_static(
        prepared,
        output,
        Batches(np.load(calibration)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )
    Path(prepared).unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
