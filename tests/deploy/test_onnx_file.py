"""The ONNX file of a model: its codes, its operators in a runtime, its numbers."""

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from kdq.deploy.onnx_file import check_codes, codes_in, metadata_of, read, to_onnx
from kdq.errors import UserError
from kdq.models.codes import Codes
from kdq.models.file import to_network
from tests.deploy.conftest import images

NETWORKS = ("resnet18", "resnet50", "wrn16-2", "mobilenetv2", "vgg16_bn")


def session(model: onnx.ModelProto, optimized: bool = True, file=None) -> onnxruntime.InferenceSession:
    options, levels = onnxruntime.SessionOptions(), onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    if file:
        options.optimized_model_filepath = str(file)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def logits(model: onnx.ModelProto, batch: torch.Tensor, **options) -> torch.Tensor:
    return torch.from_numpy(session(model, **options).run(None, {"images": (batch.float() / 255).numpy()})[0])


@torch.no_grad()
def expected(file, batch):
    return to_network(file)(batch.float() / 255)


class TestNumbers:
    @pytest.mark.parametrize("architecture", NETWORKS)
    @pytest.mark.parametrize("stem", ["cifar", "imagenet"])
    def test_a_float_network(self, network_of, model_of, architecture, stem):
        file = model_of(architecture, stem=stem)
        file = type(file)(file.header, network_of(architecture, stem=stem).state_dict(), Codes())
        batch = images(5, 32)
        assert torch.allclose(logits(to_onnx(file, "m", {}), batch), expected(file, batch), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("architecture", NETWORKS)
    @pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
    def test_quantized_weights_alone(self, model_of, architecture, bits):
        file, batch = model_of(architecture, bits), images(3)
        assert torch.allclose(logits(to_onnx(file, "m", {}), batch), expected(file, batch), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("architecture", NETWORKS)
    @pytest.mark.parametrize("activations", [4, 8])
    @pytest.mark.parametrize("stem", ["cifar", "imagenet"])
    def test_quantized_activations_without_optimizer(self, model_of, architecture, activations, stem):
        """Sums are rounded in another order; where one lies between two codes, the codes differ by 1."""
        file, batch = model_of(architecture, 3, activations=activations, stem=stem), images(8, 32)
        actual, ours = logits(to_onnx(file, "m", {}), batch, optimized=False), expected(file, batch)
        assert (actual - ours).norm() < 0.02 * ours.norm()

    def test_quantized_activations_with_the_optimizer(self, model_of):
        file, batch = model_of(bits=3, activations=8), images(64)
        model = to_onnx(file, "m", {})
        optimized, plain = logits(model, batch), logits(model, batch, optimized=False)
        assert (optimized - plain).norm() < 0.05 * plain.norm()

    def test_the_batch_is_free(self, model_of):
        model, batch = to_onnx(model_of(activations=8), "m", {}), images(5)
        whole = logits(model, batch)
        assert torch.equal(torch.cat([logits(model, part) for part in batch.split(1)]), whole)


class TestOperators:
    @pytest.mark.parametrize(("architecture", "additions"), [("resnet18", 8), ("resnet50", 16)])
    @pytest.mark.parametrize("bits", [2, 3, 8])
    @pytest.mark.parametrize("activations", [4, 8])
    def test_convolutions_and_additions_are_integer_ones(
        self, model_of, architecture, additions, bits, activations, tmp_path
    ):
        file = model_of(architecture, bits, activations=activations)
        session(to_onnx(file, "m", {}), file=tmp_path / "optimized.onnx")
        kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
        assert kinds["QLinearConv"] == len(file.codes) - 1 and kinds["QLinearAdd"] == additions and kinds["QGemm"] == 1
        assert kinds["QLinearGlobalAveragePool"] == 1
        assert not kinds.keys() & {"Conv", "FusedConv", "Add", "Gemm", "MatMul", "Gather", "Relu", "GlobalAveragePool"}

    def test_with_the_stem_of_imagenet(self, model_of, tmp_path):
        """The pooling behind the first convolution takes the maximum of codes."""
        session(to_onnx(model_of(stem="imagenet", activations=8), "m", {}), file=tmp_path / "optimized.onnx")
        kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
        assert kinds["QLinearConv"] == 20 and kinds["NhwcMaxPool"] + kinds["MaxPool"] == 1 and "Conv" not in kinds

    def test_quantized_weights_alone_are_decoded_once(self, model_of, tmp_path):
        session(to_onnx(model_of(bits=3), "m", {}), file=tmp_path / "optimized.onnx")
        kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
        assert not kinds.keys() & {"Gather", "DequantizeLinear", "Cast"}


class TestCodes:
    @pytest.mark.parametrize("activations", [0, 8])
    @pytest.mark.parametrize("levels", ["2^b", "2^b-1", "paper"])
    @pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
    def test_are_read_back_with_onnx_alone(self, model_of, bits, levels, activations, tmp_path):
        file = model_of(bits=bits, levels=levels, activations=activations)
        if (bits, levels) == (8, "paper"):
            with pytest.raises(UserError, match="codes of 9 bits do not fit int8"):
                to_onnx(file, "m", {})
            return
        onnx.save(to_onnx(file, "m", {}), tmp_path / "model.onnx")
        codes = codes_in(read(tmp_path / "model.onnx"))
        assert codes.keys() == file.codes.keys()
        for layer, weight in file.codes.items():
            kept = torch.from_numpy(codes[layer][0]).flatten(1).any(1)
            assert torch.equal(torch.from_numpy(codes[layer][0]).short()[kept], weight.codes[kept])
            assert (~kept).sum() <= 1  # the output of gain 0
            assert np.array_equal(codes[layer][0], codes[layer][0].round())

    def test_steps_may_be_negative(self, model_of):
        file = model_of(activations=8)
        codes = codes_in(to_onnx(file, "m", {}))
        assert sum((steps < 0).sum() for _, steps in codes.values()) > 20

    def test_a_number_of_codes_that_fills_no_byte(self, model_of):
        file = model_of(bits=3, activations=8, width=0.03)
        assert any(weight.codes.numel() % 8 for weight in file.codes.values())
        check_codes(to_onnx(file, "m", {}), file, "m")

    @pytest.mark.parametrize("activations", [0, 8])
    def test_a_changed_code_and_a_changed_step_are_noticed(self, model_of, activations):
        file = model_of(bits=4, activations=activations)
        for kind, message in (("codes", "its codes are not"), ("steps", "its steps are not")):
            model = to_onnx(file, "m", {})
            check_codes(model, file, "m")
            name = metadata_of(model)["layers"]["layer1.0.conv1"][kind == "steps"]
            makers = {node.output[0]: node for node in model.graph.node}
            while name in makers:  # from the codes back to the packed bytes
                name = makers[name].input[1 if makers[name].op_type == "Gather" else 0]
            tensor = next(entry for entry in model.graph.initializer if entry.name == name)
            content = numpy_helper.to_array(tensor).copy()
            content.flat[7] = content.flat[7] ^ 1 if content.dtype == np.uint8 else content.flat[7] * 1.001
            tensor.CopyFrom(numpy_helper.from_array(content, name))
            with pytest.raises(UserError, match=f"m: layer layer1.0.conv1: {message}"):
                check_codes(model, file, "m")


class TestSize:
    @pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
    @pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
    def test_is_that_of_the_bits(self, model_of, architecture, bits):
        file = model_of(architecture, bits, width=1.0, activations=8)
        size = to_onnx(file, "m", {"recipe": "teacher/kd/gpfq,bits=4,activations=8"}).ByteSize()
        assert size <= 1.05 * sum(weight.codes.numel() for weight in file.codes.values()) * bits / 8


def test_a_fresh_process_with_a_runtime_alone_classifies(model_of, tmp_path):
    file = model_of(bits=2, activations=8)
    onnx.save(to_onnx(file, "m", {"classes": list("abcdefg")}), tmp_path / "model.onnx")
    program = (
        "import sys, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession('model.onnx', providers=['CPUExecutionProvider'])\n"
        "logits, = session.run(None, {'images': numpy.ones((2, 3, 16, 16), numpy.float32)})\n"
        "assert not {'torch', 'kdq', 'onnx'} & set(sys.modules)\n"
        "print(logits.argmax(1).tolist(), session.get_modelmeta().custom_metadata_map['classes'])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = expected(file, torch.full((2, 3, 16, 16), 255)).argmax(1).tolist()
    assert result.stdout == f'{ours} ["a", "b", "c", "d", "e", "f", "g"]\n'


class TestRefusals:
    @pytest.mark.parametrize(
        "damage",
        [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"<html>" + content],
        ids=["truncated", "empty", "html"],
    )
    def test_a_damaged_file(self, model_of, damage, tmp_path):
        path = tmp_path / "model.onnx"
        path.write_bytes(damage(to_onnx(model_of(), "m", {}).SerializeToString()))
        with pytest.raises(UserError, match=r"model\.onnx: not readable as ONNX"):
            read(path)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(UserError, match=r"model\.onnx: no such file"):
            read(tmp_path / "model.onnx")
