"""Pruned models as ONNX files: zeros stay zeros, smaller convolutions are smaller, and a runtime agrees."""

import onnx
import onnxruntime
import pytest
import torch

from kdq.deploy.onnx_file import codes_in, to_onnx
from kdq.models import file as model_file
from tests.prune.test_pruning import quantized_from
from tests.retrain.conftest import HEADER


@pytest.mark.parametrize(
    ("name", "keys"), [("magnitude", {"sparsity": 0.7}), ("nm", {}), ("channels", {"multiple": 2, "ratio": 0.5})]
)
def test_a_runtime_gives_the_classes_of_the_network(go_on, files, few, tmp_path, name, keys):
    go_on("float", name, into="pruned", epochs=2, **keys)
    network, codes = quantized_from(files["pruned"], "gpfq", few, activations=8, bits=4)
    architecture, path = model_file.read(files["pruned"]).header["architecture"], tmp_path / "quantized.safetensors"
    model_file.save(path, network, architecture, codes, **HEADER)
    file, place = model_file.read(path), tmp_path / "model.onnx"
    model = to_onnx(file, path, {})
    onnx.save(model, place)
    for layer, (found, _) in codes_in(model).items():
        expected = file.codes[layer].codes
        assert found.shape == tuple(expected.shape)
        if layer in file.masks:
            assert not torch.from_numpy(found.astype("int16"))[~file.masks[layer]].any()
    images = few.test.images.float() / 255
    session = onnxruntime.InferenceSession(place, providers=["CPUExecutionProvider"])
    predicted = session.run(None, {"images": images.numpy()})[0].argmax(1)
    ours = model_file.to_network(file)(images).argmax(1).numpy()
    assert (predicted == ours).mean() >= 0.98
    if name == "channels":
        whole = model_file.load(files["float"]).layer4[0].conv2.weight.numel()
        assert codes_in(model)["layer4.0.conv2"][0].size <= 0.3 * whole
