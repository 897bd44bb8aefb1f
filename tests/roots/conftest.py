"""A hub of our own, the client's cache in a folder of the test, and no waiting between the client's tries."""

import pytest

from tests.roots.hub import Hub


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
