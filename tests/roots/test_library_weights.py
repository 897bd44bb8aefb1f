"""Weights of timm and torchvision to begin with: from the libraries' caches, strictly, all but the classifier's."""

from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save

from kdq.errors import UserError
from kdq.models import registry
from tests.roots.hub import COMMIT, OTHER_COMMIT, TIMM_REPOSITORY

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

TIMM, TAG = "timm/test_resnet", "r160_in1k"
TORCHVISION = "torchvision/shufflenet_v2_x0_5"


def pretrained(architecture, weights, channels=3):
    keys = {"architecture": architecture, "resize": 0, "weights": weights}
    statistics = {"mean": [0.1] * channels, "std": [0.9] * channels}
    described = registry.described(keys, classes=7, channels=channels, side=32, **statistics)
    return registry.pretrained(weights, **described)


def same(network, given, classifier):
    state = network.network.state_dict()
    equal = {name for name, value in state.items() if name in given and torch.equal(value, given[name])}
    assert state.keys() - equal == {f"{classifier}.weight", f"{classifier}.bias"}
    assert len(state[f"{classifier}.weight"]) == 7


class TestTimm:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_all_tensors_but_the_classifier_s_and_the_statistics_of_their_training(self, hub, offered, channels):
        network = pretrained(TIMM, f"{TAG}@{COMMIT}", channels)
        same(network, offered, "fc")
        config = timm.models.get_pretrained_cfg(f"test_resnet.{TAG}")
        assert network.architecture["mean"] == list(config.mean) and network.architecture["std"] == list(config.std)
        asked = len(hub.asked)
        pretrained(TIMM, f"{TAG}@{COMMIT}")
        assert len(hub.asked) == asked  # from the cache

    def test_a_missing_tensor_is_refused(self, hub, offered):
        hub.files[TIMM_REPOSITORY, COMMIT, "model.safetensors"] = save(dict(list(offered.items())[1:]))
        with pytest.raises(UserError, match="^architecture 'timm/test_resnet': .*Missing key") as error:
            pretrained(TIMM, f"{TAG}@{COMMIT}")
        assert "\n" not in str(error.value)

    def test_what_can_not_be_had_gets_one_line(self, hub, offered):
        with pytest.raises(
            UserError, match=f"^weights: {TIMM_REPOSITORY}, commit 89abcdef0123, .*: neither cached nor to be"
        ):
            pretrained(TIMM, f"{TAG}@{OTHER_COMMIT}")
        with pytest.raises(
            UserError, match="^weights: found 'r161_in1k@.*, expected TAG@COMMIT with one of .* did you"
        ):
            pretrained(TIMM, f"r161_in1k@{COMMIT}")
        with pytest.raises(UserError, match="^weights: found 'IMAGENET1K_V1' of timm/test_resnet, expected TAG@COMMIT"):
            pretrained(TIMM, "IMAGENET1K_V1")


class TestTorchvision:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_all_tensors_but_the_classifier_s_and_the_statistics_of_their_training(self, state, channels):
        network = pretrained(TORCHVISION, "IMAGENET1K_V1", channels)
        same(network, state, "fc")
        assert network.architecture["mean"] == [0.485, 0.456, 0.406]

    def test_a_damaged_file_of_the_cache_is_refused(self, state, cache):
        (file,) = cache.iterdir()
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        with pytest.raises(UserError, match=f"^{file}: SHA-256 .*, expected one that begins with .*; remove the file"):
            pretrained(TORCHVISION, "IMAGENET1K_V1")

    def test_what_can_not_be_had_gets_one_line(self, cache, monkeypatch):
        def offline(*arguments, **options):
            raise URLError("no network")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
        with pytest.raises(
            UserError, match="^weights: .*pth is not there, and https.* is not to be downloaded .*no net"
        ):
            pretrained(TORCHVISION, "IMAGENET1K_V1")
        with pytest.raises(
            UserError, match="^weights: found 'IMAGENET1K_V3' .*, expected one of IMAGENET1K_V1; did you"
        ):
            pretrained(TORCHVISION, "IMAGENET1K_V3")
