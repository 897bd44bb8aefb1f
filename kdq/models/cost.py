"""What networks cost: ``python -m kdq.models.cost`` counts them and writes ``costs.json`` next to this file.

Planning estimates the time and memory of jobs from that file, without importing torch. The counts are taken on the meta
device, where nothing is computed, at two widths, which determine the coefficients of

    multiply-adds = pixels (a w^2 + b w) + classes e w
    activations = pixels c w
    parameters = p w^2 + q w + classes e w

for a width factor of w and images of that many pixels. Exact if widths and sides round to whole channels and pixels
(but for terms that do not grow with w); MobileNetV2's channels are multiples of 8, so there it holds within percents.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdq.models import registry
from kdq.models.network import STEMS
from kdq.models.operations import Add, GlobalAverage

FILE = Path(__file__).with_name("costs.json")
WIDTHS, SIDE, CLASSES = (1.0, 2.0), 64, 10


def count(architecture: str, stem: str, width: float, side: int, classes: int, channels: int = 3) -> dict[str, int]:
    """Return multiply-adds, activations, parameters and embedding size for one image, see :func:`counted`."""
    statistics = {"mean": [0.0] * channels, "std": [1.0] * channels}
    with torch.device("meta"):
        network = registry.build(architecture, classes=classes, channels=channels, stem=stem, width=width, **statistics)
    return counted(network, channels, side) | {"embedding": network.last_layer.in_features}


@torch.no_grad()
def counted(network: nn.Module, channels: int, side: int) -> dict[str, int]:
    """Return multiply-adds, activations and parameters of a network on the meta device, for one image.

    Activations are the outputs of all layers; those of residual sums and of the pooling are not counted.
    """
    outputs = []
    for module in network.modules():
        if not list(module.children()) and not isinstance(module, Add | GlobalAverage):
            module.register_forward_hook(lambda *given: outputs.append(given[-1].numel()))
    with FlopCounterMode(display=False) as flops:
        network.eval()(torch.empty(1, channels, side, side, device="meta"))
    return {
        "multiply_adds": flops.get_total_flops() // 2,
        "activations": sum(outputs),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def law(architecture: str, stem: str) -> dict[str, list[float] | float]:
    """Return the coefficients of the formulas above: ``multiply_adds`` [a, b], ``activations`` c, and so on."""
    counts = [count(architecture, stem, width, SIDE, CLASSES) for width in WIDTHS]
    embedding = counts[0]["embedding"]
    pixels = SIDE**2

    def quadratic(key: str, scale: int) -> list[float]:
        first, second = (
            values[key] - CLASSES * embedding * width for values, width in zip(counts, WIDTHS, strict=True)
        )
        square = (second - 2 * first) / 2
        return [round(square / scale, 6), round((first - square) / scale, 6)]

    return {
        "multiply_adds": quadratic("multiply_adds", pixels),
        "activations": round(counts[0]["activations"] / pixels, 6),
        "parameters": quadratic("parameters", 1),
        "embedding": embedding,
    }


def laws() -> dict[str, dict]:
    """Return the coefficients of every reference architecture, by stem."""
    return {name: {stem: law(name, stem) for stem in STEMS} for name in registry.references()}


if __name__ == "__main__":
    FILE.write_text(json.dumps(laws(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write("kdq/models/costs.json\n")
