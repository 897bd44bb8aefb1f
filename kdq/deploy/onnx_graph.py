"""The ONNX graph of a network of this package: float, with quantized weights, or with quantized activations too.

BatchNorm is folded in; residual additions and poolings of quantized activations become integer operators.
"""

from collections.abc import Callable

import numpy as np
import onnx
import torch
from torch import nn

from kdq.deploy.graph_nodes import FLOAT32_NCHW, Graph
from kdq.deploy.quantized_tensors import QuantizedTensors
from kdq.errors import UserError
from kdq.models.activations import SECOND
from kdq.models.codes import Codes, Point
from kdq.models.integer import folded_layers
from kdq.models.network import Network
from kdq.models.operations import Add, GlobalAverage
from kdq.models.tracing import norms_behind, trace

OPSET = 17


class Writer:
    """Writes the graph of one network; see :func:`graph_of`."""

    def __init__(self, network: nn.Module, codes: Codes):
        self.network, self.graph = network, Graph()
        self.trace = trace(network)
        norms = norms_behind(network, self.trace)
        self.folded = set(norms.values())
        self.tensors = QuantizedTensors(self.graph, folded_layers(network, codes, norms), codes.points)
        self.names: dict[torch.fx.Node, str] = {}  # float tensors
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

    def write(self, images: str) -> Graph:
        for node in self.trace.nodes:
            if node.op == "placeholder":
                self.names[node] = images if not self.names else ""
            elif node.op == "get_attr":
                value = self.network.get_buffer(node.target).detach().cpu().numpy()
                self.names[node] = self.graph.constant(value)
            elif node.op == "output":
                self.graph.nodes[-1].output[0] = "logits"
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
        return self.tensors.read_by(node.target + SECOND * place, self.names[node.args[place]])

    def _clip(self, tensor: str, low: float, high: float) -> str:
        bounds = (self.graph.constant(np.array(bound, np.float32)) for bound in (low, high))
        return self.graph.add("Clip", tensor, *bounds)

    def _convolution(self, node, module) -> str:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise UserError(f"{node.target}: padding {module.padding_mode} {module.padding} has no ONNX form here")
        integer = node.target in self.tensors.points
        return self.graph.add(
            "Conv",
            self._input(node),
            self.tensors.weight(node.target, integer),
            *self.tensors.bias(node.target, integer),
            strides=list(module.stride),
            pads=[*module.padding, *module.padding],
            dilations=list(module.dilation),
            group=module.groups,
        )

    def _linear(self, node, module) -> str:
        integer = node.target in self.tensors.points
        weight = self.tensors.weight(node.target, integer, zero_point=True)
        return self.graph.add("Gemm", self._input(node), weight, *self.tensors.bias(node.target, integer), transB=1)

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
        attributes |= {"ceil_mode": 1} if module.ceil_mode else {}
        source, point = self.names[node.args[0]], self._only_point(node)
        if point is None:
            return self.graph.add("MaxPool", source, **attributes)
        # the maximum of codes is the code of the maximum: the layer before can then be an integer one
        return self.tensors.value(self.graph.add("MaxPool", self.tensors.quantized(source, point), **attributes), point)

    def _only_point(self, node) -> Point | None:
        """Return the one point that all readers of a node read, None if there are none or several."""
        reads = {
            self.tensors.points.get(user.target + SECOND * place)
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
        return self.tensors.value(self.graph.add("Flatten", self.tensors.quantized(mean, point)), point)


def graph_of(network: Network, codes: Codes, metadata: dict | None = None, form: str = FLOAT32_NCHW) -> onnx.ModelProto:
    """Return the ONNX model of ``network``, in eval mode and with plain float layers.

    ``codes`` holds the quantized layers and activations. Input ``images``, N, H and W free: ``form`` ``float32_nchw``
    is float32 (N, C, H, W) in [0, 1], ``uint8_nhwc`` uint8 (N, H, W, C) in 0 .. 255; output ``logits`` (N, classes).
    ``metadata`` are plain values by key; ``layers`` is added to them: the tensors of codes and steps of each quantized
    layer, and the factor by which these codes are larger and these steps smaller. Raise UserError, naming the layer,
    for what has no ONNX form here.
    """
    writer, arguments = Writer(network, codes), network.architecture
    graph = writer.write(writer.graph.images(form))
    shape = arguments["channels"], "H", "W"
    return graph.model(OPSET, form, shape, (arguments["classes"],), (metadata or {}) | writer.tensors.metadata())
