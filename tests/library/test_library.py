"""The library's four functions: what they take, what they return, what they refuse and in which words."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import kdq
from kdq.deploy.onnx_file import codes_in
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models import load as load_network
from kdq.quantize.execution import network as execution
from kdq.quantize.quantizer import quantizer_of


class Mine(nn.Module):
    """Convolutions with and without BatchNorm, a residual sum, a linear layer."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        x = self.norm(self.stem(images)).relu()
        x = F.relu(x + self.b(self.a(x).relu()), inplace=True)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    network = Mine().train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(64, 3, 8, 8))
        nn.init.uniform_(network.norm.weight, -0.5, 1.5)
    return network.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(48, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def equal(a, b) -> bool:
    return a.layers.keys() == b.layers.keys() and all(
        a.layers[name].codes.equal(b.layers[name].codes) for name in a.layers
    )


class TestImages:
    def test_a_loader_gives_what_its_tensor_does(self, network, images):
        whole = kdq.quantize(network, images, count=48, bits=3)
        for batches in (images.split(7), DataLoader(TensorDataset(images, torch.arange(48) % 5), 10)):
            loaded = kdq.quantize(network, batches, bits=3)
            errors = [(loaded.layers[name].relative_error, whole.layers[name].relative_error) for name in whole.layers]
            assert np.allclose(*zip(*errors, strict=True), rtol=1e-5)

    def test_so_many_are_taken(self, network, images):
        few = kdq.quantize(network, images.split(5), count=12, bits=3)
        assert equal(few, kdq.quantize(network, [images[:12]], bits=3))

    def test_uint8_is_divided_by_255(self, network, images):
        grey = (images * 255).to(torch.uint8)
        assert equal(
            kdq.quantize(network, [grey], input="uint8", activations=8),
            kdq.quantize(network, [grey.float() / 255], activations=8),
        )

    def test_floats_are_taken_as_they_are(self, network, images):
        """Ranges of activations are those of the images: nothing divides by 255."""
        quantized = kdq.quantize(network, images * 10 - 5, activations=8, activation_range="minmax")
        point = next(point for point in quantized.points if "stem" in point.readers)
        assert float(point.scale) == pytest.approx(10 / 255, rel=0.01) and 120 < point.zero_point < 136

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (lambda x: {"images": x, "input": "uint8"}, "found torch.float32, expected torch.uint8 for input='uint8'"),
            (lambda x: {"images": x.to(torch.uint8)}, "found torch.uint8, expected floats as the network takes them; "),
            (lambda x: {"images": x.numpy()}, "found ndarray, expected a tensor or a loader of tensors"),
            (lambda x: {"images": 3}, "found int, expected a tensor or a loader of batches"),
            (lambda x: {"images": []}, "found a loader without any, expected at least one image"),
            (lambda x: {"images": x[:0]}, r"found shape \(0, 3, 8, 8\), expected a batch"),
            (lambda x: {"images": [x[:2], x[:2, :, :4]]}, r"found shapes \(3, 8, 8\) and \(3, 4, 8\), expected one"),
            (lambda x: {"images": [(x, x)]}, r"found labels torch.float32 \(48, 3, 8, 8\), expected integers \(48,\)"),
            (lambda x: {"images": x[:, :2]}, r"Mine can't take torch.float32 of shape \(2, 8, 8\)"),
            (lambda x: {"images": x, "input": "auto"}, "input: found 'auto', expected 'float', images as"),
            (lambda x: {"images": x, "count": 0}, "count: found 0, expected a number of images"),
        ],
    )
    def test_of_another_form_are_refused(self, network, images, wrong, message):
        with pytest.raises(UserError, match=f"^(images: )?{message}") as caught:
            kdq.quantize(network, **wrong(images))
        assert "\n" not in str(caught.value)


