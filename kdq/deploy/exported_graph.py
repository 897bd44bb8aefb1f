"""The ONNX graph of a network of any library: the one that torch's exporter writes, with its quantized layers replaced.

The network's tensors are inputs of the exported graph, so that the exporter neither folds nor renames them: a quantized
layer is the node that reads its weight. The rest of the graph is copied as it is.
"""

import logging
import warnings
from collections.abc import Sequence

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from kdq.deploy.graph_nodes import FLOAT32_NCHW, Graph
from kdq.deploy.quantized_tensors import QuantizedTensors
from kdq.errors import UserError, reason
from kdq.models.activations import OUTPUT, is_output
from kdq.models.codes import Codes
from kdq.models.integer import folded_layers
from kdq.models.logits import logits_of

OPSET = 18  # the exporter's
WEIGHT = ".weight"


class _OfTensors(nn.Module):
    """A network as a function of images and of its tensors called ``names``."""

    def __init__(self, network: nn.Module, names: Sequence[str]):
        super().__init__()
        self.network, self.names = [network], names  # in a list: no submodule, whose tensors would be constants

    def forward(self, images: Tensor, tensors: list[Tensor]) -> Tensor:
        given = dict(zip(self.names, tensors, strict=True))
        return logits_of(torch.func.functional_call(self.network[0], given, (images,)))


def exported(network: nn.Module, tensors: dict[str, Tensor], shape: tuple[int, int, int]) -> onnx.ModelProto:
    """Return the graph that torch's exporter writes: inputs ``images`` (N, *shape) and ``tensors``; output ``logits``.

    Raise UserError if it can't.
    """
    names, values = list(tensors), list(tensors.values())
    sizes = {0: torch.export.Dim.DYNAMIC}, [None] * len(names)
    program = None
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _OfTensors(network, names),
                (torch.zeros(2, *shape), values),
                input_names=["images", *names],
                output_names=["logits"],
                dynamic_shapes=sizes,
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:  # noqa: BLE001, it runs code of any kind
        cause = reason(error.__cause__ or error, 300)
        raise UserError(f"torch's exporter gives no ONNX graph of {type(network).__name__} ({cause})") from None
    finally:
        logging.disable(logging.NOTSET)
    return program.model_proto


