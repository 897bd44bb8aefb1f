"""The nodes and initializers of an ONNX graph that is written, and the model around them."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR = 8  # with opsets 17 and 18: read by ONNX Runtime from 1.14 on
FLOAT = TensorProto.FLOAT
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
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

    def copy(self, node: onnx.NodeProto, inputs: list[str], outputs: list[str]) -> None:
        """Add a node as another one is, with its own inputs and outputs."""
        copied = helper.make_node(node.op_type, inputs, outputs)
        copied.attribute.extend(node.attribute)
        self.nodes.append(copied)

    def rename(self, name: str, new: str) -> None:
        """Rename a tensor that a node makes."""
        for node in self.nodes:
            for tensors in (node.input, node.output):
                tensors[:] = [new if tensor == name else tensor for tensor in tensors]

    def images(self, form: str) -> str:
        """Return the tensor of images, float32 (N, C, H, W) in [0, 1], given the input ``images``."""
        if form == FLOAT32_NCHW:
            return "images"
        nchw = self.add("Transpose", self.add("Cast", "images", to=FLOAT), perm=[0, 3, 1, 2])
        return self.add("Mul", nchw, self.constant(np.array(1 / 255, np.float32)))

    def model(self, opset: int, form: str, shape: tuple, output: tuple, metadata: dict) -> onnx.ModelProto:
        """Return the model: input ``images``, ``shape`` (C, H, W), output ``logits`` (N, *output), as numbers or names.

        ``metadata`` are plain values by key.
        """
        channels, *sides = shape
        kind, shape = (TensorProto.UINT8, [*sides, channels]) if form == UINT8_NHWC else (FLOAT, [channels, *sides])
        images = helper.make_tensor_value_info("images", kind, ["N", *shape])
        logits = helper.make_tensor_value_info("logits", FLOAT, ["N", *output])
        body = helper.make_graph(self.nodes, "kdq", [images], [logits], self.initializers)
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(body, opset_imports=opsets, ir_version=IR, producer_name="kdq")
        helper.set_model_props(model, {key: json.dumps(value, sort_keys=True) for key, value in metadata.items()})
        return model
