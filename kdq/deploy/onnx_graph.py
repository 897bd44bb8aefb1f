"""The ONNX graph of a model: float, with quantized weights, or with quantized activations too.

Quantized weights are packed bytes, the table of their codes, and one step per row (:mod:`kdq.deploy.code_tables`);
runtimes compute the codes once, when they load the file, and fold them to int8. With quantized activations the graph is
one of QuantizeLinear and DequantizeLinear pairs, which runtimes turn into integer operators.
"""

import json
from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from kdq.deploy.code_tables import planes, table
from kdq.errors import UserError
from kdq.models.activations import SECOND, module_and_place
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.integer import folded_layers
from kdq.models.network import Network
from kdq.models.operations import Add, GlobalAverage
from kdq.models.tracing import norms_behind, trace

OPSET, IR = 17, 8  # read by ONNX Runtime from 1.13 on
FLOAT = TensorProto.FLOAT
LAYERS = "layers"  # metadata per quantized layer: the tensors of codes and steps, and how much larger these codes are
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
INT8 = range(-128, 128)
FLOAT32_NCHW, UINT8_NHWC = "float32_nchw", "uint8_nhwc"  # images in [0, 1], or in 0 .. 255 as cameras give them


class Graph:
    """The graph on its way: nodes and initializers with short names."""

    def __init__(self):
        self.nodes, self.initializers, self.count = [], [], 0
        self._constants: dict[tuple, str] = {}

    def name(self) -> str:
        count, text = self.count, ""
        self.count += 1
        while True:
            count, digit = divmod(count, len(DIGITS))
            text = DIGITS[digit] + text
            if not count:
                return f"_{text}" if text[0].isdigit() else text

    def add(self, kind: str, *inputs: str, output: str = "", **attributes) -> str:
        """Add a node; return the name of its output."""
        output = output or self.name()
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, array: np.ndarray) -> str:
        """Add an initializer, one for all arrays of the same content; return its name."""
        array = np.asarray(array, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = name = self.name()
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]


