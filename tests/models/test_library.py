"""Networks of timm and torchvision: the library's own network behind a normalisation, as a model file and with taps."""

import copy

import pytest
import torch
from torch import nn

from kdq import models
from kdq.distill.outputs import Outputs
from kdq.distill.stages import stages_of
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models import registry
from kdq.models.codes import Codes
from kdq.models.libraries import library_name
from kdq.models.library_costs import answer

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

SMALL = {
    "timm/test_resnet": (32, True),
    "timm/mobilenetv3_small_050": (32, True),
    "timm/test_vit": (32, False),
    "torchvision/mobilenet_v3_small": (64, True),
    "torchvision/shufflenet_v2_x0_5": (32, True),
    "torchvision/squeezenet1_1": (64, False),
    "torchvision/regnet_y_400mf": (32, True),  # computes with tensors as it is made
}


def described(architecture, side=32, channels=3, resize=0):
    statistics = {"mean": [0.4, 0.5, 0.6][:channels], "std": [0.2, 0.3, 0.4][:channels]}
    keys = {"architecture": architecture, "resize": resize, "weights": ""}
    return registry.described(keys, classes=7, channels=channels, side=side, **statistics)


def build(architecture, *arguments, **options):
    torch.manual_seed(0)
    return registry.build(**described(architecture, *arguments, **options)).eval()


@pytest.fixture(scope="module", params=SMALL)
def network(request):
    return build(request.param, SMALL[request.param][0])


def images(side, channels=3, count=2):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