class TestKeys:
    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"method": "gpfk"}, "method: found 'gpfk', expected one of .*did you mean 'gpfq'"),
            ({"method": "kd"}, "method: found 'kd', expected one of adaround, brecq"),
            ({"bits": 9}, "method 'gpfq': bits: found 9, expected less than or equal to 8"),
            ({"granularty": "layer"}, "method 'gpfq': unknown key 'granularty'; did you mean 'granularity'"),
            ({"bits": 3, "budget": 2.5}, "method 'gpfq': bits: found 3: the budget gives each layer its own"),
            ({"keep": ["hed"]}, "keep: found 'hed', expected first, last, or .*did you mean 'head'"),
            ({"bias": "correct", "batchnorm": "reestimate"}, "method 'gpfq': bias: found 'correct' beside batchnorm="),
        ],
    )
    def test_are_checked_as_those_of_a_recipe(self, network, images, keys, message):
        with pytest.raises(UserError, match=f"^{message}"):
            kdq.quantize(network, images, **keys)

    def test_a_budget_is_kept(self, network, images):
        quantized = kdq.quantize(network, images, budget=3.5, activations=8)
        assert quantized.bits_per_weight <= 3.5 and len({layer.bits for layer in quantized.layers.values()}) > 1

    def test_labels_decide_by_loss(self, network, images):
        labels = torch.arange(48) % 5
        by_label = kdq.quantize(network, [(images, labels)], budget=3, cost="loss")
        assert by_label.bits_per_weight <= 3

    @pytest.mark.parametrize("keep", [["first", "last"], "first+last", ["stem", "head"]])
    def test_layers_stay_float(self, network, images, keep):
        quantized = kdq.quantize(network, images, keep=keep)
        assert list(quantized.layers) == ["a", "b"] and list(quantized.kept) == ["stem", "head"]
        assert "stem " in quantized.table() and "named by the key keep" in quantized.table()

    def test_every_layer_is_listed(self, network, images):
        quantized = kdq.quantize(network, images, bits=3, method="rtn")
        assert list(quantized.layers) == ["stem", "a", "b", "head"]
        for name, layer in quantized.layers.items():
            weight = network.get_submodule(name).weight
            assert layer.bits == 3 and layer.codes.shape == weight.shape and layer.step.shape == (len(weight),)
            assert quantized.network.get_submodule(name).weight.equal(layer.decode())
            assert (layer.decode() - weight).norm() < weight.norm() and layer.relative_error > 0

    @pytest.mark.parametrize("keys", [{"order": "iterative"}, {"batchnorm": "reestimate", "activations": 8}], ids=str)
    def test_further_keys(self, network, images, keys):
        assert len(kdq.quantize(network, images, **keys).layers) == 4

    def test_the_network_is_left_as_it_was(self, network, images):
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.train()
        kdq.quantize(network, images, activations=8, channels="equalize")
        assert network.training and all(network.state_dict()[name].equal(value) for name, value in before.items())
        assert type(network.norm) is nn.BatchNorm2d and network.stem.bias is None

    @pytest.mark.parametrize(
        ("network", "message"),
        [
            (lambda: "resnet18", "found str, expected an nn.Module"),
            (lambda: Mine().double(), "found torch.float64, expected parameters of torch.float32"),
            (nn.Flatten, "found no parameters, expected parameters of torch.float32"),
        ],
    )
    def test_another_network_is_refused(self, network, images, message):
        with pytest.raises(UserError, match=f"^network: {message}"):
            kdq.quantize(network(), images)


class TestFiles:
    @pytest.mark.parametrize("activations", [0, 8])
    def test_a_network_of_one_s_own(self, network, images, tmp_path, activations):
        path = tmp_path / "model.safetensors"
        quantized = kdq.quantize(network, images, activations=activations)
        kdq.save(path, quantized)
        loaded = kdq.load(path, into=Mine())
        assert loaded(images).equal(quantized(images)) and equal(loaded, quantized)
        assert (quantized(images) - network(images)).norm() < 0.3 * network(images).norm()
        assert loaded.table() == quantized.table()

    def test_one_of_kdq_s_networks_needs_no_instance(self, tmp_path):
        from kdq.models import registry

        sizes = {"classes": 5, "channels": 3, "stem": "cifar", "width": 0.125, "mean": [0.5] * 3, "std": [0.25] * 3}
        network = registry.build("resnet18", **sizes).eval()
        pictures = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
        quantized = kdq.quantize(network, pictures, input="uint8", activations=8, bits=3)
        kdq.save(tmp_path / "model.safetensors", quantized)
        floats = pictures.float() / 255
        for load in (kdq.load, load_network):
            assert load(tmp_path / "model.safetensors")(floats).equal(quantized(floats))
        kdq.export(kdq.load(tmp_path / "model.safetensors"), tmp_path / "model.onnx", "uint8_nhwc")
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
        actual = session.run(None, {"images": pictures.permute(0, 2, 3, 1).numpy()})[0]
        assert (torch.from_numpy(actual) - quantized(floats)).norm() < 0.02 * quantized(floats).norm()

    def test_codes_are_those_of_the_workflow_s_quantization(self, network, images):
        ours = kdq.quantize(network, [images], bits=3)
        quantizer = quantizer_of("kdq.quantize.methods.gpfq", {"bits": 3}, 0)
        codes = execution.quantize(network, images, quantizer, log=lambda line: None)
        assert all(weight.codes.equal(ours.layers[name].codes) for name, weight in codes.items()) and len(codes) == 4

    @pytest.mark.parametrize(
        ("into", "message"),
        [
            (lambda: None, r"a network of tests.library.test_library.Mine, which is not KDQ's; load it by kdq.load\("),
            (lambda: Mine(7), r"its tensors do not fit Mine \(.*size mismatch for head.weight"),
            (lambda: nn.Linear(2, 2), r"its tensors do not fit Linear \("),
        ],
    )
    def test_another_instance_is_refused(self, network, images, tmp_path, into, message):
        path = tmp_path / "model.safetensors"
        kdq.save(path, kdq.quantize(network, images, activations=8, method="rtn"))
        with pytest.raises(UserError, match=f"^{path}: {message}") as caught:
            kdq.load(path, into=into())
        assert "\n" not in str(caught.value)

    def test_what_is_no_quantized_network_is_refused(self, network, images, tmp_path):
        with pytest.raises(UserError, match="^save: found Mine, expected what kdq.quantize returns"):
            kdq.save(tmp_path / "model.safetensors", network)
        with pytest.raises(UserError, match="^export: found Mine, expected what kdq.quantize or kdq.load returns"):
            kdq.export(network, tmp_path / "model.onnx")
        with pytest.raises(UserError, match="^network: found one with quantized activations or codes"):
            kdq.quantize(kdq.quantize(network, images, method="rtn"), images)

    def test_one_file_has_the_format_of_the_workflow(self, network, images, tmp_path):
        path = tmp_path / "model.safetensors"
        kdq.save(path, kdq.quantize(network, images, activations=8, method="rtn"))
        file = model_file.read(path)
        assert file.header["architecture"]["folded"] == {"norm": "stem"} and len(file.codes) == 4
        readers = [point.readers for point in file.codes.points]
        assert ("a",) in readers and ("b:out",) in readers

    def test_an_archive_holds_it_too(self, network, images, tmp_path):
        from kdq.models import archive

        path, packed = tmp_path / "model.safetensors", tmp_path / "model.archive.safetensors"
        quantized = kdq.quantize(network, images, bits=2)
        kdq.save(path, quantized)
        archive.pack(path, packed)
        assert kdq.load(packed, into=Mine())(images).equal(quantized(images))


