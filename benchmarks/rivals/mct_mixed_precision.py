"""Quantize a float network by MCT's mixed precision: weights of 8, 4 or 2 bits a layer, activations of 8.

python -m benchmarks.rivals.mct_mixed_precision FLOAT.onnx MODEL.safetensors CALIBRATION.npy OUTPUT.onnx
    CHOICE.npz POINTS

``CHOICE.npz`` holds the ``images`` uint8 (M, C, H, W) and ``labels`` (M,) on which the drop is at most ``POINTS``. MCT
takes the memory of the weights as given: the smallest is found by the bisection of :mod:`kdq.compress.search`, with
MCT's defaults. The file is its export for other runtimes (``FAKELY_QUANT``): float weights of few values. What they
would take at their bits is written to ``OUTPUT.onnx.json``, with the budget and the drop.
"""

import json
import sys
from functools import partial
from pathlib import Path

import model_compression_toolkit as mct
import numpy as np
import onnx
import torch

from benchmarks.rivals.float_network import float_network
from kdq.compress.search import BUDGETS, smallest_within

BATCH = 32


class Search:
    """The networks of several budgets, each quantized when it is asked for."""

    def __init__(self, model: str, calibration: np.ndarray, choice, points: float):
        self.network, self.points = float_network(model), points
        self.calibration = torch.from_numpy(calibration).float() / 255
        self.images, self.labels = torch.from_numpy(choice["images"]), torch.from_numpy(choice["labels"])
        layers = (torch.nn.Conv2d, torch.nn.Linear)
        self.weights = sum(m.weight.numel() for m in self.network.modules() if isinstance(m, layers))
        self.reference = self.accuracy(self.network)
        self.tried: dict[float, tuple] = {}

    def batches(self):
        yield from ([part] for part in self.calibration.split(BATCH))

    @torch.no_grad()
    def accuracy(self, network) -> float:
        right = [
            (network(images.float() / 255).argmax(1) == labels).float()
            for images, labels in zip(self.images.split(250), self.labels.split(250), strict=True)
        ]
        return torch.cat(right).mean().item()

    def is_within(self, budget: float) -> bool:
        """Quantize with ``budget`` bits per weight in the mean; return whether the drop is at most that allowed."""
        room = mct.core.ResourceUtilization(weights_memory=self.weights * budget / 8)
        network, facts = mct.ptq.pytorch_post_training_quantization(
            self.network, self.batches, target_resource_utilization=room
        )
        drop = 100 * (self.reference - self.accuracy(network.eval()))
        self.tried[budget] = network, drop, float(facts.final_resource_utilization.weights_memory)
        print(f"{budget:g} bits: drop {drop:.2f} points, {self.tried[budget][2]:,.0f} bytes of weights")
        return drop <= self.points


def with_input_named(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model with its one input renamed."""
    (given,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = [name if each == given.name else each for each in node.input]
    given.name = name
    return model


def main(float_onnx: str, model: str, calibration: str, output: str, choice: str, points: str) -> None:
    torch.set_num_threads(1)
    search = Search(model, np.load(calibration), np.load(choice), float(points))
    budget = smallest_within(BUDGETS, search.is_within)
    if budget is None:
        sys.exit(f"none of the budgets is within {points} points")
    network, drop, weight_bytes = search.tried[budget]
    torch.onnx.export = partial(torch.onnx.export, dynamo=False)  # for which MCT 2.6.1 was written
    mct.exporter.pytorch_export_model(
        network,
        output,
        search.batches,
        serialization_format=mct.exporter.PytorchExportSerializationFormat.ONNX,
        quantization_format=mct.exporter.QuantizationFormat.FAKELY_QUANT,
    )
    onnx.save(with_input_named(onnx.load(output), "images"), output)
    facts = {"budget": budget, "drop": drop, "weight_bytes": weight_bytes}
    Path(f"{output}.json").write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
