"""Channel pruning: the network that slicing by hand gives, smaller for real, saved and loaded again."""

import copy

import pytest
import torch
from torch import nn

from kdq.errors import UserError
from kdq.models import channels, masks, registry
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.prune.methods.channels import executed, prune
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.train.stage import save
from tests.prune.test_pruning import quantized_from
from tests.retrain.conftest import HEADER

IMAGE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def filled(network):
    """Give BatchNorms statistics of their own, so that no channel is like another."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean):
                value.data.uniform_(-1, 1)
            module.running_var.data.uniform_(0.5, 2)
    return network.eval()


def grouped(groups: int, rows: int) -> nn.Module:
    """Return a network with a grouped convolution of 16 channels to ``rows``."""
    layers = nn.Conv2d(1, 16, 3), nn.Conv2d(16, rows, 3, groups=groups), nn.Conv2d(rows, 12, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


class TestNetwork:
    def test_is_that_of_slicing_by_hand(self, build):
        """Only the channels within the blocks are free if all that block outputs are made of is kept."""
        network = filled(build(width=0.25))
        whole = copy.deepcopy(network)
        keep = [
            name for name, _ in whole.named_modules() if name.endswith(("conv2", "downsample.0")) or name == "conv1"
        ]
        prune(network, IMAGE, 0.5, keep=keep)
        for name, block in ((name, module) for name, module in whole.named_modules() if hasattr(module, "conv2")):
            weight, scale = block.conv1.weight, block.bn1
            norms = sum(part.flatten(1).square().sum(1) for part in (weight, block.conv2.weight.transpose(0, 1)))
            norms = norms + scale.weight.square()
            left = norms.argsort()[len(norms) // 2 :].sort().values
            here = network.get_submodule(name)
            torch.testing.assert_close(here.conv1.weight, weight[left])
            torch.testing.assert_close(here.conv2.weight, block.conv2.weight[:, left])
            for key in ("weight", "bias", "running_mean", "running_var"):
                torch.testing.assert_close(getattr(here.bn1, key), getattr(scale, key)[left])
            # the same as without the others' contributions
            gone = [channel for channel in range(len(norms)) if channel not in left]
            block.conv2.weight.data[:, gone] = 0
        torch.testing.assert_close(network(IMAGE), whole(IMAGE), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "wrn16-2", "mobilenetv2"])
    def test_is_smaller_and_comes_back_from_its_file(self, build, architecture, tmp_path):
        network = filled(build(architecture, width=0.5))
        before, classes = channels.shapes_of(network), network.last_layer.out_features
        parameters = sum(value.numel() for value in network.parameters())
        prune(network, IMAGE, 0.5)
        left = sum(value.numel() for value in network.parameters())
        assert left < 0.4 * parameters and network.last_layer.out_features == classes
        path, described = tmp_path / "model.safetensors", channels.described(network.architecture, network, before)
        model_file.save(path, network, described, Codes(), **HEADER)
        loaded = model_file.load(path)
        torch.testing.assert_close(loaded(IMAGE), network(IMAGE))
        assert path.stat().st_size < 4.2 * left + 60_000  # running statistics, and the header

    @pytest.mark.parametrize(
        "architecture", ["torchvision/resnet18", "torchvision/mobilenet_v3_small", "timm/mobilenetv3_small_050"]
    )
    def test_of_a_library_comes_back_from_its_file(self, architecture, tmp_path):
        size = {"classes": 7, "channels": 3, "side": 64, "mean": [0.5] * 3, "std": [0.5] * 3}
        network = registry.build(**registry.described({"architecture": architecture}, **size)).eval()
        image, before = torch.rand(1, 3, 64, 64), channels.shapes_of(network)
        prune(network, image, 0.5)
        described, path = channels.described(network.architecture, network, before), tmp_path / "model.safetensors"
        model_file.save(path, network, described, Codes(), **HEADER)
        loaded = model_file.load(path)
        torch.testing.assert_close(loaded(image), network(image))
        assert loaded.architecture == described

    @pytest.mark.parametrize(("ratio", "multiple"), [(0.95, 1), (0.5, 100)])
    def test_that_would_lose_a_layer_is_refused(self, build, ratio, multiple):
        expected = rf"ratio: found {ratio} beside multiple={multiple}, which leave none of the \d+ channels of "
        with pytest.raises(UserError, match=expected):
            prune(build().eval(), IMAGE, ratio, multiple)

    @pytest.mark.parametrize(("ratio", "left"), [(0.8, 4), (0.9, 2), (0.25, 15)])
    def test_has_the_share_asked_for_whose_complement_is_no_float(self, build, ratio, left):
        network = build("vgg16_bn", width=20 / 64).eval()
        prune(network, IMAGE, ratio)
        rows = [len(layer.weight) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        assert rows[:4] == [left, left, 2 * left, 2 * left] and set(rows[4:]) == {4 * left, 8 * left}

    def test_of_groups_that_would_lose_all_is_refused(self):
        with pytest.raises(UserError, match="none of the 4 channels of 1 in each of its 4 groups"):
            prune(grouped(4, 16).eval(), IMAGE, 0.9)
        network = grouped(4, 16).eval()
        prune(network, IMAGE, 0.5)
        assert network[1].weight.shape == (8, 2, 3, 3) and network(IMAGE).shape == (1, 10)

    def test_that_could_not_run_is_refused(self):
        """torch-pruning takes a layer of one output channel per group, with several inputs, for depthwise."""
        with pytest.raises(UserError, match="the channels of Sequential can't be pruned by torch-pruning"):
            prune(grouped(4, 4).eval(), IMAGE, 0.5)

    def test_leaves_multiples(self, build):
        network = build(width=0.5)
        prune(network, IMAGE, 0.4, multiple=8)
        rows = [len(layer.weight) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
        assert all(count % 8 == 0 for count in rows) and min(rows) < 32

    def test_leaves_what_is_kept(self, build):
        network = build(width=0.5)
        prune(network, IMAGE, 0.5, keep=["layer1.0.conv1", "layer4.1.conv2"])
        assert len(network.layer1[0].conv1.weight) == 32 and len(network.layer4[1].conv2.weight) == 256
        assert len(network.layer1[1].conv1.weight) == 16

    def test_layers_run_in_this_order(self, build):
        order = executed(build().eval(), IMAGE)
        assert order[:2] == ["conv1", "layer1.0.conv1"] and order[-1] == "fc"


class TestStage:
    def test_gives_a_smaller_model_that_can_be_quantized(self, go_on, files, few, tmp_path):
        lines = []
        trained = go_on("float", "channels", into="narrow", epochs=1, ratio=0.5, log=lines.append)
        assert (
            len(trained.network.layer1[0].conv1.weight)
            == len(model_file.load(files["float"]).layer1[0].conv1.weight) // 2
        )
        assert any("modules pruned" in line for line in lines)
        again = model_file.load(files["narrow"])
        image = few.test.images[:4].float() / 255
        torch.testing.assert_close(again(image), trained.network.eval()(image))
        network, codes = quantized_from(files["narrow"], "gpfq", few, bits=4)
        files["narrow4"] = tmp_path / "narrow4.safetensors"
        architecture = model_file.read(files["narrow"]).header["architecture"]
        model_file.save(files["narrow4"], network, architecture, codes, **HEADER)
        files["float"], whole = files["narrow"], files["float"]  # the float ancestor is the narrow one
        retrained = go_on("narrow4", "qat", epochs=1)
        files["float"] = whole
        assert retrained.codes["layer1.0.conv1"].codes.shape == codes["layer1.0.conv1"].codes.shape

    def test_that_keeps_all_layers_is_refused(self, go_on):
        keep = "conv1+layer1+layer2+layer3+layer4+fc"
        with pytest.raises(UserError, match="channels: keep: found 'conv1.*', which leaves no channel to prune"):
            go_on("float", "channels", epochs=0, keep=keep)

    def test_at_ratio_0_is_fine_tuning(self, go_on):
        models = [
            go_on("float", name, epochs=2, **keys) for name, keys in (("channels", {"ratio": 0.0}), ("finetune", {}))
        ]
        first, second = (model.network.state_dict() for model in models)
        assert all(torch.equal(first[name], second[name]) for name in second)
        assert models[0].architecture == models[1].architecture

    def test_slices_earlier_masks(self, go_on, tmp_path):
        go_on("float", "magnitude", into="sparse", epochs=0, scope="layer", sparsity=0.5)
        trained = go_on("sparse", "channels", epochs=1, ratio=0.25)
        left = masks.masks_of(trained.network)
        assert left.keys() == {
            name for name, module in trained.network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
        }
        for name, mask in left.items():
            weight = trained.network.get_submodule(name).weight
            assert mask.shape == weight.shape and torch.equal(weight != 0, mask), name
        save(tmp_path / "model.safetensors", tmp_path / "history.csv", trained, **HEADER)
        assert model_file.read(tmp_path / "model.safetensors").masks.keys() == left.keys()

    def test_needs_a_float_parent(self, home):
        grammar = Grammar(find_stages(home / "kdq"), {}, {})
        grammar.parse("hard/magnitude/channels")
        expected = (
            "channels needs a float parent, and 'hard/gpfq,bits=4/magnitude' is quantized; did you mean 'hard/channels'"
        )
        with pytest.raises(UserError, match=expected):
            grammar.parse("hard/gpfq,bits=4/magnitude/channels")

    @pytest.mark.parametrize("name", ["dcq", "ntklc"])
    def test_what_needs_the_network_of_the_architecture_says_so(self, go_on, files, few, tmp_path, name):
        go_on("float", "channels", into="narrow", epochs=0, ratio=0.5)
        network, codes = quantized_from(files["narrow"], "rtn", few, bits=4)
        files["narrow4"] = tmp_path / "narrow4.safetensors"
        architecture = model_file.read(files["narrow"]).header["architecture"]
        model_file.save(files["narrow4"], network, architecture, codes, **HEADER)
        with pytest.raises(UserError, match="channels"):
            go_on("narrow4", name, epochs=1, **({"start": "codes"} if name == "dcq" else {}))

    def test_of_other_modules_is_refused(self, build):
        network = build()
        before = channels.shapes_of(network)
        network.bn1 = nn.GroupNorm(1, 5)
        with pytest.raises(UserError, match="bn1.weight: channels of GroupNorm, expected those of a convolution"):
            channels.described({}, network, before | {"bn1.weight": (4,)})