class TestExport:
    @pytest.mark.slow
    def test_floats_are_its_input(self, network, images, tmp_path):
        quantized = kdq.quantize(network, images, activations=8)
        with pytest.raises(UserError, match="^images: found 'uint8_nhwc', expected 'float32_nchw'"):
            kdq.export(quantized, tmp_path / "model.onnx", "uint8_nhwc")
        kdq.export(quantized, tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
        actual = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        assert (actual - quantized(images)).norm() < 0.01 * quantized(images).norm()

    @pytest.mark.parametrize("bits", [3, 8])
    def test_of_a_product_the_codes_are_stored_as_it_takes_them(self, tmp_path, bits):
        """OpenVINO computes in float if a Transpose lies behind them."""
        torch.manual_seed(0)
        tokens = nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5)).eval()
        quantized = kdq.quantize(tokens, torch.rand(32, 9, 12), bits=bits, activations=8)
        path = tmp_path / "model.onnx"
        kdq.export(quantized, path)  # which compares the codes
        model = onnx.load(path)
        assert "Transpose" not in {node.op_type for node in model.graph.node}
        assert {node.op_type for node in model.graph.node} >= {"MatMul", "DequantizeLinear"}
        codes, _ = codes_in(model)["0"]
        assert np.array_equal(codes, quantized.layers["0"].codes.numpy())


QUANTIZER = """
import torch

from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer


class Parameters(Quantizing):
    pass


class Mine(Quantizer):
    def codes(self, weight, cross, gram, step, low, high):
        return {codes}
"""


class TestAQuantizerOfOnesOwn:
    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            ("torch.zeros(len(step), *weight.shape)", r"found torch.float32 \(15, 1, 8, 27\), expected torch.int16 \("),
            ("torch.zeros(*weight.shape, dtype=torch.int16)", r"found torch.int16 \(1, 8, 27\), expected .*\(15, 1, 8"),
            ("torch.full((len(step), *weight.shape), 8).short()", "found 8 to 8, expected -8 to 7"),
            ("None", "found NoneType, expected torch.int16"),
        ],
    )
    def test_wrong_codes_are_refused_at_the_first_layer(self, network, images, monkeypatch, tmp_path, codes, message):
        import kdq.quantize.methods
        from kdq.library import quantization
        from kdq.recipe.kinds import QUANTIZE
        from kdq.recipe.stages import StageType, read_parameters

        (tmp_path / "rounded_down.py").write_text(QUANTIZER.format(codes=codes))
        monkeypatch.setattr(kdq.quantize.methods, "__path__", [*kdq.quantize.methods.__path__, str(tmp_path)])
        parameters = read_parameters(tmp_path / "rounded_down.py", QUANTIZE)
        stage = StageType("rounded_down", QUANTIZE, tmp_path / "rounded_down.py", parameters)
        monkeypatch.setattr(quantization, "find_stages", lambda package: {"rounded_down": stage})
        monkeypatch.delitem(__import__("sys").modules, "kdq.quantize.methods.rounded_down", raising=False)
        with pytest.raises(UserError, match=f"^rounded_down: layer stem: codes: {message}"):
            kdq.quantize(network, images, method="rounded_down")
