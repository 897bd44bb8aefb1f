"""ONNX files of networks that are not of this package: their codes, their operators in a runtime, their numbers."""

from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import transformers
from onnx import numpy_helper
from torch import nn

from kdq.data.prepared import Prepared, Split
from kdq.deploy import export, exported_graph, hub_configs
from kdq.deploy.graph_nodes import FLOAT32_NCHW, UINT8_NHWC
from kdq.deploy.onnx_file import check_codes, codes_in, metadata_of, read, to_onnx
from kdq.errors import UserError
from kdq.models import registry
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.file import ModelFile, to_network
from kdq.models.integer import to_integer
from kdq.models.plain_layers import described
from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from kdq.roots.sources import huggingface
from tests.deploy.test_onnx_file import logits
from tests.models.classifiers import images, lively, torchvision_classifier, transformers_classifier

CLASSES = ["airplane", "automobile", "bird", "cat"]
CELL = {"dataset": "cifar10", "seed": 0, "recipe": "teacher/gpfq", "keys": {"bits": 4}, "provenance": {"code": "c"}}
KEYS = {"source": "transformers", "file": "", "sha256": "", "labels": "names"}
STATISTICS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}
SIDE = 20  # of the data set's images
KINDS = [(2, 0), (4, 0), (8, 0), (2, 8), (4, 8), (8, 8), (4, 4)]  # bits of weights and of activations


