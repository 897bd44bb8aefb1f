"""A teacher of ``source=library``: timm's or torchvision's own network, with its classes and its way to show images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kdq.data.download import hub_file
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.roots.sources import importer
from tests.roots.hub import COMMIT, OTHER_COMMIT, TIMM_REPOSITORY

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")
pinned = pytest.importorskip("kdq.models.timm_networks").pinned

TORCHVISION = {"architecture": "torchvision/shufflenet_v2_x0_5", "weights": "IMAGENET1K_V1"}
TIMM = {"architecture": "timm/test_resnet", "weights": f"r160_in1k@{COMMIT}"}
CATEGORIES = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.meta["categories"]
FOLDERS = timm.data.ImageNetInfo("imagenet-1k").label_names()


def imported(few, named, classes=FOLDERS, labels="names", log=lambda line: None):
    keys = {"source": "library", "labels": labels, **named}
    return importer("library")(replace(few, classes=list(classes)), keys, log)


def test_logits_are_torchvision_s_own(few, state):
    network, architecture, files = imported(few, TORCHVISION)
    own = torchvision.models.shufflenet_v2_x0_5().eval()
    own.load_state_dict(state)
    transforms = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.transforms()
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(images), own(transforms(images)))
    assert files["weights"].name.startswith("network-") and architecture["classes"] == 1000


def test_images_are_shown_as_by_timm(few, offered):
    network, _, files = imported(few, TIMM)
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.models.get_pretrained_cfg("test_resnet").to_dict())
    pixels = np.random.default_rng(1).integers(0, 256, (200, 200, 3), np.uint8)
    expected = timm.data.create_transform(**config)(Image.fromarray(pixels))
    found = network.pixels(torch.from_numpy(pixels).movedim(2, 0)[None] / 255)[0]
    assert found.shape == expected.shape == (3, 160, 160)
    levels = (found - expected).abs() * network.std[0] * 255
    assert levels.max() <= 2  # of 255: timm rounds to whole ones in between
    assert torch.equal(network.network.fc.weight, offered["fc.weight"])
    assert files["weights"].is_file()


def test_a_model_file_gives_the_network_back(few, offered, tmp_path):
    network, architecture, _ = imported(few, TIMM)
    header = {"recipe": "teacher", "dataset": "folder", "seed": 0, "keys": {}, "provenance": {}}
    model_file.save(tmp_path / "model.safetensors", network, architecture, Codes(), **header)
    again = model_file.load(tmp_path / "model.safetensors")
    images = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))


@pytest.mark.parametrize("named", [TORCHVISION, TIMM])
def test_folders_of_imagenet_are_its_classes(few, state, offered, named):
    imported(few, named)
    with pytest.raises(UserError, match="a network of 1000 classes, the data set has 999; without source=library"):
        imported(few, named, FOLDERS[1:])
    others = [f"class {index}" for index in range(1000)]
    with pytest.raises(UserError, match="other classes: class 0 is .*, the data set's is 'class 0'; if only the names"):
        imported(few, named, others)
    lines = []
    imported(few, named, others, "order", lines.append)
    assert "the order is accepted because of labels=order" in lines[0]


def test_names_of_torchvision_are_its_classes_in_their_order(few, state):
    imported(few, TORCHVISION, CATEGORIES)
    with pytest.raises(UserError, match="the same classes in another order: class 0 is 'tench'"):
        imported(few, TORCHVISION, CATEGORIES[1::-1] + CATEGORIES[2:])


def test_weights_without_classes_are_refused(few):
    assert timm.models.get_pretrained_cfg("convnextv2_nano.fcmae").num_classes == 0
    with pytest.raises(UserError, match="^weights: found 'fcmae@.*' of timm/convnextv2_nano, whose classes timm does"):
        imported(few, {"architecture": "timm/convnextv2_nano", "weights": f"fcmae@{COMMIT}"})


def test_a_tag_alone_is_the_newest_commit_as_cached_or_on_the_hub(hub, offered):
    assert pinned("test_resnet", "") == f"r160_in1k@{COMMIT}"
    assert pinned("test_resnet", f"r160_in1k@{OTHER_COMMIT}") == f"r160_in1k@{OTHER_COMMIT}"
    hub_file(TIMM_REPOSITORY, "main", "model.safetensors")
    hub.stop()
    assert pinned("test_resnet", "r160_in1k") == f"r160_in1k@{COMMIT}"
    hub.start()


def test_without_a_hub_the_commit_is_asked_for(hub):
    with pytest.raises(UserError, match=f"^weights: {TIMM_REPOSITORY}: neither cached .* the tag, r160_in1k@COMMIT$"):
        pinned("test_resnet", "")
