"""A teacher from a model file of this package: the very network, of whichever family."""

import pytest
import torch

from kdq import models
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models import registry
from kdq.models.codes import Codes, QuantizedWeight
from kdq.roots.sources import importer

HEADER = {"recipe": "hard", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
SIZE = {"classes": 10, "channels": 1, "mean": [0.3], "std": [0.4]}
FAMILIES = {
    "resnet18": {"stem": "cifar", "width": 0.0625},
    "timm/test_resnet": {"resize": 0},
}


def keys(path) -> dict:
    return {
        "source": "kdq",
        "repository": "",
        "revision": "",
        "folder": str(path.parent),
        "file": path.name,
        "sha256": "",
    }


def saved(tmp_path, architecture, **changes):
    described = registry.described({"architecture": architecture, **FAMILIES[architecture]}, **SIZE | changes, side=8)
    torch.manual_seed(1)
    path = tmp_path / "mine.safetensors"
    model_file.save(path, registry.build(**described), described, Codes(), **HEADER)
    return path


@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_network_is_that_of_the_file(architecture, few, tmp_path):
    path = saved(tmp_path, architecture)
    network, described, files = importer("kdq")(few, keys(path), print)
    images = few.test.images[:4].float() / 255
    with torch.no_grad():
        assert torch.equal(network(images), models.load(path)(images))
    assert files == {"weights": path}
    model_file.save(tmp_path / "again", network, described, Codes(), **HEADER)
    assert models.load(tmp_path / "again").state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 7}, "a network of 7 classes, the data set has 10"),
        ({"channels": 3, "mean": [0.3] * 3, "std": [0.4] * 3}, "a network of 3 channels, the data set has 1"),
    ],
)
def test_a_network_of_another_data_set_is_refused(changes, message, few, tmp_path):
    path = saved(tmp_path, "resnet18", **changes)
    with pytest.raises(UserError, match=message):
        importer("kdq")(few, keys(path), print)


def test_codes_are_refused(few, tmp_path):
    path = saved(tmp_path, "resnet18")
    network = models.load(path)
    codes = Codes()
    codes["fc"] = QuantizedWeight(torch.zeros_like(network.fc.weight, dtype=torch.int16), torch.ones(1), -2, 1, 2, {})
    model_file.save(path, network, network.architecture, codes, **HEADER | {"recipe": "hard/rtn,bits=2"})
    with pytest.raises(UserError, match="the codes of hard/rtn,bits=2, expected a float model"):
        importer("kdq")(few, keys(path), print)


def test_another_data_set_is_said(few, tmp_path):
    from dataclasses import replace

    lines = []
    importer("kdq")(replace(few, dataset="folder"), keys(saved(tmp_path, "resnet18")), lines.append)
    assert "trained on digits; its classes are taken to be in the data set's order" in lines[0]
