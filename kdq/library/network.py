"""A quantized network in memory, with its layers' codes."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import nn

from kdq.models.activations import detach_quantizers, has_quantizers
from kdq.models.codes import Point, QuantizedWeight
from kdq.models.file import ModelFile, to_network, weights_left
from kdq.models.network import Network

ROW = "{:<40} {:>4} {:>10} {:>10}"


class QuantizedNetwork(nn.Module):
    """A network that computes with quantized weights and, if it has any, quantized activations, as a runtime does.

    It takes and returns what the network takes and returns that was quantized; that one is the submodule ``network``.
    """

    def __init__(self, network: nn.Module, file: ModelFile):
        super().__init__()
        self.network, self.file = network, file

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        return self.network(*arguments, **keywords)

    @property
    def layers(self) -> Mapping[str, QuantizedWeight]:
        """The quantized layers by name, in the order of the network's modules.

        Each has ``codes``, int16 of the weight's shape; ``step``, float32 (1,) or one per output; ``low`` and ``high``,
        the bounds of the codes; ``bits`` and ``relative_error``, that of the layer's outputs on the calibration images.
        ``decode()`` returns the weight, code times step.
        """
        return {name: self.file.codes[name] for name, _ in self.network.named_modules() if name in self.file.codes}

    @property
    def kept(self) -> Mapping[str, dict]:
        """The layers that stay float by name: the number of their ``weights``, and the ``reason``."""
        kept = self.file.codes.kept
        return {name: kept[name] for name, _ in self.network.named_modules() if name in kept}

    @property
    def points(self) -> tuple[Point, ...]:
        """The quantized activations, each with the modules that read or give it, bits, scale and zero point."""
        return self.file.codes.points

    @property
    def header(self) -> dict:
        """What the file says besides: architecture, method, keys, and the form and shape of the images."""
        return self.file.header

    @property
    def bits_per_weight(self) -> float:
        """The mean over all weights of quantized and kept layers; those of kept ones have 32 bits."""
        left = weights_left(self.file)
        counted = [(left[name], layer.storage_bits) for name, layer in self.layers.items()]
        counted += [(left[name], 32) for name in self.kept]
        return sum(weights * bits for weights, bits in counted) / sum(weights for weights, _ in counted)

    def table(self) -> str:
        """Return the layers as text, one per line: bits, weights and relative error, or why the layer is float."""
        rows, left = [ROW.format("layer", "bits", "weights", "error")], weights_left(self.file)
        for name, layer in self.layers.items():
            error = "" if layer.relative_error is None else f"{layer.relative_error:.4f}"
            rows.append(ROW.format(name, layer.bits, f"{left[name]:,}", error))
        for name, facts in self.kept.items():
            rows.append(f"{ROW.format(name, 32, f'{left[name]:,}', '')} {facts['reason']}")
        return "\n".join(rows)

    def float_activations(self) -> nn.Module:
        """Return a copy of the network with quantized weights alone, that is with float activations."""
        if isinstance(self.network, Network):
            return to_network(self.file, integer=False)
        network = deepcopy(self.network)
        if has_quantizers(network):
            detach_quantizers(network)
        return network
