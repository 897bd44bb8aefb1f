"""Image processors of transformers: what the network sees is what the processor itself would show it."""

import json
from itertools import product

import pytest
import torch

from kdq import models
from kdq.data.batches import to_float
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.networks.huggingface import Pretrained
from kdq.roots.sources import importer
from kdq.roots.sources.image_processor import check_preprocessing, read_preprocessing
from tests.roots.test_classifier import HEADER, STATISTICS, folder, labels, local, own, photos, vit  # noqa: F401

transformers = pytest.importorskip("transformers")

SQUARE = {"height": 16, "width": 16}
EDGE = {"shortest_edge": 17}
TALL = {"height": 22, "width": 20}
OF_EFFICIENTNET = [
    (
        "EfficientNet",
        {"size": {"height": 20, "width": 20}, "crop_size": SQUARE, "do_center_crop": offset}
        | {"rescale_offset": offset, "include_top": top, "do_normalize": normalize, "rescale_factor": factor},
    )
    for offset, top, normalize, factor in product((False, True), (False, True), (False, True), (1 / 255, 1 / 127.5))
]
FOLLOWED = [
    *OF_EFFICIENTNET,
    ("EfficientNet", {"size": SQUARE, "do_rescale": False, "rescale_offset": True}),
    ("Levit", {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}),
    ("Levit", {"size": {"height": 28, "width": 30}, "crop_size": SQUARE}),
    ("MobileViT", {"size": {"shortest_edge": 20}, "crop_size": SQUARE}),
    ("MobileViT", {"size": EDGE, "crop_size": TALL}),  # a margin
    ("MobileViT", {"size": EDGE, "crop_size": SQUARE, "do_normalize": True}),  # which it does not
    ("MobileViT", {"size": EDGE, "crop_size": SQUARE, "do_flip_channel_order": False}),
    ("PoolFormer", {"size": {"shortest_edge": 400}, "crop_size": SQUARE}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("ConvNext", {"size": {"shortest_edge": 24}, "do_center_crop": True, "crop_size": SQUARE}),
    ("ViT", {"size": SQUARE, "image_mean": 0.5, "image_std": 0.25}),
]
REFUSED = [
    ("Perceiver", {"size": SQUARE, "crop_size": {"height": 20, "width": 20}}, "PerceiverImageProcessor: gives"),
    ("PoolFormer", {"size": SQUARE, "crop_size": SQUARE}, "PoolFormerImageProcessor: gives"),
    ("Siglip2", {}, "Siglip2ImageProcessor: size None: no known way"),
    ("ImageGPT", {}, "ImageGPTImageProcessor: does not take the data set's images"),
    ("ViT", {"size": {"shortest_edge": 16, "longest_edge": 20}}, "ViTImageProcessor: size .*: no known way"),
    ("ViT", {"size": {"height": 0, "width": 16}}, "size: found .*, expected a height in pixels"),
    ("ViT", {"size": SQUARE, "resample": 1}, "resample 1: no known way"),
    ("ViT", {"size": SQUARE, "image_mean": None}, "ViTImageProcessor: image_mean: found None, expected a finite"),
    ("ViT", {"size": SQUARE, "image_mean": [0.5]}, "image_mean: 1 values, expected 3, one per channel"),
    ("ViT", {"size": SQUARE, "image_mean": ["a"] * 3}, "image_mean: found 'a', expected a finite number"),
    ("ViT", {"size": SQUARE, "image_std": [0.5, 0, 0.5]}, "image_std: found 0.0, expected a number above 0"),
    ("ViT", {"size": SQUARE, "rescale_factor": 0}, "rescale_factor: found 0, expected a number above 0"),
    ("ViT", {"size": SQUARE, "rescale_factor": None}, "rescale_factor: found None, expected a finite number"),
    ("ConvNext", {"size": {"shortest_edge": 16}, "crop_pct": 0}, "crop_pct: found 0, expected a number above 0"),
    ("Levit", {"size": EDGE, "crop_size": None}, "crop_size: found .*, expected a height in pixels"),
]


def made(name, **settings):
    """A processor by the name of its model."""
    return getattr(transformers, f"{name}ImageProcessor")(**{**STATISTICS, **settings})


@pytest.fixture(params=[(32, 32), (30, 43)], ids=["square", "wide"])
def images(request):
    """Noise, in which every step shows."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (4, 3, *request.param), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("name", "settings"), FOLLOWED)
def test_are_followed(images, name, settings):
    processor = made(name, **settings)
    network = Pretrained(torch.nn.Identity(), **read_preprocessing(processor, images))
    theirs = processor(list(images), return_tensors="pt")["pixel_values"]
    ours = network.pixels(to_float(images))
    assert ours.shape == theirs.shape
    assert ((ours - theirs) * network.std).abs().max() * 255 <= 2  # grey levels
    check_preprocessing(network, processor, images)


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED)
def test_are_refused(images, name, settings, message):
    processor = made(name, **settings)
    with pytest.raises(UserError, match=message) as caught:
        steps = read_preprocessing(processor, images)
        check_preprocessing(Pretrained(torch.nn.Identity(), **steps), processor, images)
    assert "\n" not in str(caught.value)


def test_dark_images_prove_nothing(images):
    """Noise is compared too: black images are the same in any order of channels."""
    processor = made("MobileViT", size=EDGE, crop_size=SQUARE)
    steps = read_preprocessing(processor, images) | {"flip_channels": False}
    with pytest.raises(UserError, match="grey levels from"):
        check_preprocessing(Pretrained(torch.nn.Identity(), **steps), processor, torch.zeros_like(images))


EFFICIENTNET = {"hidden_dim": 320, "image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25}
LEVIT = {"image_size": 64, "num_attention_heads": [1, 2, 2], "depths": [1, 1, 1], "key_dim": [4, 4, 4]}
MOBILEVIT = {"image_size": 32, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 32]}
NETWORKS = [
    ("EfficientNet", EFFICIENTNET, {"size": {"height": 32, "width": 32}, "rescale_offset": True}),
    (
        "Levit",
        {**LEVIT, "hidden_sizes": [16, 24, 32], "down_ops": [["Subsample", 4, 4, 4, 2, 2]] * 2},
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
    ),
    (
        "MobileViT",
        {**MOBILEVIT, "num_attention_heads": 2, "last_hidden_size": 32},
        {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    ),
]


@pytest.mark.parametrize(("name", "sizes", "settings"), NETWORKS, ids=[name for name, *_ in NETWORKS])
@torch.no_grad()
def test_whole_networks_give_their_own_logits(photos, folder, no_network, tmp_path, name, sizes, settings):  # noqa: F811
    torch.manual_seed(3)
    config = getattr(transformers, f"{name}Config")(**{**sizes, **labels()})
    network = getattr(transformers, f"{name}ForImageClassification")(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.momentum = 1.0
    side = config.image_size
    network.train()(torch.randn(16, 3, side, side))  # statistics of activations, so that the images matter
    network.save_pretrained(folder)
    made(name, **settings).save_pretrained(folder)
    ours, architecture, _ = importer("transformers")(photos, local(folder), print)
    theirs, processor = own(folder)
    images = photos.test.images
    # as floats, so that theirs are not rounded in between
    expected = theirs(processor(list(images.float()), return_tensors="pt")["pixel_values"]).logits
    found = ours(to_float(images))
    assert expected.std(0).min() > 0.05 * expected.std() > 0, "the images matter"
    assert (found - expected).abs().max() < 1e-3 * expected.std()
    model_file.save(tmp_path / "model", ours, architecture, Codes(), **HEADER)
    assert torch.equal(models.load(tmp_path / "model")(to_float(images)), found)


def test_a_file_beside_them_is_not_read(photos, folder):  # noqa: F811
    """The library prefers ``processor_config.json``, which is no file of what the model is known to be made from."""
    vit(folder)
    nested = {"image_processor": {"image_processor_type": "ViTImageProcessor", "size": SQUARE, "image_mean": [0.9] * 3}}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    network = importer("transformers")(photos, local(folder), print)[0]
    assert network.mean.flatten().tolist() == pytest.approx(STATISTICS["image_mean"])
