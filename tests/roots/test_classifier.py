"""A teacher from transformers: it sees what its own image processor shows it, and does all that a root does."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdq import models
from kdq.data.batches import to_float
from kdq.data.prepared import Prepared, Split
from kdq.distill.stage import distill
from kdq.errors import UserError
from kdq.evaluate.stage import evaluate
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.networks.huggingface import preprocess
from kdq.quantize.methods import gpfq
from kdq.quantize.stage import quantize_stage
from kdq.roots.sources import huggingface as classifier
from kdq.roots.sources import importer
from tests.roots.hub import COMMIT

transformers = pytest.importorskip("transformers")

CLASSES = ("airplane", "automobile", "bird", "cat")
STATISTICS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
HEADER = {"recipe": "teacher", "dataset": "cifar10", "seed": 0, "keys": {}, "provenance": {}}


def labels(names=CLASSES) -> dict:
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def vit(folder, processor=None, **changes):
    """Save a tiny vision transformer for images of 16 x 16, and its processor."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    # weights of such a size that the images matter
    config = transformers.ViTConfig(
        image_size=16, patch_size=4, initializer_range=0.3, **{**sizes, **labels(), **changes}
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    (processor or transformers.ViTImageProcessor(size=size, **STATISTICS)).save_pretrained(folder)


def resnet(folder, processor=None, **changes):
    """Save a tiny ResNet with statistics that are not the identity, and its processor, which crops."""
    torch.manual_seed(3)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="bottleneck", **{**labels(), **changes}
    )
    network = transformers.ResNetForImageClassification(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    network.save_pretrained(folder)
    (processor or transformers.ConvNextImageProcessor(size={"shortest_edge": 48}, **STATISTICS)).save_pretrained(folder)


MODELS = {"vit": vit, "resnet": resnet}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "published"


@pytest.fixture(scope="module")
def photos() -> Prepared:
    """Images in three channels, 32 x 32, smooth as photographs are, of four classes."""
    generator = torch.Generator().manual_seed(0)
    coarse = 0.2 + 0.6 * torch.rand(24, 3, 6, 6, generator=generator)  # a bicubic filter overshoots, but not 0 .. 1
    images = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear").mul(255).round().to(torch.uint8)
    part = Split(images, torch.arange(24) % 4)
    return Prepared(part, part, part, list(CLASSES), [0.5] * 3, [0.25] * 3, "cifar10", {}, 0)


def local(folder, **changes) -> dict:
    """The resolved keys of a teacher from a local folder."""
    return {"source": "transformers", "folder": str(folder), "file": "", "sha256": "", "labels": "names", **changes}


def load(photos, keys):
    """Return network, architecture and the path of the weights."""
    network, architecture, paths = importer(keys["source"])(photos, keys, print)
    return network, architecture, paths["weights"]


def refused(photos, keys, *messages):
    with pytest.raises(UserError) as caught:
        load(photos, keys)
    text = str(caught.value)
    assert "\n" not in text
    for message in messages:
        assert message in text, text


def own(folder):
    """The model and its processor as their library loads them."""
    network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    return network, transformers.AutoImageProcessor.from_pretrained(folder)


class TestLogits:
    @pytest.mark.parametrize("name", MODELS)
    @torch.no_grad()
    def test_are_those_of_the_model_with_its_own_processor(self, photos, folder, no_network, name):
        MODELS[name](folder)
        network = load(photos, local(folder))[0]
        theirs, processor = own(folder)
        images = to_float(photos.test.images)
        pixels = processor(list(images), do_rescale=False, return_tensors="pt")["pixel_values"]
        expected = theirs(pixels).logits
        assert expected.std(0).min() > 1e-3, "the images matter"
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", MODELS)
    @torch.no_grad()
    def test_are_close_to_those_of_images_of_whole_grey_levels(self, photos, folder, name):
        MODELS[name](folder)
        network = load(photos, local(folder))[0]
        theirs, processor = own(folder)
        expected = theirs(processor(list(photos.test.images), return_tensors="pt")["pixel_values"]).logits
        found = network(to_float(photos.test.images))
        assert (found - expected).abs().max() < 0.05 * expected.std()

    def test_an_image_of_the_right_size_is_not_resampled(self):
        images = torch.rand(2, 3, 16, 16)
        assert torch.equal(preprocess(images, [16, 16], "bicubic", [16, 16]), images)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("resample", ["nearest-exact", "bilinear", "bicubic"])
    def test_a_constant_image_stays_constant(self, resample, dtype):
        images = torch.full((1, 3, 8, 8), 0.3, dtype=dtype)
        torch.testing.assert_close(
            preprocess(images, [20, 20], resample, [12, 12]), torch.full((1, 3, 12, 12), 0.3, dtype=dtype)
        )

    def test_half_precision_is_loaded_as_single(self, photos, folder):
        vit(folder)
        state = load_file(folder / "model.safetensors")
        save_file({name: value.half() for name, value in state.items()}, folder / "model.safetensors", {"format": "pt"})
        network = load(photos, local(folder))[0]
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


class TestProcessors:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: transformers.DeiTImageProcessor(
                size={"height": 20, "width": 20}, crop_size={"height": 16, "width": 16}, **STATISTICS
            ),
            lambda: transformers.BitImageProcessor(
                size={"shortest_edge": 18}, crop_size={"height": 16, "width": 16}, resample=2, **STATISTICS
            ),
            lambda: transformers.ViTImageProcessor(size={"height": 16, "width": 16}, do_normalize=False),
            lambda: transformers.ViTImageProcessor(
                size={"height": 16, "width": 16}, rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3
            ),
            lambda: transformers.ViTImageProcessor(size={"height": 16, "width": 16}, resample=0),
        ],
        ids=["resize and crop", "shortest edge", "not normalised", "scaled to -1..1", "nearest"],
    )
    @torch.no_grad()
    def test_are_followed(self, photos, folder, make):
        vit(folder, make())
        network = load(photos, local(folder))[0]
        theirs = own(folder)[1](list(photos.test.images), return_tensors="pt")["pixel_values"]
        ours = network.pixels(to_float(photos.test.images))
        assert ours.shape == theirs.shape
        assert ((ours - theirs) * network.std).abs().max() * 255 <= 2

    def test_one_that_does_more_is_refused(self, photos, folder):
        size = {"height": 16, "width": 16}
        vit(folder, transformers.PerceiverImageProcessor(size=size, crop_size={"height": 20, "width": 20}))
        refused(photos, local(folder), "PerceiverImageProcessor: gives (16, 3, 16, 16)", "which is not supported")

    def test_a_filter_that_is_not_known_is_refused(self, photos, folder):
        vit(folder, transformers.ViTImageProcessor(size={"height": 16, "width": 16}, resample=1))
        refused(photos, local(folder), "ViTImageProcessor: size", "resample 1")

    def test_a_folder_without_one_is_refused(self, photos, folder):
        vit(folder)
        (folder / "preprocessor_config.json").unlink()
        refused(photos, local(folder), "has no file preprocessor_config.json")

    def test_one_for_images_of_another_size_than_the_model_is_refused(self, photos, folder):
        vit(folder, transformers.ViTImageProcessor(size={"height": 24, "width": 24}, **STATISTICS))
        refused(photos, local(folder), "do not fit together", "24*24")
        vit(folder, transformers.ViTImageProcessor(size={"height": 10**6, "width": 16}, **STATISTICS))
        refused(photos, local(folder), "expected at most 4096 pixels a side")

    def test_code_of_a_hub_to_compute_with_is_refused(self, photos, folder):
        vit(folder)
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"attn_implementation": "owner/kernel"}))
        refused(photos, local(folder), "attn_implementation: found 'owner/kernel'")

    def test_a_broken_one_is_refused(self, photos, folder):
        vit(folder)
        (folder / "preprocessor_config.json").write_text("{")
        refused(photos, local(folder), "preprocessor_config.json: can't be read as JSON")