def vit(folder):
    """Save a vision transformer for images of 16 x 16, to which its processor resizes."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(
        image_size=16, patch_size=4, initializer_range=0.3, id2label=dict(enumerate(CLASSES)), **sizes
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}, **STATISTICS).save_pretrained(folder)


def resnet(folder):
    """Save a ResNet whose BatchNorm is not the identity; some gains are negative, one is 0."""
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32],
        depths=[1, 2],
        layer_type="bottleneck",
        id2label=dict(enumerate(CLASSES)),
    )
    network = transformers.ResNetForImageClassification(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -0.25, 1)
            nn.init.normal_(module.bias, std=0.5)
            module.weight.data[0] = 0
    lively(network, torch.rand(8, 3, 32, 32))
    network.save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, **STATISTICS).save_pretrained(folder)


SAVED = {"vit": vit, "resnet": resnet}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    part = Split(images(SIDE, 16), torch.arange(16) % 4)
    return Prepared(part, part, part, CLASSES, [0.5] * 3, [0.5] * 3, "cifar10", {}, 0)


@pytest.fixture(scope="module")
def root(prepared, tmp_path_factory):
    @cache
    def root(name: str) -> tuple[nn.Module, dict]:
        """Return the network of a root of source=transformers and its architecture."""
        torch.manual_seed(3)
        folder = tmp_path_factory.mktemp(name)
        SAVED[name](folder)
        return huggingface.load(prepared, {**KEYS, "folder": str(folder)}, log=lambda line: None)[:2]

    return root


@pytest.fixture(scope="module")
def made(root, prepared):
    @cache
    def made(name: str, bits: int = 4, activations: int = 0, method: str = "rtn") -> ModelFile:
        """Return the content of the model file of a quantized root."""
        network, architecture = root(name)
        network = huggingface.Pretrained(
            network.network, **architecture["preprocessing"]
        ).eval()  # quantize is in place
        saved = {key: value.clone() for key, value in network.state_dict().items()}
        keys = {"bits": bits, "activations": activations, "scale": "mse"}
        quantizer = quantizer_of(f"kdq.quantize.methods.{method}", keys, 0)
        codes = quantize(network, prepared.train.images, quantizer, log=lambda line: None)
        file = file_of(network, architecture, codes)
        network.load_state_dict(saved)
        return file

    return made


def file_of(network: nn.Module, architecture: dict, codes: Codes) -> ModelFile:
    floats = {
        name: value.clone() for name, value in network.state_dict().items() if name.removesuffix(".weight") not in codes
    }
    return ModelFile({"architecture": described(architecture, network), "layers": {}, **CELL}, floats, codes)


@pytest.fixture(autouse=True, scope="module")
def exported_once():
    """Let the exporter run once per network: weights are inputs of its graph, which is the same for all of them."""
    exporter, graphs = exported_graph.exported, {}

    def exported(network, tensors, shape):
        key = type(network), type(getattr(network, "network", None)), tuple(map(tuple, map(np.shape, tensors.values())))
        if key not in graphs:
            graphs[key] = exporter(network, tensors, shape)
        return graphs[key]

    exported_graph.exported = exported
    yield
    exported_graph.exported = exporter


def onnx_of(file: ModelFile, form=FLOAT32_NCHW) -> onnx.ModelProto:
    return to_onnx(file, "m", {}, form, (3, SIDE, SIDE))


@torch.no_grad()
def expected(file: ModelFile, batch: torch.Tensor) -> torch.Tensor:
    return to_network(file)(batch.float() / 255)


def operators(model: onnx.ModelProto, folder) -> Counter:
    """Return the operators of the graph that ONNX Runtime computes."""
    logits(model, images(SIDE, 1), file=folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("name", SAVED)
class TestNumbers:
    @pytest.mark.parametrize("optimized", [True, False])
    def test_of_a_float_network(self, root, name, optimized):
        file, batch = file_of(*root(name), Codes()), images(SIDE)
        actual, ours = logits(onnx_of(file), batch, optimized=optimized), expected(file, batch)
        assert torch.allclose(actual, ours, rtol=1e-4, atol=1e-5) and ours.std(0).min() > 0.01

    @pytest.mark.parametrize("optimized", [True, False])
    @pytest.mark.parametrize(("bits", "activations"), KINDS)
    def test_of_a_quantized_one(self, made, name, bits, activations, optimized):
        """Sums are rounded in another order; where one lies between two codes of an activation, these differ by 1."""
        file, batch = made(name, bits, activations), images(SIDE)
        actual, ours = logits(onnx_of(file), batch, optimized=optimized), expected(file, batch)
        assert (actual - ours).norm() < (0.01 if activations else 1e-5) * ours.norm()

    def test_the_batch_is_free(self, made, name):
        model, batch = onnx_of(made(name, 4, 8)), images(SIDE, 5)
        whole = logits(model, batch)
        assert torch.allclose(torch.cat([logits(model, part) for part in batch.split(1)]), whole, atol=1e-5)

    def test_of_images_as_cameras_give_them(self, made, name, prepared, tmp_path):
        file = made(name)
        export.export(file, "m", tmp_path / "model.onnx", prepared, "d", UINT8_NHWC)
        actual = export.run(tmp_path / "model.onnx", images(SIDE))
        assert torch.allclose(actual, expected(file, images(SIDE)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SAVED)
class TestCodes:
    @pytest.mark.parametrize("method", ["rtn", "gpfq"])
    @pytest.mark.parametrize(("bits", "activations"), KINDS)
    def test_are_read_back_with_onnx_alone(self, made, name, bits, activations, method, tmp_path):
        file = made(name, bits, activations, method)
        onnx.save(onnx_of(file), tmp_path / "model.onnx")
        model = read(tmp_path / "model.onnx")
        actual = codes_in(model)
        assert actual.keys() == file.codes.keys() and len(actual) > 8
        for layer, weight in file.codes.items():
            codes, steps = (torch.from_numpy(array.copy()) for array in actual[layer])
            assert torch.equal(codes.short(), weight.codes)
            assert torch.equal(steps, weight.step.expand(len(steps)))

    @pytest.mark.parametrize("activations", [0, 8])
    def test_a_changed_one_is_noticed(self, made, name, activations):
        file = made(name, 4, activations)
        model, layer = onnx_of(file), list(file.codes)[3]
        check_codes(model, file, "m")
        tensor, makers = metadata_of(model)["layers"][layer][0], {node.output[0]: node for node in model.graph.node}
        while tensor in makers:  # from the codes back to the packed bytes
            tensor = makers[tensor].input[makers[tensor].op_type == "Gather"]
        entry = next(entry for entry in model.graph.initializer if entry.name == tensor)
        content = numpy_helper.to_array(entry).copy()
        content.flat[-1] ^= 1
        entry.CopyFrom(numpy_helper.from_array(content, tensor))
        with pytest.raises(UserError, match=f"m: layer {layer}: its codes are not the model's"):
            check_codes(model, file, "m")


class Plain(nn.Module):
    """Convolutions without BatchNorm."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Linear(196, 3)

    def forward(self, images):
        return self.c(self.b(F.max_pool2d(self.a(images).relu(), 2)).flatten(1))