class Rewriter:
    """Copies an exported graph with quantized layers and activations; see :func:`graph_of`."""

    def __init__(self, network: nn.Module, codes: Codes, shape: tuple[int, int, int]):
        tensors = network.state_dict().items()
        self.state = {name: value.detach().cpu() for name, value in tensors if value.is_floating_point()}
        self.source, self.graph, self.codes = exported(network, self.state, shape).graph, Graph(), codes
        self.makers = {tensor: node for node in self.source.node for tensor in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.source.node:
            for tensor in node.input:
                self.readers.setdefault(tensor, []).append(node)
        self.integer = {reader for point in codes.points for reader in point.readers}
        if foreign := {reader for reader in self.integer if not is_output(reader)} - codes.keys():
            raise UserError(
                f"{min(foreign)}: a quantized activation that no quantized layer reads has no ONNX form here"
            )
        self.tensors = QuantizedTensors(self.graph, folded_layers(network, codes, {}), codes.points)
        self.constants = {entry.name: entry for entry in self.source.initializer}
        self.names = {"": ""}  # of tensors, by their names in the exported graph
        layers = [(node.input[0], layer) for node in self.source.node if (layer := self._layer_of(node))]
        points = [(tensor, self.tensors.points[layer]) for tensor, layer in layers]
        self.quantized = {tensor: point for tensor, point in points if any(map(is_output, point.readers))}

    def write(self, images: str) -> Graph:
        self.names["images"] = images
        for node in self.source.node:
            self._node(node)
        if missing := [layer for layer in self.codes if layer not in self.tensors.names]:
            raise UserError(f"{missing[0]}: no node of the exported graph reads its weight")
        self.graph.rename(self.names["logits"], "logits")
        return self.graph

    def _node(self, node: onnx.NodeProto) -> None:
        if node.domain or any(attribute.HasField("g") for attribute in node.attribute):
            raise UserError(f"the operation {node.domain} {node.op_type} of the exported graph has no ONNX form here")
        if layer := self._layer_of(node):
            self._layer(node, layer)
        elif not self._transposes(node):
            self._copy(node)

    def _copy(self, node: onnx.NodeProto) -> None:
        weights = {name.removesuffix(WEIGHT) for name in node.input if name.endswith(WEIGHT)} & self.integer
        if weights:
            raise UserError(f"{min(weights)}: its weight is read by {node.op_type}, expected the layer's product alone")
        outputs = [self.graph.name() if name else "" for name in node.output]
        self.graph.copy(node, [self._read(name) for name in node.input], outputs)
        self.names.update(zip(node.output, outputs, strict=True))

    def _transposes(self, node: onnx.NodeProto) -> str:
        """Return the layer with integer inputs whose weight a node transposes for the layer's own product, else ""."""
        layer = node.input[0].removesuffix(WEIGHT) if node.op_type == "Transpose" else ""
        readers = self.readers.get(node.output[0], ())
        products = all(reader.op_type == "MatMul" and reader.input[1] == node.output[0] for reader in readers)
        return layer if layer in self.integer and products else ""

    def _layer_of(self, node: onnx.NodeProto) -> str:
        """Return the layer with integer inputs that a node computes, "" if there is none."""
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            return ""
        if node.op_type == "MatMul":
            return self._transposes(maker) if (maker := self.makers.get(node.input[1])) else ""
        return layer if (layer := node.input[1].removesuffix(WEIGHT)) in self.integer else ""

    def _layer(self, node: onnx.NodeProto, layer: str) -> None:
        """Add a layer whose inputs are quantized.

        Its weight is integer codes even if it computes in float: floats between quantized tensors would be rounded to
        int8 by the optimizer of ONNX Runtime.
        """
        is_product = node.op_type == "MatMul"
        weight = self.tensors.weight(layer, True, zero_point=node.op_type != "Conv", transposed=is_product)
        inputs = [self.tensors.read_by(layer, self._tensor(node.input[0])), weight]
        if not is_product:
            inputs += self.tensors.bias(layer, integer=True)
        output = self.graph.name()
        self.graph.copy(node, inputs, [output])
        self.names[node.output[0]] = self.tensors.read_by(layer + OUTPUT, output)

    def _read(self, name: str) -> str:
        """Return the tensor with a name in the exported graph, its codes' values if a module gives it as a point."""
        tensor, point = self._tensor(name), self.quantized.get(name)
        return tensor if point is None else self.tensors.read_by(point.name, tensor)

    def _tensor(self, name: str) -> str:
        """Return the tensor with a name in the exported graph."""
        if name not in self.names:
            self.names[name] = self._constant(name)
        return self.names[name]

    def _constant(self, name: str) -> str:
        if name in self.constants:
            return self.graph.constant(numpy_helper.to_array(self.constants[name]))
        layer, _, part = name.rpartition(".")
        if layer in self.codes and part == "weight":
            return self.tensors.weight(layer, integer=False)
        if layer in self.codes and part == "bias":
            return self.tensors.bias(layer, integer=False)[0]
        return self.graph.constant(self.state[name].numpy())


def graph_of(
    network: nn.Module,
    codes: Codes,
    metadata: dict,
    form: str = FLOAT32_NCHW,
    *,
    shape: tuple[int, int, int],
) -> onnx.ModelProto:
    """Return the ONNX model of a ``network`` in eval mode, with plain float layers, for images of ``shape`` (C, H, W).

    All else is as :func:`kdq.deploy.onnx_graph.graph_of` says. The inputs of quantized layers alone are quantized;
    matrix products of these are integer ones, and convolutions whose output is quantized next. BatchNorm is not folded:
    its bias would be rounded to the int32 codes of an integer convolution, which the network itself does not do.
    """
    rewriter = Rewriter(network, codes, shape)
    graph = rewriter.write(rewriter.graph.images(form))
    _, *sizes = rewriter.source.output[0].type.tensor_type.shape.dim
    output = tuple(size.dim_value or size.dim_param for size in sizes)
    return graph.model(OPSET, form, shape, output, metadata | rewriter.tensors.metadata())