class TestNetwork:
    @pytest.fixture(autouse=True)
    def without_gradients(self):
        with torch.no_grad():
            yield

    def test_is_the_library_s_behind_a_normalisation(self, network):
        side = network.architecture["side"]
        pictures = images(side)
        mean, std = (torch.tensor(network.architecture[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        assert network(pictures).shape == (2, 7)
        assert torch.equal(network(pictures), network.network((pictures - mean) / std))
        library, name = library_name(network.architecture["architecture"])
        if library == "timm":
            size = {"img_size": side} if "vit" in name else {}
            plain = timm.create_model(name, num_classes=7, **size)
        else:
            plain = torchvision.models.get_model(name, num_classes=7)
        expected = {f"network.{key}": value.shape for key, value in plain.state_dict().items()}
        assert {key: value.shape for key, value in network.state_dict().items()} == expected
        assert registry.outline(**network.architecture) == expected

    def test_resizes_in_bfloat16_too(self):
        network, pictures = build("timm/resnet10t", resize=64), images(32)
        single = network.pixels(pictures)
        half = network.bfloat16().pixels(pictures.bfloat16())
        assert half.dtype == torch.bfloat16 and half.shape == single.shape == (2, 3, 64, 64)
        torch.testing.assert_close(half.float(), single, rtol=0.02, atol=0.03)

    def test_a_model_file_gives_it_back(self, network, tmp_path):
        path, pictures = tmp_path / "model.safetensors", images(network.architecture["side"])
        model_file.save(path, network, network.architecture, Codes())
        again = models.load(path)
        assert torch.equal(again(pictures), network(pictures))
        assert again.architecture == network.architecture

    def test_taps_are_feature_maps_by_their_reduction_and_change_nothing(self, network):
        side, has_stages = SMALL[network.architecture["architecture"]]
        pictures = images(side)
        logits, features = network(pictures, taps=network.taps)
        assert torch.equal(logits, network(pictures))
        last = network.network.get_submodule(network.classifier)
        if isinstance(last, nn.Linear):
            torch.testing.assert_close(last(features["embedding"]), logits)
        assert network.stages == (("layer1", "layer2", "layer3", "layer4") if has_stages else ())
        for reduction, stage in zip((4, 8, 16, 32), network.stages, strict=False):
            assert features[stage].shape[::2] == (2, side // reduction)
        assert tuple(features) == network.taps
        some = Outputs.of(network, pictures, network.taps[::-2]).features
        assert list(some) == list(network.taps[::-2])
        assert all(torch.equal(value, features[tap]) for tap, value in some.items())

    def test_a_copy_reads_its_own_layers(self, network):
        pictures = images(network.architecture["side"])
        before = network(pictures, taps=network.taps)[1]
        other = copy.deepcopy(network)
        for parameter in other.parameters():
            parameter.zero_()
        assert not other(pictures, taps=("embedding",))[1]["embedding"].equal(before["embedding"])
        after = network(pictures, taps=network.taps)[1]
        assert all(torch.equal(before[tap], after[tap]) for tap in network.taps)

    def test_gradients_and_statistics_come_through_taps(self, network):
        student = copy.deepcopy(network).train()
        with torch.enable_grad():
            _, features = student(images(network.architecture["side"], count=4), taps=student.taps)
            sum(feature.float().square().sum() for feature in features.values()).backward()
        first = next(student.network.parameters())
        assert first.grad is not None and first.grad.any()
        counters = [name for name in student.state_dict() if name.endswith("num_batches_tracked")]
        assert all(student.state_dict()[name] == 1 for name in counters)


def test_grey_images_are_three_equal_channels_to_a_network_of_colours():
    network, pictures = build("torchvision/shufflenet_v2_x0_5", channels=1), images(32, 1)
    assert len(network.architecture["mean"]) == 3
    colours = network.network((pictures.expand(-1, 3, -1, -1) - network.mean) / network.std)
    assert torch.equal(network(pictures), colours)
    assert build("timm/test_resnet", channels=1).network.conv1[0].in_channels == 1


def test_resized_images_are_of_the_side_that_the_network_is_built_for():
    network = build("timm/test_vit", 8, resize=32)
    assert network.architecture["side"] == 32
    assert network.pixels(images(8)).shape == (2, 3, 32, 32)
    assert build("timm/test_resnet", 8).pixels(images(8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("architecture", "side", "message"),
    [
        ("timm/resnet81", 32, "architecture 'timm/resnet81': timm .* has no such classifier; did you mean 'resnet"),
        ("torchvision/resnet_18", 32, "torchvision .* has no such classifier; did you mean 'resnet18'"),
        ("torchvision/fcn_resnet50", 32, "torchvision .* has no such classifier"),
        ("torchvision/vit_b_16", 30, "architecture 'torchvision/vit_b_16': .*"),
        ("torchvision/alexnet", 32, "'torchvision/alexnet': takes no images of 32 x 32 pixels .* by the key resize"),
    ],
)
def test_what_there_is_not_gets_one_line(architecture, side, message):
    with pytest.raises(UserError, match=message) as error:
        build(architecture, side)
    assert "\n" not in str(error.value)
    size = {"classes": 7, "channels": 3, "side": side}
    assert answer({"keys": {"architecture": architecture, "resize": 0}, "size": size}) == {"error": str(error.value)}


def test_a_network_of_one_resolution_has_no_stages():
    network = build("timm/test_vit")
    with pytest.raises(UserError, match="^the network timm/test_vit gives no feature maps of several sizes; expected"):
        stages_of(network)
    with pytest.raises(UserError, match="has no layer1, its library gives embedding; choose another method"):
        network(images(32), taps=("layer1",))


def test_costs_are_those_of_the_network():
    size = {"classes": 7, "channels": 3, "side": 32}
    counts = answer({"keys": {"architecture": "timm/test_resnet", "resize": 0}, "size": size})
    network = build("timm/test_resnet")
    assert counts["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    larger = answer({"keys": {"architecture": "timm/test_resnet", "resize": 64}, "size": size})
    assert 3.5 < larger["multiply_adds"] / counts["multiply_adds"] < 4.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"library": "0.1.2", "classes": 8}, r"do not fit its architecture \(.*\) \(made with timm '0.1.2', here is "),
        ({"library": 3}, "library: found 3, expected a version of timm such as "),
        ({"architecture": "timm/test_resnot"}, "has no such classifier; did you mean 'test_resnet'"),
        ({"mean": [0.5] * 2}, "expected as many values of mean as channels"),
    ],
)
def test_a_copied_file_of_another_version_gets_one_line(changes, message, tmp_path):
    network, path = build("timm/test_resnet"), tmp_path / "model.safetensors"
    model_file.save(path, network, network.architecture | changes, Codes())
    with pytest.raises(UserError, match=message) as error:
        models.load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
