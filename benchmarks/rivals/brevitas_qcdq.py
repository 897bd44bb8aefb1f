"""Quantize a network by Brevitas as its post-training example does, and export it as QCDQ.

python -m benchmarks.rivals.brevitas_qcdq FLOAT.onnx MODEL.safetensors CALIBRATION.npy OUTPUT.onnx BITS {gpfq,rtn}

BatchNorm is merged, activations have 8 bits, the steps of weights are per channel; the bias is corrected last.
"""

import sys

import numpy as np
import torch
from brevitas.export import export_onnx_qcdq
from brevitas.graph.quantize import preprocess_for_quantize
from brevitas_examples.imagenet_classification.ptq.ptq_common import (
    apply_bias_correction,
    apply_gpfq,
    calibrate,
    quantize_model,
)

from benchmarks.rivals.float_network import float_network


def main(float_onnx: str, model: str, calibration: str, output: str, bits: str, method: str) -> None:
    torch.manual_seed(0)
    images = torch.from_numpy(np.load(calibration)).float() / 255
    batches = [(batch, None) for batch in images.split(64)]
    network = preprocess_for_quantize(float_network(model))
    quantized = quantize_model(
        network,
        backend="fx",
        weight_bit_width=int(bits),
        act_bit_width=8,
        bias_bit_width=32,
        weight_quant_granularity="per_channel",
        act_quant_percentile=99.999,
        act_quant_type="asym",
        scale_factor_type="float_scale",
        quant_format="int",
    )
    with torch.no_grad():
        quantized(images[:1])
    calibrate(batches, quantized)
    if method == "gpfq":
        apply_gpfq(batches, quantized, act_order=False)
    apply_bias_correction(batches, quantized)
    export_onnx_qcdq(
        quantized.eval(),
        images[:2],
        output,
        opset_version=17,
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}},
        dynamo=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