class TestClasses:
    def test_another_number(self, photos, folder):
        vit(folder, **labels([*CLASSES, "deer"]))
        refused(photos, local(folder), "a model of 5 classes, the data set has 4")

    def test_another_order_is_refused_whatever_the_keys_say(self, photos, folder):
        vit(folder, **labels(["airplane", "bird", "automobile", "cat"]))
        for order in ("names", "order"):
            message = "the same classes in another order: class 1 is 'bird', the data set's is 'automobile'"
            refused(photos, local(folder, labels=order), message)

    def test_case_and_spaces_do_not_matter(self, photos, folder):
        vit(folder, **labels(["Polar bear", "automobile", "BIRD", "cat"]))
        network, _, _ = load(replace(photos, classes=["polar_bear", *CLASSES[1:]]), local(folder))
        assert not network.training

    @pytest.mark.parametrize(
        "names", [["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"], ["airplane", "car", "bird", "cat"]]
    )
    def test_other_names_are_believed_only_when_told_to(self, photos, folder, names):
        vit(folder, **labels(names))
        refused(photos, local(folder), "other classes: class ", "labels=order accepts the order")
        assert load(photos, local(folder, labels="order"))[1]["config"]["id2label"]["0"] == names[0]

    def test_other_channels(self, photos, folder):
        vit(folder, num_channels=1)
        refused(photos, local(folder), "for images of 1 channels, the data set's have 3")