class Writer:
    """Writes the graph of one network; see :func:`graph_of`."""

    def __init__(self, network: nn.Module, codes: Codes):
        self.network, self.graph = network, Graph()
        self.trace = trace(network)
        norms = norms_behind(network, self.trace)
        self.layers = folded_layers(network, codes, norms)
        self.folded = set(norms.values())
        self.points = {reader: point for point in codes.points for reader in point.readers}
        self.tensors: dict[str, tuple[str, str, int]] = {}  # codes, steps and factor of each quantized layer
        self.names: dict[torch.fx.Node, str] = {}  # float tensors
        self.pairs: dict[tuple[str, str], str] = {}  # quantized and dequantized again, by tensor and point
        self.modules: dict[type, Callable] = {
            nn.Conv2d: self._convolution,
            nn.Linear: self._linear,
            nn.BatchNorm2d: self._norm,
            nn.MaxPool2d: self._pool,
            nn.ReLU: lambda node, module: self.graph.add("Relu", self._input(node)),
            nn.ReLU6: lambda node, module: self._clip(self._input(node), 0.0, 6.0),
            Add: lambda node, module: self.graph.add("Add", self._input(node), self._input(node, 1)),
            GlobalAverage: lambda node, module: self._average(node),
        }
        self.functions = {"add": "Add", "sub": "Sub", "mul": "Mul", "truediv": "Div", "relu": "Relu"}

    def write(self, images: str, logits: str, form: str = FLOAT32_NCHW) -> Graph:
        if form == UINT8_NHWC:
            nchw = self.graph.add("Transpose", self.graph.add("Cast", images, to=FLOAT), perm=[0, 3, 1, 2])
            images = self.graph.add("Mul", nchw, self.graph.constant(np.array(1 / 255, np.float32)))
        for node in self.trace.nodes:
            if node.op == "placeholder":
                self.names[node] = images if not self.names else ""
            elif node.op == "get_attr":
                value = self.network.get_buffer(node.target).detach().cpu().numpy()
                self.names[node] = self.graph.constant(value)
            elif node.op == "output":
                self.graph.nodes[-1].output[0] = logits
            else:
                self.names[node] = self._operation(node)
        return self.graph

    def _operation(self, node) -> str:
        if node.op == "call_module":
            module = self.network.get_submodule(node.target)
            for kind, write in self.modules.items():
                if isinstance(module, kind):
                    return write(node, module)
            raise UserError(f"{node.target}: {type(module).__name__} has no ONNX form here")
        name = getattr(node.target, "__name__", str(node.target))
        if name not in self.functions:
            raise UserError(f"{node.name}: the operation {name} has no ONNX form here")
        operands = node.args[:1] if name == "relu" else node.args[:2]
        return self.graph.add(self.functions[name], *(self.names[operand] for operand in operands))

    def _input(self, node, place: int = 0) -> str:
        """Return the tensor that a module reads: quantized and dequantized if it is a point."""
        source = node.args[place]
        point = self.points.get(node.target + SECOND * place)
        if point is None:
            return self.names[source]
        return self._dequantize(self._quantized(self.names[source], point), point)

    def _quantized(self, tensor: str, point: Point) -> str:
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
        modules = (self.network.get_submodule(module_and_place(reader)[0]) for reader in point.readers)
        if not all(isinstance(module, Add) for module in modules):
            bounds = (graph.constant(np.array(bound, np.uint8)) for bound in (0, largest))
            return graph.add("Clip", codes, *bounds)
        # in int32: OpenVINO 2026 computes a Clip of uint8 wrongly here, ONNX Runtime 1.20 has no Min of uint8
        least = graph.add("Min", graph.add("Cast", codes, to=TensorProto.INT32), graph.constant(np.int32(largest)))
        return graph.add("Cast", least, to=TensorProto.UINT8)

    def _scale(self, point: Point) -> tuple[str, str]:
        zero_point = np.array(point.zero_point, np.uint8)
        return self.graph.constant(point.scale.numpy().reshape(())), self.graph.constant(zero_point)

    def _dequantize(self, codes: str, point: Point) -> str:
        key = codes, "dequantized"
        if key not in self.pairs:
            self.pairs[key] = self.graph.add("DequantizeLinear", codes, *self._scale(point))
        return self.pairs[key]

    def _clip(self, tensor: str, low: float, high: float) -> str:
        bounds = (self.graph.constant(np.array(bound, np.float32)) for bound in (low, high))
        return self.graph.add("Clip", tensor, *bounds)

    def _convolution(self, node, module) -> str:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise UserError(f"{node.target}: padding {module.padding_mode} {module.padding} has no ONNX form here")
        weight, bias = self._weights(node.target)
        inputs = [self._input(node), weight] + ([bias] if bias else [])
        return self.graph.add(
            "Conv",
            *inputs,
            strides=list(module.stride),
            pads=[*module.padding, *module.padding],
            dilations=list(module.dilation),
            group=module.groups,
        )

    def _linear(self, node, module) -> str:
        weight, bias = self._weights(node.target, gemm=True)
        inputs = [self._input(node), weight] + ([bias] if bias else [])
        return self.graph.add("Gemm", *inputs, transB=1)

    def _norm(self, node, module) -> str:
        if node.target in self.folded:
            return self.names[node.args[0]]
        parts = (module.weight, module.bias, module.running_mean, module.running_var)
        constants = (self.graph.constant(part.detach().cpu().numpy()) for part in parts)
        return self.graph.add("BatchNormalization", self._input(node), *constants, epsilon=module.eps)

    def _pool(self, node, module) -> str:
        pair = lambda size: [size, size] if isinstance(size, int) else list(size)  # noqa: E731
        attributes = {"kernel_shape": pair(module.kernel_size), "strides": pair(module.stride)}
        attributes["pads"] = pair(module.padding) * 2
        source, point = self.names[node.args[0]], self._only_point(node)
        if point is None:
            return self.graph.add("MaxPool", source, **attributes)
        # the maximum of codes is the code of the maximum: the layer before can then be an integer one
        return self._value(self.graph.add("MaxPool", self._quantized(source, point), **attributes), point)

    def _value(self, codes: str, point: Point) -> str:
        """Return the float tensor of codes, whose reader gets the codes as they are."""
        name = self._dequantize(codes, point)
        self.pairs[name, point.name] = codes
        return name

    def _only_point(self, node) -> Point | None:
        """Return the one point that all readers of a node read, None if there are none or several."""
        reads = {
            self.points.get(user.target + SECOND * place)
            for user in node.users
            for place, source in enumerate(user.args)
            if source is node and isinstance(user.target, str)
        }
        return reads.pop() if len(reads) == 1 and all(user.op == "call_module" for user in node.users) else None

    def _average(self, node) -> str:
        mean, point = self.graph.add("GlobalAveragePool", self._input(node)), self._only_point(node)
        if point is None:
            return self.graph.add("Flatten", mean)
        # quantized right behind the mean, which a runtime then takes of codes
        return self._value(self.graph.add("Flatten", self._quantized(mean, point)), point)

    def _weights(self, name: str, gemm: bool = False) -> tuple[str, str]:
        """Return the tensors of a layer's weight and of its bias, "" if it has none."""
        folded, bias_codes = self.layers[name]
        graph = self.graph
        bias = "" if folded.bias is None or bias_codes is not None else graph.constant(folded.bias.numpy())
        if folded.codes is None:
            return graph.constant(folded.weight.numpy()), bias
        weight, factor = folded.codes, folded.factor
        codes = self._codes(name, weight, factor)
        step = weight.step.float().numpy() / factor
        if name not in self.points:
            steps = graph.constant(step.reshape(-1, *[1] * (weight.codes.dim() - 1)))
            self.tensors[name] = codes, steps, factor
            return graph.add("Mul", graph.add("Cast", codes, to=FLOAT), steps), bias
        rows = len(weight.codes)
        steps = graph.constant(np.broadcast_to(step, (rows,)) if len(step) == 1 else step)
        self.tensors[name] = codes, steps, factor
        zero = [graph.constant(np.zeros(rows, np.int8))] if gemm else []
        value = graph.add("DequantizeLinear", codes, steps, *zero, axis=0)
        if bias_codes is not None:
            units = graph.add("Mul", steps, self._scale(self.points[name])[0])
            bias = graph.add("DequantizeLinear", graph.constant(bias_codes.numpy()), units, axis=0)
        return value, bias

    def _codes(self, name: str, weight: QuantizedWeight, factor: int) -> str:
        """Return the tensor of ``factor`` times the codes, int8."""
        graph, codes, bits = self.graph, weight.codes.numpy(), weight.storage_bits
        if codes.min(initial=0) < INT8[0] or codes.max(initial=0) > INT8[-1] or bits > 8:
            raise UserError(f"{name}: codes of {bits} bits do not fit int8, expected at most 8 bits")
        if bits == 8:
            return graph.constant((codes * factor).astype(np.int8))
        values = []
        for content, width, shift, offset in planes(codes, weight.low, bits):
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


