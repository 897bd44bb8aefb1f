"""Quantized weights, biases and activations in an ONNX graph.

A quantized weight is packed bytes, the table of their codes, and one step per row (:mod:`kdq.deploy.code_tables`);
runtimes compute the codes once, when they load the file, and fold them to int8. A quantized activation is a pair of
QuantizeLinear and DequantizeLinear, which runtimes turn into integer operators.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import TensorProto
from torch import Tensor

from kdq.deploy.code_tables import planes, table
from kdq.deploy.graph_nodes import FLOAT, Graph
from kdq.errors import UserError
from kdq.models.activations import module_and_place
from kdq.models.codes import Point
from kdq.models.folding import FoldedLayer

# metadata per quantized layer: the tensors of codes and steps, how much larger these codes are, and `TRANSPOSED`
LAYERS, TRANSPOSED = "layers", "transposed"
INT8 = range(-128, 128)


class QuantizedTensors:
    """Adds the tensors of quantized layers and activations to ``graph``.

    ``layers`` holds every layer with its BatchNorm folded in, and its int32 bias if it reads a point, see
    :func:`kdq.models.integer.folded_layers`. ``names`` are the tensors of codes and steps of each quantized
    layer, their factor, and ``TRANSPOSED`` if the codes are.
    """

    def __init__(
        self,
        graph: Graph,
        layers: Mapping[str, tuple[FoldedLayer, Tensor | None]],
        points: Sequence[Point],
    ):
        self.graph, self.layers = graph, layers
        self.points = {reader: point for point in points for reader in point.readers}
        self.names: dict[str, tuple] = {}
        self.pairs: dict[tuple[str, str], str] = {}  # quantized and dequantized again, by tensor and point

    def metadata(self) -> dict:
        return {LAYERS: self.names} if self.names else {}

    def read_by(self, reader: str, tensor: str) -> str:
        """Return what ``reader`` reads of a float tensor: quantized and dequantized if it is a point."""
        point = self.points.get(reader)
        return tensor if point is None else self.dequantized(self.quantized(tensor, point), point)

    def quantized(self, tensor: str, point: Point) -> str:
        """Return the codes, uint8, of a float tensor."""
        key = tensor, point.name
        if key not in self.pairs:
            codes = self.graph.add("QuantizeLinear", tensor, *self._scale(point))
            if point.bits < 8:
                codes = self._bounded(codes, point)
            self.pairs[key] = codes
        return self.pairs[key]

    def _bounded(self, codes: str, point: Point) -> str:
        """Return the uint8 ``codes``, none beyond the largest of the point's bits."""
        graph, largest = self.graph, 2**point.bits - 1
        if any(module_and_place(reader)[0] in self.layers for reader in point.readers):
            bounds = (graph.constant(np.array(bound, np.uint8)) for bound in (0, largest))
            return graph.add("Clip", codes, *bounds)
        # in int32: OpenVINO 2026 computes a Clip of uint8 wrongly here, ONNX Runtime 1.20 has no Min of uint8
        least = graph.add("Min", graph.add("Cast", codes, to=TensorProto.INT32), graph.constant(np.int32(largest)))
        return graph.add("Cast", least, to=TensorProto.UINT8)

    def dequantized(self, codes: str, point: Point) -> str:
        """Return the float tensor of codes."""
        key = codes, "dequantized"
        if key not in self.pairs:
            self.pairs[key] = self.graph.add("DequantizeLinear", codes, *self._scale(point))
        return self.pairs[key]

    def value(self, codes: str, point: Point) -> str:
        """Return the float tensor of codes, whose reader gets the codes as they are."""
        name = self.dequantized(codes, point)
        self.pairs[name, point.name] = codes
        return name

    def _scale(self, point: Point) -> tuple[str, str]:
        zero_point = np.array(point.zero_point, np.uint8)
        return self.graph.constant(point.scale.numpy().reshape(())), self.graph.constant(zero_point)

    def bias(self, name: str, integer: bool) -> list[str]:
        """Return the tensor of a layer's bias as the end of a node's inputs, [] if it has none.

        ``integer``: of int32 codes, as an integer operator adds them.
        """
        folded, codes = self.layers[name]
        if folded.bias is None:
            return []
        if codes is None or not integer:
            return [self.graph.constant(folded.bias.numpy())]
        units = self.graph.add("Mul", self._steps(name), self._scale(self.points[name])[0])
        return [self.graph.add("DequantizeLinear", self.graph.constant(codes.numpy()), units, axis=0)]

    def weight(self, name: str, integer: bool, zero_point: bool = False, transposed: bool = False) -> str:
        """Return the tensor of a layer's weight.

        ``integer``: as int8 codes that are dequantized, which an integer operator reads; else as floats, which a
        runtime computes once. ``zero_point`` is for ONNX Runtime 1.20, whose QGemm needs one. ``transposed``: (inputs,
        outputs), as MatMul takes them. The packed codes are, for OpenVINO computes in float behind a Transpose.
        """
        folded, graph = self.layers[name][0], self.graph
        if folded.codes is None:
            return graph.constant(folded.weight.numpy())
        codes, steps = self._codes(name, transposed), self._steps(name, flat=integer)
        self.names[name] = codes, steps, folded.factor, *[TRANSPOSED] * transposed
        if not integer:
            return graph.add("Mul", graph.add("Cast", codes, to=FLOAT), steps)
        zero = [graph.constant(np.zeros(len(folded.codes.codes), np.int8))] if zero_point else []
        return graph.add("DequantizeLinear", codes, steps, *zero, axis=int(transposed))

    def _steps(self, name: str, flat: bool = True) -> str:
        """Return the tensor of a layer's steps: one per row, or in a shape that multiplies the weight."""
        folded = self.layers[name][0]
        weight, step = folded.codes, folded.codes.step.float().numpy() / folded.factor
        if not flat:
            return self.graph.constant(step.reshape(-1, *[1] * (weight.codes.dim() - 1)))
        return self.graph.constant(np.broadcast_to(step, len(weight.codes)) if len(step) == 1 else step)

    def _codes(self, name: str, transposed: bool) -> str:
        """Return the tensor of a layer's codes, int8, times its factor."""
        (folded, _), graph = self.layers[name], self.graph
        weight, factor = folded.codes, folded.factor
        codes, low, bits = (weight.codes.T if transposed else weight.codes).numpy(), weight.low, weight.storage_bits
        if codes.min(initial=0) < INT8[0] or codes.max(initial=0) > INT8[-1] or bits > 8:
            raise UserError(f"{name}: codes of {bits} bits do not fit int8, expected at most 8 bits")
        if bits == 8:
            return graph.constant((codes * factor).astype(np.int8))
        values = []
        for content, width, shift, offset in planes(codes, low, bits):
            bytes_ = graph.add("Cast", graph.constant(content), to=TensorProto.INT32)
            values.append(graph.add("Gather", graph.constant(table(width, shift, offset, factor)), bytes_, axis=0))
        if codes.size % 8:
            flat, size = graph.constant(np.array([-1], np.int64)), graph.constant(np.array([codes.size], np.int64))
            start = graph.constant(np.array([0], np.int64))
            values = [graph.add("Slice", graph.add("Reshape", value, flat), start, size) for value in values]
        shape = graph.constant(np.array(codes.shape, np.int64))
        values = [graph.add("Reshape", value, shape) for value in values]
        if len(values) == 1:
            return values[0]
        # int32: runtimes of 2024 and before have no sum of int8
        total, *others = (graph.add("Cast", value, to=TensorProto.INT32) for value in values)
        for value in others:
            total = graph.add("Add", total, value)
        return graph.add("Cast", total, to=TensorProto.INT8)