class TestTensors:
    @pytest.fixture
    def saved(self, photos, folder):
        """Refuse the weights after a change."""

        def saved(change, *messages):
            vit(folder)
            state = load_file(folder / "model.safetensors")
            change(state)
            save_file(state, folder / "model.safetensors", {"format": "pt"})
            refused(photos, local(folder), *messages)

        return saved

    def test_one_is_missing(self, saved):
        saved(lambda state: state.pop("classifier.weight"), "the tensor classifier.weight is missing (1 in all")

    def test_one_too_many(self, saved):
        saved(lambda state: state.update(more=torch.zeros(1)), "the tensor more is unexpected (1 in all")

    def test_one_of_another_shape_is_never_left_random(self, saved):
        saved(
            lambda state: state.update({"classifier.bias": torch.zeros(7)}), "do not fit config.json (of other shapes)"
        )

    def test_tied_ones_are_refused(self, photos, folder, monkeypatch):
        """They would end in a traceback when the model is saved, and in a weight that can't be quantized."""
        read = classifier.read_weights

        def tied(*arguments):
            network = read(*arguments)
            first, second = network.vit.layers[:2]
            second.mlp.fc1.weight = first.mlp.fc1.weight
            return network

        vit(folder)
        monkeypatch.setattr(classifier, "read_weights", tied)
        refused(photos, local(folder), "vit.layers.0.mlp.fc1.weight and vit.layers.1.mlp.fc1.weight are one (tied)")

    def test_no_weights_at_all(self, photos, folder):
        vit(folder)
        (folder / "model.safetensors").write_bytes(b"\0" * 100)
        refused(photos, local(folder), "model.safetensors: ")

    def test_a_file_of_another_name(self, photos, folder):
        vit(folder)
        refused(photos, local(folder, file="best.safetensors"), "file: found 'best.safetensors', expected one of")

    def test_the_file_that_torch_wrote(self, photos, folder):
        vit(folder)
        state = load_file(folder / "model.safetensors")
        torch.save(state, folder / "pytorch_model.bin")
        save_file({"other": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
        network, _, path = load(photos, local(folder, file="pytorch_model.bin"))
        assert path.name == "pytorch_model.bin"
        assert torch.equal(network.network.classifier.weight, state["classifier.weight"])


class TestHub:
    def keys(self, **changes) -> dict:
        return local("", repository="owner/name", revision=COMMIT, **changes)

    def test_cold_then_warm(self, photos, folder, hub):
        vit(folder)
        hub.offer(folder)
        first = load(photos, self.keys())[0]
        assert len(hub.asked) == 3
        hub.stop()
        again, architecture, _ = load(photos, self.keys())
        assert len(hub.asked) == 3
        hub.start()
        assert all(torch.equal(value, first.state_dict()[key]) for key, value in again.state_dict().items())
        assert str(folder.parent) not in json.dumps(architecture), "no path of this machine"

    def test_without_a_processor(self, photos, folder, hub):
        vit(folder)
        (folder / "preprocessor_config.json").unlink()
        hub.offer(folder)
        refused(photos, self.keys(), "file preprocessor_config.json: not to be downloaded")

    def test_another_checksum(self, photos, folder, hub):
        vit(folder)
        hub.offer(folder)
        refused(photos, self.keys(sha256="0" * 64), "expected SHA-256 000")


class TestDownstream:
    """What a workflow does with a root."""

    @pytest.fixture(params=MODELS)
    def model(self, request, photos, folder, tmp_path):
        """A model file as the root leaves it, and the network in it."""
        MODELS[request.param](folder)
        network, architecture, _ = load(photos, local(folder))
        path = tmp_path / "model.safetensors"
        model_file.save(path, network, architecture, Codes(), **HEADER)
        return path, network

    @torch.no_grad()
    def test_the_model_file_holds_it(self, model, photos):
        path, network = model
        images = to_float(photos.test.images)
        assert torch.equal(models.load(path)(images), network(images))

    @torch.no_grad()
    def test_evaluate(self, model, photos):
        path, network = model
        metrics, predictions = evaluate(model_file.read(path), path, photos, None, torch.device("cpu"))
        expected = network(to_float(photos.test.images)).argmax(1)
        assert torch.equal(predictions["test_class"].long(), expected)
        assert metrics["parameters"] == sum(parameter.numel() for parameter in network.parameters())

    @torch.no_grad()
    def test_quantize(self, model, photos, tmp_path):
        """All layers at 8 bits change the logits a little, and the file holds the very network that was quantized."""
        path, network = model
        parent = model_file.read(path)
        quantized = model_file.to_network(parent, path)
        keys = gpfq.Parameters(bits=8)
        codes = quantize_stage(quantized, photos, gpfq.GPFQ(keys), seed=0, device=torch.device("cpu"), log=print)
        layers = [
            name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        ]
        assert sorted(codes) == sorted(layers)
        architecture = parent.header["architecture"]
        model_file.save(tmp_path / "quantized", quantized, architecture, codes, **{**HEADER, "recipe": "teacher/gpfq"})
        images = to_float(photos.test.images)
        again = models.load(tmp_path / "quantized")(images)
        assert torch.equal(again, quantized(images))
        expected = network(images)
        assert 0 < (again - expected).abs().max() < 0.2 * expected.std()
        assert (tmp_path / "quantized").stat().st_size < path.stat().st_size

    def test_distill(self, model, photos, training_keys, tmp_path):
        teacher = models.load(model[0])
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        keys = training_keys(
            temperature=4.0, label_weight=0.0, distillation_weight=1.0, loss="kl", batch_size=8, epochs=8
        )
        places = {"seed": 0, "threads": 1, "checkpoint": tmp_path / "checkpoint", "identity": "", "log": print}
        history = distill(photos, teacher, "kdq.distill.methods.kd", keys, **places).history
        assert history[-1]["loss_distillation"] < 0.7 * history[0]["loss_distillation"]
        assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())

    def test_features_are_refused(self, model, photos):
        with pytest.raises(UserError, match="gives no features .layer3, embedding., logits alone; expected a network"):
            model[1](to_float(photos.test.images), taps=("layer3", "embedding"))

    @pytest.mark.parametrize("change", [{"model_type": "vitt"}, {"hidden_size": "wide"}, {"image_size": None}])
    def test_a_broken_description_is_one_line(self, photos, folder, tmp_path, change):
        vit(folder)
        network, architecture, _ = load(photos, local(folder))
        architecture["config"] |= change
        model_file.save(tmp_path / "model", network, architecture, Codes(), **HEADER)
        with pytest.raises(UserError) as caught:
            models.load(tmp_path / "model")
        assert str(tmp_path / "model") in str(caught.value) and "\n" not in str(caught.value)
