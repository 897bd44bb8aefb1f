"""Every network of the registry: one interface, trained, distilled into, quantized, evaluated, saved and loaded."""

from pathlib import Path

import pytest
import torch
from torch import nn

from kdq import models
from kdq.distill.stage import distill
from kdq.errors import UserError
from kdq.evaluate.stage import evaluate
from kdq.models import file as model_file
from kdq.models import registry
from kdq.models.fold import fold_batchnorm
from kdq.models.networks.vgg import VGG
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import quantize_stage
from kdq.recipe.stages import find_stages
from kdq.roots.sources.hub import compare
from kdq.train.stage import save, train_root

NEW = ("wrn16-2", "wrn10-1", "mobilenetv2", "vgg16_bn")
NAMES = ("resnet18", "resnet50", *NEW)
SMALL = {"wrn16-2": 0.125, "wrn10-1": 0.25}  # 2 to 16 channels
PIXELS = {"mean": [0.2, 0.4, 0.6], "std": [0.5, 0.6, 0.7]}
HEADER = {"recipe": "hard", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
CPU = torch.device("cpu")
STAGES = find_stages(Path(registry.__file__).parents[1])
METHODS = [name for name, stage in STAGES.items() if stage.kind.name == "distill"]


@pytest.fixture
def small(build):
    """A tiny network whose BatchNorm statistics are not the identity, in eval mode."""

    def small(name, **changes):
        network = build(name, **{"width": SMALL.get(name, 0.0625), **changes})
        generator = torch.Generator().manual_seed(0)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=generator).mul_(0.1)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
        return network.eval()

    return small


class TestPublished:
    @pytest.mark.parametrize(
        ("name", "parameters"),
        [("wrn16-2", 691_674), ("wrn40-2", 2_243_546), ("wrn28-10", 36_479_194), ("wrn40-1", 563_930)],
    )
    def test_parameters_of_wide_residual_networks(self, name, parameters):
        with torch.device("meta"):
            network = registry.build(name, classes=10, channels=3, stem="cifar", width=1.0, **PIXELS)
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters

    @pytest.mark.parametrize("factor", [1, 2])
    def test_a_wide_residual_network_is_the_published_function(self, factor):
        """The published blocks, written as in the paper's own code, with the same weights."""
        name = f"wrn16-{factor}"
        network = registry.build(name, classes=10, channels=3, stem="cifar", width=0.25, **PIXELS).eval()
        images = torch.rand(3, 3, 16, 16)
        with torch.no_grad():
            x = network.conv1((images - network.mean) / network.std)
            norm = network.bn1
            for block in network.blocks:
                first = (block.bn0 if isinstance(norm, nn.Identity) else norm)(x).relu()
                branch = block.conv2(block.bn1(block.conv1(first)).relu())
                changes = isinstance(block.shortcut, nn.Conv2d)
                x, norm = branch + (block.shortcut(first) if changes else x), block.norm
            logits = network.fc(norm(x).relu().mean((2, 3)))
            torch.testing.assert_close(network(images), logits)

    def test_mobilenetv2_is_torchvisions(self, build):
        torchvision = pytest.importorskip("torchvision")
        theirs = torchvision.models.mobilenet_v2()
        generator = torch.Generator().manual_seed(0)
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=generator).mul_(0.1)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
            elif isinstance(module, nn.Linear):
                module.weight.data.normal_(generator=generator)
        ours = build("mobilenetv2", classes=1000, channels=3, stem="imagenet", width=1.0, mean=[0.0] * 3, std=[1.0] * 3)
        assert sum(parameter.numel() for parameter in ours.parameters()) == 3_504_872
        ours.load_state_dict(theirs.state_dict(), strict=True)
        theirs.load_state_dict(ours.state_dict(), strict=True)
        images = torch.rand(2, 3, 64, 64, generator=generator)
        with torch.no_grad():
            expected = theirs.eval()(images)
            assert expected.std() > 1e-3
            torch.testing.assert_close(ours.eval()(images), expected)

    def test_vgg16_is_torchvisions_convolutions_and_one_linear_layer(self, build):
        torchvision = pytest.importorskip("torchvision")
        theirs = torchvision.models.vgg16_bn().features.eval()
        ours = build("vgg16_bn", channels=3, width=1.0, mean=[0.0] * 3, std=[1.0] * 3).eval()
        assert sum(parameter.numel() for parameter in ours.parameters()) == 14_724_042
        kinds = nn.Conv2d | nn.BatchNorm2d
        layers = ([module for module in network.modules() if isinstance(module, kinds)] for network in (theirs, ours))
        for source, target in zip(*layers, strict=True):
            target.load_state_dict({name: source.state_dict()[name] for name in target.state_dict()})
            if isinstance(source, nn.Conv2d):
                nn.init.zeros_(source.bias)
        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = theirs(images).flatten(1)
            torch.testing.assert_close(ours(images, taps=("embedding",))[1]["embedding"], expected)