class TestOperators:
    """What ONNX Runtime makes of the graph."""

    @pytest.mark.parametrize("bits", [2, 3, 8])
    @pytest.mark.parametrize("activations", [4, 8])
    def test_linear_layers_are_integer_ones(self, made, bits, activations, tmp_path):
        """Left in float are the products of attention, of queries and keys and of these and values."""
        kinds = operators(onnx_of(made("vit", bits, activations)), tmp_path)
        assert kinds["MatMulIntegerToFloat"] == 12 and kinds["QGemm"] == 1
        assert kinds["MatMul"] + kinds["FusedMatMul"] == 4 and not kinds.keys() & {"Gemm", "MatMulInteger"}

    def test_convolutions_are_integer_ones_if_their_output_is_quantized(self, tmp_path):
        """Behind a ReLU and a pooling, and flattened."""
        torch.manual_seed(0)
        network = Plain()
        pictures = images(SIDE)
        quantizer = quantizer_of("kdq.quantize.methods.rtn", {"bits": 4, "activations": 8}, 0)
        codes = quantize(network.eval(), pictures, quantizer, log=lambda line: None)
        model = exported_graph.graph_of(network, codes, {}, shape=(3, SIDE, SIDE))
        kinds = operators(model, tmp_path)
        assert kinds["QLinearConv"] == 2 and kinds["QGemm"] == 1
        assert not kinds.keys() & {"Conv", "FusedConv", "Gemm", "Relu"}
        with torch.no_grad():
            ours = to_integer(network, codes)(pictures.float() / 255)
        for optimized in (True, False):
            assert (logits(model, pictures, optimized=optimized) - ours).norm() < 0.01 * ours.norm()

    def test_other_convolutions_compute_in_float(self, made, tmp_path):
        """With BatchNorm behind them: ONNX Runtime would fold it into float weights and then round these to int8."""
        kinds = operators(onnx_of(made("resnet", 4, 8)), tmp_path)
        assert kinds["Conv"] + kinds["FusedConv"] == len(made("resnet", 4, 8).codes) - 1 and kinds["QGemm"] == 1
        assert kinds["BatchNormalization"] == kinds["Conv"] and "Gemm" not in kinds

    @pytest.mark.parametrize("name", SAVED)
    def test_quantized_weights_alone_are_decoded_once(self, made, name, tmp_path):
        kinds = operators(onnx_of(made(name, 3)), tmp_path)
        assert not kinds.keys() & {"DequantizeLinear", "QuantizeLinear", "Cast", "BatchNormalization"}


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("activations", [0, 8])
def test_the_file_is_as_small_as_its_tensors(bits, activations):
    side, sizes = 32, {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    config = {"model_type": "vit", "num_labels": 5, "image_size": side, "patch_size": 8, **sizes}
    seen_as = {"size": [side, side], "resample": "bilinear", "crop": [side, side], "mean": [0.5] * 3, "std": [0.25] * 3}
    architecture = {"architecture": "transformers", "config": config, "preprocessing": seen_as}
    network, codes, points = registry.build(**architecture).eval(), Codes(), []
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            values = torch.randint(low, high, module.weight.shape, dtype=torch.int16)
            codes[name] = QuantizedWeight(values, torch.rand(len(values)) / high, low, high - 1, bits)
            points.append(Point((name,), 8, torch.tensor(0.1), 128))
    codes.points = tuple(points) if activations else ()
    file = file_of(network, architecture, codes)
    size = to_onnx(file, "m", {}, shape=(3, side, side)).ByteSize()
    packed = sum(weight.codes.numel() for weight in codes.values()) * bits / 8
    assert size <= 1.05 * packed + 4 * sum(value.numel() for value in file.floats.values())


def test_metadata_are_those_of_every_file(made, prepared, tmp_path):
    file = made("vit", 4, 8)
    export.export(file, "model.safetensors", tmp_path / "model.onnx", prepared, "d1gest")
    model = read(tmp_path / "model.onnx")
    metadata = metadata_of(model)
    assert metadata["recipe"] == "teacher/gpfq" and metadata["classes"] == CLASSES and metadata["keys"] == {"bits": 4}
    assert metadata["provenance"] == {"code": "c"} and metadata["model_sha256"] == "d1gest"
    assert [entry.name for entry in (*model.graph.input, *model.graph.output)] == ["images", "logits"]
    dimensions = [
        [size.dim_param or size.dim_value for size in entry.type.tensor_type.shape.dim]
        for entry in (*model.graph.input, *model.graph.output)
    ]
    assert dimensions == [["N", 3, SIDE, SIDE], ["N", 4]]
    assert {entry.domain for entry in model.opset_import} == {""} and not model.functions
    predicted = expected(file, prepared.test.images).argmax(1).to(torch.int16)
    assert export.score(tmp_path / "model.onnx", prepared.test, predicted)["agreement"] == 1


def test_a_folder_to_give_away_tells_of_the_normalisation(root, prepared):
    content = hub_configs.preprocessor(file_of(*root("vit"), Codes()), prepared)
    assert content["image_mean"] == pytest.approx(STATISTICS["image_mean"])
    assert content["image_std"] == pytest.approx(STATISTICS["image_std"]) and not content["do_normalize"]


def test_a_random_head_has_an_onnx_form(network_of):
    layers = [{"mean": 0.1}, {"mean": 0.2, "levels": [0.0, 0.5, 1.0], "thresholds": [-0.1, 0.2]}]
    network = network_of(head={"widths": [16, 16], "activations": layers})
    file = file_of(network, network.architecture, Codes())
    actual = logits(onnx_of(file), images(SIDE))
    assert torch.allclose(actual, expected(file, images(SIDE)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("activations", [0, 8])
class TestOtherNetworks:
    """Windows, gates, sigmoids, depthwise convolutions, standardized weights, dense blocks, packed attention."""

    @pytest.mark.parametrize("name", ["swin", "swinv2", "bit", "convnext", "levit", "mobilevit", "mobilenet_v2"])
    def test_of_transformers(self, name, activations):
        network, _, pictures = transformers_classifier(name)
        self.check(network, pictures, activations)

    @pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
    def test_of_torchvision(self, name, activations):
        self.check(*torchvision_classifier(name), activations)

    def check(self, network, pictures, activations):
        quantizer = quantizer_of("kdq.quantize.methods.rtn", {"bits": 4, "activations": activations}, 0)
        codes = quantize(network, pictures, quantizer, log=lambda line: None)
        model = exported_graph.graph_of(network, codes, {}, shape=tuple(pictures.shape[1:]))
        onnx.checker.check_model(model, full_check=True)
        ours = to_integer(network, codes) if activations else network
        with torch.no_grad():
            ours = ours(pictures.float() / 255)
        for optimized in (True, False):
            actual = logits(model, pictures, optimized=optimized)
            assert (actual - ours).norm() < (0.05 if activations else 1e-4) * ours.norm()


class Branching(nn.Module):
    """A network whose path depends on the image."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, images):
        x = images.mean(3).flatten(1)
        return self.a(x) if x.sum() > 0 else self.b(x)


class Twice(nn.Module):
    """A network that reads a weight otherwise than a layer does."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, images):
        x = self.a(images.mean(3).flatten(1))
        return x @ self.a.weight.relu()


class TestRefusals:
    """Each in one line."""

    def quantized(self, layer: str) -> Codes:
        codes = Codes({layer: QuantizedWeight(torch.ones(4, 4, dtype=torch.int16), torch.ones(4), -8, 7, 4)})
        codes.points = (Point((layer,), 8, torch.tensor(0.1), 128),)
        return codes

    def test_a_path_that_depends_on_the_image(self):
        with pytest.raises(
            UserError, match="torch's exporter gives no ONNX graph of Branching .*data-dependent"
        ) as caught:
            exported_graph.graph_of(Branching(), Codes(), {}, shape=(1, 4, 4))
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)

    def test_a_weight_that_is_read_otherwise(self):
        with pytest.raises(UserError, match="^a: its weight is read by Relu, expected the layer's product alone"):
            exported_graph.graph_of(Twice(), self.quantized("a"), {}, shape=(1, 4, 4))

    def test_a_layer_that_is_not_computed(self):
        network = Twice()
        network.b = nn.Linear(4, 4)
        with pytest.raises(UserError, match="^b: no node of the exported graph reads its weight"):
            exported_graph.graph_of(network, self.quantized("b"), {}, shape=(1, 4, 4))

    def test_a_quantized_activation_of_no_layer(self):
        codes = self.quantized("a")
        codes.points += (Point(("add",), 8, torch.tensor(0.1), 128),)
        with pytest.raises(UserError, match="^add: a quantized activation that no quantized layer reads"):
            exported_graph.graph_of(Twice(), codes, {}, shape=(1, 4, 4))

    def test_a_network_that_can_not_be_exported_names_the_file(self, made, monkeypatch):
        def fails(*_):
            raise UserError("torch's exporter gives no ONNX graph of Pretrained (why)")

        monkeypatch.setattr(exported_graph, "exported", fails)
        with pytest.raises(UserError, match=r"^m: torch's exporter gives no ONNX graph of Pretrained \(why\)$"):
            onnx_of(made("vit"))

    def test_an_operator_of_another_domain(self, made, monkeypatch):
        exporter = exported_graph.exported

        def foreign(*arguments):
            model = onnx.ModelProto()
            model.CopyFrom(exporter(*arguments))
            next(node for node in model.graph.node if node.op_type == "LayerNormalization").domain = "elsewhere"
            return model

        monkeypatch.setattr(exported_graph, "exported", foreign)
        with pytest.raises(UserError, match="^m: the operation elsewhere LayerNormalization .* has no ONNX form here"):
            onnx_of(made("vit"))

    def test_a_truncated_file(self, made, tmp_path):
        content = onnx_of(made("vit")).SerializeToString()
        for size in (len(content) // 2, len(content) - 1):
            (tmp_path / "model.onnx").write_bytes(content[:size])
            with pytest.raises(
                UserError, match=r"model\.onnx: (not readable as ONNX|ONNX Runtime can't load it)"
            ) as caught:
                read(tmp_path / "model.onnx")
            assert "\n" not in str(caught.value)
