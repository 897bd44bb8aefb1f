"""Weights and descriptions as strangers leave them: each is imported rightly, or refused in one line that names it."""

import copy
import json
import os
import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdq.errors import UserError
from kdq.roots.keys import local_files
from kdq.roots.sources import importer
from kdq.roots.sources.fetch import check_cached
from kdq.roots.sources.tensors import check_values, read
from tests.roots import test_checkpoint
from tests.roots.test_checkpoint import NAME, colours, files, keys, original  # noqa: F401
from tests.roots.test_classifier import CLASSES, folder, labels, local, photos, vit  # noqa: F401

VARIANCE = "layer1.0.bn1.running_var"
EXPECTED = "expected a dense one of float16, bfloat16, float32, float64"


def refused(call, *messages):
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for message in messages:
        assert message in text, text


@pytest.fixture
def checkpoint(files, keys, colours, original):  # noqa: F811
    """Import the checkpoint after a change of its state dict."""

    def checkpoint(change):
        state = original.state_dict()
        torch.save(change(state) or state, files / NAME)
        return test_checkpoint.load(colours, keys(folder=str(files), repository=None, revision=None))[0]

    return checkpoint


def replaced(name, change):
    return lambda state: state.update({name: change(state[name])})


class TestTypes:
    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            (lambda tensor: tensor.char(), "int8"),
            (lambda tensor: tensor.long(), "int64"),
            (lambda tensor: tensor.bool(), "bool"),
            (lambda tensor: tensor.to(torch.complex64), "complex64"),
            (lambda tensor: tensor.to(torch.float8_e4m3fn), "float8_e4m3fn"),
            (lambda tensor: tensor.to_sparse(), "sparse (sparse_coo)"),
            (lambda tensor: tensor.to("meta"), "without values (on the device meta)"),
            (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantized"),
        ],
    )
    def test_others_are_refused(self, checkpoint, change, kind):
        refused(lambda: checkpoint(replaced("fc.weight", change)), f"the tensor fc.weight is {kind}, {EXPECTED}")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_floats_are_stored_as_float32_and_the_log_says_so(self, checkpoint, original, dtype, capsys):  # noqa: F811
        network = checkpoint(replaced("fc.weight", lambda tensor: tensor.to(dtype)))
        assert torch.equal(network.fc.weight, original.fc.weight.to(dtype).float())
        assert f"{str(dtype).removeprefix('torch.')} stored as float32" in capsys.readouterr().out

    def test_counters_are_integers_and_may_be_missing(self, checkpoint):
        name = "bn1.num_batches_tracked"
        refused(lambda: checkpoint(replaced(name, torch.Tensor.float)), f"{name} is float32, expected integers")
        checkpoint(lambda state: {key: value for key, value in state.items() if not key.endswith("batches_tracked")})


class TestValues:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_not_finite_is_refused(self, checkpoint, value):
        def change(tensor):
            tensor = tensor.clone()
            tensor[1, 2:4] = value
            return tensor

        message = f"fc.weight has 2 of 1,280 values that are not finite in float32, such as {value:g}"
        refused(lambda: checkpoint(replaced("fc.weight", change)), message)

    def test_what_float32_does_not_hold_is_refused(self, checkpoint):
        refused(lambda: checkpoint(replaced("fc.bias", lambda tensor: tensor.double() + 1e300)), "such as 1e+300")

    def test_a_variance_is_not_negative(self, checkpoint):
        refused(lambda: checkpoint(replaced(VARIANCE, lambda tensor: tensor - 2)), f"{VARIANCE} has variances below 0")
        checkpoint(replaced(VARIANCE, torch.zeros_like))  # of channels that are always zero

    def test_an_empty_tensor_is_of_another_shape(self, checkpoint):
        refused(lambda: checkpoint(replaced("fc.bias", lambda tensor: tensor[:0])), "fc.bias has the shape (0,), exp")
        refused(lambda: checkpoint(replaced("fc.weight", lambda tensor: tensor.sum())), "fc.weight has the shape ()")


