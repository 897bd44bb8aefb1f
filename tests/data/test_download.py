"""Downloads from a hub and from an original host, both on the loopback interface."""

import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kdq.data import download
from kdq.data.sets import cifar
from kdq.errors import UserError, reason

TRAIN = "plain_text/train-00000-of-00001.parquet"
TEST = "plain_text/test-00000-of-00001.parquet"
ARCHIVE = "/cifar-10-python.tar.gz"


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files`` by path, as the hub does: with an entity tag and the commit."""

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.server.asked.append(self.path)
        self.answer(True)

    def answer(self, with_body):
        content = self.server.files.get(self.path)
        self.send_response(404 if content is None else 200)
        if content is not None:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", cifar.DESCRIPTIONS["cifar10"].revision)
        promised = len(content or b"") + (1 if self.path in self.server.cut_short else 0)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        if with_body and content:
            self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tiny, monkeypatch):
    """A hub and an original host in one, without files; the description of CIFAR-10 and the environment point to it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.cut_short = {}, [], set()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    here = replace(cifar.DESCRIPTIONS["cifar10"], url=address + ARCHIVE)
    monkeypatch.setitem(cifar.DESCRIPTIONS, "cifar10", here)
    yield server
    server.shutdown()
    server.server_close()


def offer_parquet(server, tiny):
    description = cifar.DESCRIPTIONS["cifar10"]
    base = f"/datasets/{description.repository}/resolve/{description.revision}/"
    # The hub's order of the batches is not the original one.
    server.files[base + TRAIN] = tiny.parquet(["data_batch_3", "data_batch_1", "data_batch_2"])
    server.files[base + TEST] = tiny.parquet(["test_batch"])
    return base


def load(folder):
    return cifar.load("cifar10", {"folder": str(folder), "download": True})


def test_from_the_hub(server, tiny, tmp_path):
    offer_parquet(server, tiny)
    server.files[ARCHIVE] = tiny.archive
    raw = load(tmp_path / "data")
    tiny.assert_is(raw)
    assert raw.source["kind"] == "hub" and raw.source["revision"] == cifar.DESCRIPTIONS["cifar10"].revision
    assert ARCHIVE not in server.asked, "the original host is asked last"
    left = sorted(str(path.relative_to(tmp_path / "data")) for path in (tmp_path / "data").rglob("*"))
    assert left == ["cifar10-parquet", "cifar10-parquet/plain_text"] + [
        f"cifar10-parquet/{name}" for name in (TEST, TRAIN)
    ]
    asked = len(server.asked)
    tiny.assert_is(load(tmp_path / "data"))
    assert len(server.asked) == asked, "what is there is not downloaded again"


def test_from_the_original_host_where_the_hub_lacks_it(server, tiny, tmp_path):
    server.files[ARCHIVE] = tiny.archive
    raw = load(tmp_path)
    tiny.assert_is(raw)
    assert raw.source["kind"] == "original archive"
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]


def test_a_hub_with_other_images_is_not_believed(server, tiny, tmp_path):
    base = offer_parquet(server, tiny)
    server.files[base + TEST] = tiny.parquet(["data_batch_1"])
    server.files[ARCHIVE] = tiny.archive
    tiny.assert_is(load(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]


def refused(folder, *messages):
    with pytest.raises(UserError) as caught:
        load(folder)
    text = str(caught.value)
    assert "\n" not in text
    for message in (*messages, "hub uoft-cs/cifar10: ", "put cifar-10-python.tar.gz into"):
        assert message in text, text
    assert list(folder.iterdir()) == [], "nothing stays of a failed download"


def test_both_lack_it(server, tmp_path):
    refused(tmp_path, "404", "HTTP Error 404: Not Found")
    with pytest.raises(UserError, match="not to be downloaded"):
        load(tmp_path / "new")
    assert list(tmp_path.iterdir()) == [], "not even the folder stays"


def test_a_truncated_archive(server, tiny, tmp_path):
    server.files[ARCHIVE] = tiny.archive[:-100]
    server.cut_short.add(ARCHIVE)
    refused(tmp_path, "broke off after")


def test_an_archive_with_another_checksum(server, tiny, tmp_path):
    server.files[ARCHIVE] = tiny.archive[:-1] + b"?"
    refused(tmp_path, "MD5", f"expected {hashlib.md5(tiny.archive).hexdigest()}")


def test_an_unreachable_host(server, tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(download, "hub_file", unreachable)
    server.shutdown()
    server.server_close()
    refused(tmp_path, "no network", "Connection refused")


def test_what_is_there_stays_whole_when_a_download_fails(server, tiny, tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(b"before")
    server.files[ARCHIVE] = b"something else"
    with pytest.raises(UserError, match="MD5"):
        download.file(cifar.DESCRIPTIONS["cifar10"].url, path, "0" * 32)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_what_never_ends_is_broken_off(server, tiny, tmp_path, monkeypatch):
    server.files[ARCHIVE] = tiny.archive
    monkeypatch.setattr(download, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="more than 100 bytes"):
        load(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_reason_is_one_short_line():
    assert reason(OSError("a\nb")) == "a b"
    assert reason(OSError()) == "OSError"
    assert len(reason(OSError("x" * 1000))) == 200