def graph_of(network: Network, codes: Codes, metadata: dict | None = None, form: str = FLOAT32_NCHW) -> onnx.ModelProto:
    """Return the ONNX model of ``network``, in eval mode and with plain float layers.

    ``codes`` holds the quantized layers and activations. Input ``images``, N, H and W free: ``form`` ``float32_nchw``
    is float32 (N, C, H, W) in [0, 1], ``uint8_nhwc`` uint8 (N, H, W, C) in 0 .. 255; output ``logits`` (N, classes).
    ``metadata`` are plain values by key; ``layers`` is added to them: the tensors of codes and steps of each quantized
    layer, and the factor by which these codes are larger and these steps smaller. Raise UserError, naming the layer,
    for what has no ONNX form here.
    """
    writer = Writer(network, codes)
    graph, arguments = writer.write("images", "logits", form), network.architecture
    channels = arguments["channels"]
    kind, shape = (TensorProto.UINT8, ["H", "W", channels]) if form == UINT8_NHWC else (FLOAT, [channels, "H", "W"])
    images = helper.make_tensor_value_info("images", kind, ["N", *shape])
    logits = helper.make_tensor_value_info("logits", FLOAT, ["N", arguments["classes"]])
    body = helper.make_graph(graph.nodes, "kdq", [images], [logits], graph.initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="kdq")
    texts = {key: json.dumps(value, sort_keys=True) for key, value in (metadata or {}).items()}
    helper.set_model_props(model, texts | ({LAYERS: json.dumps(writer.tensors)} if writer.tensors else {}))
    return model