def test_names_with_a_prefix_are_named_on_both_sides(checkpoint):
    message = (
        "conv1.weight, bn1.weight, bn1.bias are missing (267 in all are), the tensors module.conv1.weight, module."
    )
    refused(lambda: checkpoint(lambda state: {f"module.{name}": state[name] for name in state}), message)


class TestFiles:
    @pytest.fixture(params=[NAME, "model.safetensors"])
    def path(self, request, tmp_path):
        return tmp_path / request.param

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 97\n", "a pointer of Git LFS, expected"),
            (b"<!DOCTYPE html><html>404</html>", "a page of HTML or XML, expected weights"),
            (b"\n <?xml version='1.0'?><Error/>", "a page of HTML or XML, expected weights"),
            (b"{}", "not readable as weights"),
        ],
    )
    def test_something_else_in_their_place(self, path, content, message):
        path.write_bytes(content)
        refused(lambda: read(path), f"{path}: {message}")

    def test_a_length_that_looks_like_a_page_is_none(self, tmp_path):
        """The first byte of safetensors is a length, which may be that of ``<``."""
        path = tmp_path / "model.safetensors"
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(ord("<"))
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
        assert read(path)["a"].tolist() == [0]

    def test_a_truncated_file(self, path):
        state = {"a": torch.zeros(1000)}
        (torch.save if path.name == NAME else save_file)(state, path)
        path.write_bytes(path.read_bytes()[:2000])
        refused(lambda: read(path), f"{path}: not readable as weights")

    def test_no_file(self, path):
        path.mkdir()
        refused(lambda: read(path), "found a folder, expected a file of weights")
        path.rmdir()
        os.mkfifo(path)
        refused(lambda: read(path), "found a FIFO, expected a file of weights")
        path.unlink()
        refused(lambda: read(path), "found nothing, expected a file of weights")

    def test_code_is_named_and_nobody_is_advised_to_run_it(self, tmp_path):
        path = tmp_path / NAME
        torch.save({"a": torch.zeros(1), "model": copy.deepcopy}, path)
        refused(lambda: read(path), "it holds code or objects, copy.deepcopy, where only tensors are read")
        path.write_bytes(pickle.dumps({"a": print}, protocol=2))
        refused(lambda: read(path), "it holds code or objects, ", "print, where only tensors are read")

    def test_no_state_dict(self, tmp_path):
        path = tmp_path / NAME
        for value, message in (([1], "no state dict but list"), ({0: torch.zeros(1)}, "found 0: Tensor")):
            torch.save(value, path)
            refused(lambda: read(path), message)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda path: path.mkdir(), "in which pytorch_model.bin is a folder, expected a file"),
            (os.mkfifo, "in which pytorch_model.bin is a FIFO, expected a file"),
            (lambda path: path.symlink_to("blobs/gone"), "a link to blobs/gone, which does not exist"),
            (lambda path: path.with_name(f"{path.name}.index.json").touch(), "is in several parts (sharded)"),
            (lambda path: None, "which has no file pytorch_model.bin"),
        ],
    )
    def test_a_folder_without_the_file(self, tmp_path, make, message):
        make(tmp_path / NAME)
        refused(lambda: local_files({"source": "hub", "folder": str(tmp_path), "file": ""}), message)

    @pytest.mark.parametrize("name", ["5f7e1e5d2be1ff0aa18dc5a6b4fb17ec9cd12ba5", "2" * 64])
    def test_a_cached_file_is_the_one_that_its_name_tells(self, tmp_path, name):
        blob, link = tmp_path / name, tmp_path / "config.json"
        blob.write_bytes(b"{}")
        link.symlink_to(blob)
        refused(lambda: check_cached(link), f"{link}: found a content of digest", f"expected {name}")

    def test_a_cached_file_of_git(self, tmp_path):
        blob, link = tmp_path / "9e26dfeeb6e641a33dae4961196235bdb965b21b", tmp_path / "config.json"  # of `{}` in git
        blob.write_bytes(b"{}")
        link.symlink_to(blob)
        check_cached(link)
        check_cached(tmp_path / blob.rename(tmp_path / "copy"))


