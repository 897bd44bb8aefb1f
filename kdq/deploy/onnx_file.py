"""ONNX files: writing one of a model, and reading back what is in it."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from kdq.deploy import exported_graph, onnx_graph
from kdq.deploy.graph_nodes import FLOAT32_NCHW, IR
from kdq.deploy.quantized_tensors import LAYERS
from kdq.errors import UserError, reason
from kdq.models.codes import Codes
from kdq.models.file import ModelFile, to_network
from kdq.models.integer import folded_layers
from kdq.models.network import Network
from kdq.models.random_head import RandomHead
from kdq.models.tracing import folded_norms


def to_onnx(
    file: ModelFile,
    path,
    metadata: dict,
    images: str = FLOAT32_NCHW,
    shape: tuple[int, int, int] | None = None,
) -> onnx.ModelProto:
    """Return the ONNX model of a model file, with ``metadata``, plain values by key.

    Input ``images``, see :func:`kdq.deploy.onnx_graph.graph_of`; output ``logits`` (N, classes). A network that is not
    of this package, or has a random head, is exported for images of ``shape`` (C, H, W). Raise UserError that names
    ``path`` for a network that has no ONNX form here.
    """
    network = to_network(file, path, integer=False)
    try:
        return onnx_of(network, file.codes, metadata, images, shape)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def onnx_of(
    network: nn.Module, codes: Codes, metadata: dict, images: str = FLOAT32_NCHW, shape=None
) -> onnx.ModelProto:
    """Return the ONNX model of a network with plain float layers, as :func:`to_onnx` does that of a file."""
    if _is_written(network):
        return onnx_graph.graph_of(network, codes, metadata, images)
    return exported_graph.graph_of(network, codes, metadata, images, shape=shape)


def _is_written(network: nn.Module) -> bool:
    """Return whether the graph is written node by node, with BatchNorm folded in; else torch's exporter writes it."""
    return isinstance(network, Network) and not isinstance(network.last_layer, RandomHead)


def read(path) -> onnx.ModelProto:
    """Read and check an ONNX file; raise UserError that names it if it is missing, corrupted, no ONNX or newer."""
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
        onnx.checker.check_model(model, full_check=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected an ONNX model") from None
    except Exception as error:  # noqa: BLE001, onnx and protobuf raise errors of many kinds
        raise UserError(f"{path}: not readable as ONNX ({reason(error, 200)})") from None
    for entry in model.opset_import:
        if not entry.domain and entry.version > (newest := onnx.defs.onnx_opset_version()):
            raise UserError(f"{path}: of opset {entry.version}, expected at most {newest}")
    return model


def metadata_of(model: onnx.ModelProto) -> dict:
    """Return the plain values in an ONNX model's metadata."""
    return {entry.key: json.loads(entry.value) for entry in model.metadata_props}


def codes_in(model: onnx.ModelProto) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return codes and steps, float32, of every quantized layer by name, from those that the graph computes.

    There codes are larger by a power of two, and steps smaller.
    """
    found = {}
    for layer, (codes, steps, factor, *transposed) in metadata_of(model).get(LAYERS, {}).items():
        values = _computed(model, codes) / np.float32(factor)
        found[layer] = values.T if transposed else values, _computed(model, steps).ravel() * factor
    return found


def _computed(model: onnx.ModelProto, tensor: str) -> np.ndarray:
    """Return a tensor of the model's graph that depends on initializers alone."""
    graph = model.graph
    initializers = {entry.name: entry for entry in graph.initializer}
    if tensor in initializers:
        return numpy_helper.to_array(initializers[tensor])
    makers = {node.output[0]: node for node in graph.node}
    nodes, constants, open_ = [], {}, [tensor]
    while open_:
        name = open_.pop()
        if name in initializers:
            constants[name] = initializers[name]
        elif makers[name] not in nodes:
            nodes.append(makers[name])
            open_ += makers[name].input
    output = helper.make_tensor_value_info(tensor, onnx.TensorProto.UNDEFINED, None)
    part = helper.make_graph(nodes[::-1], "part", [], [output], list(constants.values()))
    alone = helper.make_model(part, opset_imports=model.opset_import, ir_version=IR)
    return ReferenceEvaluator(alone).run(None, {})[0]


def check_codes(model: onnx.ModelProto, file: ModelFile, path) -> None:
    """Raise UserError unless the codes and steps in the graph are the model file's, with BatchNorm folded in."""
    check_codes_of(model, to_network(file, path, integer=False), file.codes, path)


def check_codes_of(model: onnx.ModelProto, network: nn.Module, codes: Codes, path) -> None:
    """Raise UserError unless the codes and steps in the graph are those of a network with plain float layers."""
    folded = folded_layers(network, codes, folded_norms(network) if _is_written(network) else {})
    actual = codes_in(model)
    if actual.keys() != codes.keys():
        raise UserError(f"{path}: {len(actual)} quantized layers, expected the model's {len(codes)}")
    for layer, (codes, steps) in actual.items():
        expected = folded[layer][0].codes
        if not np.array_equal(codes, expected.codes.numpy()):
            raise UserError(f"{path}: layer {layer}: its codes are not the model's")
        if not np.array_equal(steps, expected.step.expand(len(steps)).numpy()):
            raise UserError(f"{path}: layer {layer}: its steps are not the model's")
