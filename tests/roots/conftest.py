"""A hub of our own, the client's cache in a folder of the test, and no waiting between the client's tries.

And weights of timm and torchvision in such places.
"""

import hashlib
import io

import pytest
import torch
from safetensors.torch import save

from tests.roots.hub import COMMIT, TIMM_REPOSITORY, Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub without files that the client asks; what it keeps lies in ``tmp_path / "cache"``."""
    import huggingface_hub.constants
    import huggingface_hub.file_download
    import huggingface_hub.utils._http

    hub = Hub()
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for module in (huggingface_hub.file_download, huggingface_hub.utils._http):
        monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    yield hub
    hub.stop()


@pytest.fixture
def no_network(monkeypatch):
    """Whoever asks a hub fails the test."""

    def asked(*arguments, **options):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("kdq.data.download.hub_file", asked)


@pytest.fixture
def offered(hub):
    """The state dict of a network that the hub has the weights of."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    state = timm.create_model("test_resnet").state_dict()
    hub.files[TIMM_REPOSITORY, COMMIT, "model.safetensors"] = save(state)
    return state


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of torchvision's weights, empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


@pytest.fixture
def state(cache, monkeypatch):
    """The weights that the library's enum names lie in its cache; the digest in their name is that of these."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(3)
    state, content = torchvision.models.shufflenet_v2_x0_5().state_dict(), io.BytesIO()
    torch.save(state, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    entry = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
    (cache / f"network-{digest[:8]}.pth").write_bytes(content.getvalue())
    url = f"https://nowhere.invalid/network-{digest[:8]}.pth"
    monkeypatch.setattr(type(entry), "url", property(lambda entry: url))
    return state