class TestTransformers:
    """Its own checks do not see these."""

    @pytest.fixture
    def imported(self, photos, folder):  # noqa: F811
        def imported(state=(), settings=None, processor=None, **changes):
            vit(folder)
            tensors = load_file(folder / "model.safetensors") | dict(state)
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
            for name, more in (("config.json", settings), ("preprocessor_config.json", processor)):
                if more is not None:
                    text = json.loads((folder / name).read_text())
                    (folder / name).write_text(json.dumps(more if isinstance(more, list) else text | more))
            return importer("transformers")(photos, local(folder, **changes), print)

        return imported

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (torch.full((4,), float("nan")), "classifier.bias has 4 of 4 values that are not finite"),
            (torch.zeros(4, dtype=torch.int8), f"classifier.bias is int8, {EXPECTED}"),
            (torch.full((4,), 1e300, dtype=torch.float64), "such as 1e+300"),
        ],
    )
    def test_weights(self, imported, tensor, message):
        refused(lambda: imported({"classifier.bias": tensor}), message)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (
                {0: "airplane", 1: "automobile", 3: "bird", 4: "cat"},
                "id2label in config.json: no class 2, expected",
            ),
            ({1: "airplane", 2: "automobile", 3: "bird", 4: "cat"}, "no class 0, expected all from 0"),
            ({}, "no class 0"),
            (dict(enumerate(["airplane", None, "bird", "cat"])), "class 1 is None, expected a name"),
            (dict(enumerate([*CLASSES, "deer"])), "a model of 5 classes, the data set has 4"),
            (["airplane"], "can't be read"),
            (7, "can't be read"),
            (dict(enumerate(["airplane", "airplane", "bird", "cat"])), "some of the classes in another order: class 1"),
            (dict(enumerate(["bird", "LABEL_1", "LABEL_2", "LABEL_3"])), "class 0 is 'bird', the data set's is 'airpl"),
        ],
    )
    def test_names_of_classes(self, imported, names, message):
        for order in ("names", "order"):
            refused(partial(imported, settings={"id2label": names}, labels=order), message)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ([1], "expected a JSON object"),
            ({"hidden_size": None}, "can't be read"),
            ({"layer_norm_eps": float("nan")}, "NaN is no JSON"),
            ({"num_hidden_layers": 10**7}, "40 tensors, config.json describes more: num_hidden_layers is 10000000"),
            ({"id2label": None, "num_labels": 10**9}, "num_labels: found 1000000000"),
            ({"sub_config": {"attn_implementation": "owner/kernel"}}, "attn_implementation: found 'owner/kernel'"),
            ({"initializer_range": 0.1, "layer_norm_eps": -1e9}, "the model gives logits (8, 4), 0 of them finite"),
        ],
    )
    def test_configurations(self, imported, settings, message):
        refused(lambda: imported(settings=settings), message)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ([1], "expected a JSON object"),
            ({"size": None}, "published: ViTImageProcessor: size None: no known way"),
            ({"size": "large"}, "can't be read"),
            ({"image_mean": None}, "image_mean: found None"),
            ({"image_std": [0.5, float("inf"), 0.5]}, "Infinity is no JSON"),
            ({"resample": "bilinear"}, "do not fit together"),
            ({"do_center_crop": True, "crop_size": {"height": 16}}, "crop_size must have"),
        ],
    )
    def test_processors(self, imported, settings, message):
        refused(lambda: imported(processor=settings), message)

    def test_names_that_differ_in_signs_alone_are_not_the_same(self, photos, folder):  # noqa: F811
        """Without signs both are ``c``: in another order they would pass."""
        vit(folder, **labels(["c", "c++", "java", "ada"]))
        languages = replace(photos, classes=["c++", "c", "java", "ada"])
        for order in ("names", "order"):
            load = partial(importer("transformers"), languages, local(folder, labels=order), print)
            refused(load, "in another order: class 0")


def test_integers_are_no_weights(tmp_path):
    state = {"position": torch.arange(3), "weight": torch.ones(2)}
    check_values(tmp_path, state, ["position"])
    refused(lambda: check_values(tmp_path, state), "the tensor position is int64")
