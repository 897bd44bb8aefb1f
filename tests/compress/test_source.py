"""What MODEL, DATA and MAX_DROP may be, and what is said of anything else."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from kdq.compress.report import name_of
from kdq.compress.source import confidence_of, data_keys, drop_of, image_size_of, source_of
from kdq.compress.source import name_of as checked_name
from kdq.data import prepared as data_file
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.provenance.files import sha256

HEADER = {"recipe": "hard", "dataset": "digits", "seed": 0, "keys": {}}


@pytest.fixture
def model(build, few, tmp_path):
    """A float model file in the results of a study, with the data that it names."""
    results = tmp_path / "results/digits"
    data = results / "data/split=0.safetensors"
    data_file.write(data, few, {"code": "0", "keys": {"validation_fraction": 0.1, "test_fraction": 0.2}})
    network = build("resnet18", seed=1)
    path = results / "seed=0/hard/model.safetensors"
    provenance = {"inputs": {"data": sha256(data)}}
    model_file.save(path, network, network.architecture, Codes(), **HEADER, provenance=provenance)
    return path


def pictures(folder, classes=("cat", "dog")):
    for name in classes:
        (folder / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / name / "0.png")
    return folder


def test_a_model_file_is_imported_as_its_header_describes_it(model):
    source = source_of(str(model))
    teacher = source.config["stages"]["teacher"]
    assert teacher == {"source": "kdq", "folder": str(model.parent), "file": "model.safetensors"}
    assert source.trained_on["dataset"] == "digits"
    assert source.split_of("digits") == {"split_seed": 0, "validation_fraction": 0.1, "test_fraction": 0.2}
    assert source.split_of("folder") == {}
    assert source_of(str(model.parent)) == source


def test_of_a_copy_the_training_data_are_not_known(model, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    assert source_of(str(copy)).trained_on == {}
    assert source_of(str(copy)).split_of("digits") == {}


def test_data_that_changed_since_the_training_do_not_count(model, few):
    data = model.parents[2] / "data/split=0.safetensors"
    data_file.write(data, few, {"code": "1", "keys": {}})
    assert source_of(str(model)).trained_on == {}


def test_a_folder_of_transformers_gives_the_size_of_its_images(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    for size, side in (({"height": 24, "width": 16}, 24), ({"shortest_edge": 32}, 32), (48, 48)):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": size}))
        source = source_of(str(tmp_path))
        assert source.size == side
    teacher = source.config["stages"]["teacher"]
    assert teacher == {"source": "transformers", "folder": str(tmp_path), "file": "pytorch_model.bin"}


def test_a_yaml_file_gives_any_keys_of_a_teacher(tmp_path):
    path = tmp_path / "network.yaml"
    path.write_text("teacher: {architecture: resnet50}\nstages: {teacher: {source: hub, repository: a/b}}\n")
    assert source_of(str(path)).config["stages"]["teacher"] == {"source": "hub", "repository": "a/b"}


def test_a_yaml_file_without_a_source_trains_the_network_with_the_splits_of_a_study(tmp_path):
    path = tmp_path / "network.yaml"
    path.write_text("teacher: {architecture: timm/resnet18, epochs: 3}\ndata: {image_size: 8}\n")
    source = source_of(str(path))
    assert source.trains and source.config["teacher"] == {"architecture": "timm/resnet18", "epochs": 3}
    assert data_keys("digits", source, 0)[1].keys() == {"folder"}
    assert data_keys(str(pictures(tmp_path / "images")), source, 0)[1].keys() == {
        "folder",
        "image_folder",
        "image_size",
    }


def refused_models(tmp_path, model):
    (tmp_path / "empty").mkdir()
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/pytorch_model.bin").write_bytes(b"")
    (tmp_path / "train.yaml").write_text("teacher: {epochs: 3}\n")
    (tmp_path / "picture.png").write_bytes(b"")
    return {
        "": "MODEL: missing, expected a folder of transformers",
        "resnet18": "MODEL: 'resnet18' is a network without weights; to have it trained first, write teacher: "
        "{architecture: resnet18",
        "timm/resnet81": "architecture 'timm/resnet81': timm .* has no such classifier; did you mean",
        "timm/resnet18.a1_in2k": "MODEL: timm/resnet18: weights: found 'a1_in2k@' of timm/resnet18, expected TAG",
        "torchvision/resnet18.V1": "MODEL: torchvision/resnet18: weights: found 'V1' of torchvision/resnet18, expected",
        f"{tmp_path}/emtpy": f"MODEL: {tmp_path}/emtpy: no such file or folder, expected a folder of",
        f"{tmp_path}/empty": f"MODEL: {tmp_path}/empty: no model in this folder",
        f"{tmp_path}/checkpoint": "pytorch_model.bin: a checkpoint, which names neither network nor normalisation",
        f"{tmp_path}/checkpoint/pytorch_model.bin": "a checkpoint, which names neither network nor normalisation",
        f"{tmp_path}/train.yaml": "found neither stages.teacher.source nor teacher.architecture",
        f"{tmp_path}/picture.png": "found a file that is no model",
    }


def test_what_is_no_model_is_refused_in_one_line(tmp_path, model):
    for word, message in refused_models(tmp_path, model).items():
        with pytest.raises(UserError) as refusal:
            source_of(word)
        assert re.search(message, str(refusal.value))


def test_a_name_of_a_library_is_its_pretrained_network():
    pytest.importorskip("torchvision")
    source = source_of("torchvision/resnet50")
    assert source.config == {
        "teacher": {"architecture": "torchvision/resnet50", "weights": "IMAGENET1K_V2"},
        "stages": {"teacher": {"source": "library"}},
    }
    assert (source.size, source.trains) == (232, False)
    first = source_of("torchvision/resnet50.IMAGENET1K_V1")
    assert (first.config["teacher"]["weights"], first.size) == ("IMAGENET1K_V1", 256)


def test_a_quantized_model_is_refused(build, tmp_path):
    import torch

    from kdq.models.codes import QuantizedWeight

    network = build("resnet18", seed=1)
    weight = QuantizedWeight(torch.zeros(network.fc.weight.shape, dtype=torch.int16), torch.ones(1), -2, 1, 2, {})
    codes = Codes()
    codes["fc"] = weight
    path = tmp_path / "model.safetensors"
    model_file.save(path, network, network.architecture, codes, **HEADER | {"recipe": "hard/rtn,bits=2"})
    with pytest.raises(UserError, match=r"hard/rtn,bits=2: is quantized already, expected a float model"):
        source_of(str(path))


def test_data_are_a_name_or_a_folder_of_images(model, tmp_path):
    source = source_of(str(model))
    name, keys = data_keys("digits", source, 0)
    assert (name, keys["validation_fraction"], keys["test_fraction"]) == ("digits", 0.1, 0.2)
    folder = pictures(tmp_path / "pictures")
    name, keys = data_keys(str(folder), source, 24)
    assert (name, keys["image_folder"], keys["image_size"]) == ("folder", str(folder), 24)
    assert (keys["validation_fraction"], keys["test_fraction"]) == (0.3, 0.5)  # not those of another data set


def test_of_foreign_networks_enough_images_are_left_to_choose_and_to_report(tmp_path, model):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    _, keys = data_keys(str(pictures(tmp_path / "pictures")), source_of(str(copy)), 24)
    assert (keys["validation_fraction"], keys["test_fraction"]) == (0.3, 0.5)


def test_what_is_no_data_is_refused_in_one_line(model, tmp_path):
    source = source_of(str(model))
    folder = pictures(tmp_path / "pictures")
    (tmp_path / "nothing").mkdir()
    messages = {
        ("", 0): "DATA: missing, expected a folder",
        ("cifer10", 0): "did you mean 'cifar10'?",
        (f"{tmp_path}/picture", 0): "did you mean 'pictures'?",
        (f"{tmp_path}/nothing", 32): "no images, expected a folder of images for each class",
        (str(model), 32): "found a file, expected a folder",
        (f"{pictures(tmp_path / 'single', ('cat',))}", 32): "found one folder, 'cat'",
        (str(folder), 0): "IMAGE_SIZE: missing",
    }
    for (data, size), message in messages.items():
        with pytest.raises(UserError) as refusal:
            data_keys(data, source, size)
        assert message in str(refusal.value)


@pytest.mark.parametrize(("text", "points"), [("1", 1), ("0", 0), ("0.5", 0.5), ("2%", 2)])
def test_points_that_may_be_lost(text, points):
    assert drop_of(text) == points


@pytest.mark.parametrize(
    ("check", "text", "message"),
    [
        (drop_of, "-1", "MAX_DROP: found -1, expected points of accuracy"),
        (drop_of, "nan", "MAX_DROP: found nan"),
        (drop_of, "one", "MAX_DROP: found 'one'"),
        (drop_of, "", "MAX_DROP: found ''"),
        (confidence_of, "95", "SURE: found 95, expected a confidence, 0.5 to less than 1"),
        (image_size_of, "large", "IMAGE_SIZE: found 'large'"),
        (image_size_of, "7", "IMAGE_SIZE: found '7'"),
        (lambda text: checked_name(text, "x"), "../up", "NAME: found '../up'"),
    ],
)
def test_wrong_numbers_and_names_are_refused(check, text, message):
    with pytest.raises(UserError) as refusal:
        check(text)
    assert str(refusal.value).startswith(message)


def test_a_name_is_made_of_the_words():
    assert name_of("a b/c d", "x/y z/model.safetensors") == "c-d-y-z"
    assert checked_name("", "x") == "x"