class TestInterface:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("stem", ["cifar", "imagenet"])
    def test_taps_are_what_the_network_computes_with(self, small, name, stem):
        network, images = small(name, stem=stem), torch.rand(2, 1, 32, 32)
        with torch.no_grad():
            logits, features = network(images, taps=network.taps)
            assert torch.equal(logits, network(images))
            assert torch.equal(logits, network.last_layer(features["embedding"]))
            assert torch.equal(logits, network.head(features[network.stages[-1]]))
            for name in network.stages:
                assert torch.equal(features[name], network.activate(features[f"{name}.preactivation"].clone()))
        sides = [features[name].shape[2] for name in network.stages]
        assert sides == [sides[0] // 2**index for index in range(len(sides))]
        assert sides[0] == (8 if stem == "imagenet" and not isinstance(network, VGG) else 32)

    @pytest.mark.parametrize("name", NAMES)
    def test_the_blocks_in_order_are_the_network(self, small, name):
        network, images = small(name), torch.rand(2, 1, 16, 16)
        with torch.no_grad():
            x = network.enter(images)
            for block in network.blocks:
                x = block(x)
            assert torch.equal(network.head(x), network(images))

    @pytest.mark.parametrize("name", NAMES)
    def test_the_tail_is_all_behind_the_last_stage_but_one(self, small, name):
        network = small(name)
        network(torch.rand(2, 1, 16, 16), taps=(network.stages[-2],))[1][network.stages[-2]].sum().backward()
        before = {key for key, value in network.named_parameters() if value.grad is not None}
        assert not before & network.tail_parameters().keys()
        assert before | network.tail_parameters().keys() == dict(network.named_parameters()).keys()

    @pytest.mark.parametrize("name", NAMES)
    def test_folding_keeps_the_function_and_removes_norms_behind_convolutions(self, small, name):
        network, images = small(name), torch.rand(2, 1, 16, 16)
        folded = fold_batchnorm(network)
        with torch.no_grad():
            torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-4)
        left = [key for key, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
        assert all(key.endswith(("bn0", "norm")) for key in left) and bool(left) == name.startswith("wrn")

    @pytest.mark.parametrize("name", NAMES)
    def test_the_outline_is_that_of_the_network(self, small, name):
        head = {"widths": [7, 5], "activations": [{"mean": 0.0}] * 2}
        for changes in ({}, {"head": head}, {"stem": "imagenet", "width": 0.25}):
            network = small(name, **changes)
            state = network.state_dict()
            for tensor, shape in registry.outline(**network.architecture).items():
                assert state[tensor].shape == shape

    def test_a_name_that_is_none_is_refused(self):
        for name in ("wrn17-2", "wrn4-1", "wrn016-2", "mobilenet", "transformers"):
            with pytest.raises(ValueError, match="one of mobilenetv2, resnet18, "):
                registry.trainable(name)
        assert registry.trainable("wrn22-4") == "wrn22-4"
        with pytest.raises(UserError, match="'mobilenetv3' does not exist, expected .*did you mean 'mobilenetv2'"):
            registry.build("mobilenetv3")

    def test_a_checkpoint_of_other_classes_is_refused_by_the_classifiers_name(self, small, tmp_path):
        keys = {"architecture": "mobilenetv2", "stem": "cifar", "width": 0.0625}
        five, ten = (small("mobilenetv2", classes=count).state_dict() for count in (5, 10))
        compare(tmp_path, ten, ten, ["a"] * 10, keys)
        with pytest.raises(UserError, match="a network of 5 classes, the data set has 10"):
            compare(tmp_path, five, ten, ["a"] * 10, keys)


@pytest.fixture
def places(tmp_path):
    return {"seed": 0, "threads": 1, "checkpoint": tmp_path / "checkpoint.pt", "identity": "", "log": print}


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("method", ["rtn", "gpfq"])
def test_a_network_is_trained_quantized_evaluated_and_loaded(few, training_keys, places, tmp_path, name, method):
    keys = training_keys(architecture=name, width=SMALL.get(name, 0.0625), label_smoothing=0.0)
    root = train_root(few, keys, **places)
    path, images = tmp_path / "model.safetensors", few.test.images[:8].float() / 255
    save(path, tmp_path / "history.csv", root, **HEADER)
    network = models.load(path)
    with torch.no_grad():
        torch.testing.assert_close(network(images), root.network.eval()(images))
    quantizer = quantizer_of(f"kdq.quantize.methods.{method}", {"bits": 4, "images": 32}, 0)
    codes = quantize_stage(network, few, quantizer, seed=0, device=CPU, log=print)
    assert codes.keys() == {key for key, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    model_file.save(path, network, root.architecture, codes, **HEADER)
    metrics, _ = evaluate(model_file.read(path), path, few, None, CPU)
    with torch.no_grad():
        torch.testing.assert_close(models.load(path)(images), network.eval()(images))
    assert metrics["nominal_bits"] <= 4 and metrics["parameters"] == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_distils_into_a_network_from_one_of_its_kind_and_from_a_resnet(
    few, small, training_keys, places, name, method
):
    own = STAGES[method].keys(epochs=2)
    # the embeddings of an untrained MobileNetV2 hardly differ: relations of them are steep
    rate = 0.001 if name == "mobilenetv2" else 0.1
    keys = training_keys(architecture=name, width=SMALL.get(name, 0.0625), learning_rate=rate) | {
        key: value for key, value in own if key not in training_keys()
    }
    for teacher in (small(name), small("resnet18")):
        student = distill(few, teacher, STAGES[method].module, keys, **places)
        places["checkpoint"].unlink(missing_ok=True)
        assert student.architecture["architecture"] == name
        assert all(value == value for row in student.history for value in row.values())
