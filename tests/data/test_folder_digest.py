"""The digest of an image folder: of its content alone, and how little is read to know it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from kdq.data import folder_digest as module
from kdq.data.folder_digest import folder_digest
from kdq.data.sets.folder import load
from kdq.errors import UserError
from tests.data.image_folder import both, paint, settings

__all__ = ["both"]


@pytest.fixture
def kept(tmp_path_factory, monkeypatch):
    """The folder of the cache; images count as settled at once."""
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1)
    return tmp_path_factory.mktemp("work") / "images"


@pytest.fixture
def read(monkeypatch):
    """The images that were read."""
    paths = []
    genuine = module._digest
    monkeypatch.setattr(module, "_digest", lambda path: paths.append(path) or genuine(path))
    return paths


def exchange(path, content: bytes) -> None:
    """Write other content of the same size and keep the time of modification."""
    status = path.stat()
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_outward_changes_leave_the_digest(both, kept):
    before = folder_digest(settings(both), kept)
    for path in both.rglob("*.png"):
        os.utime(path, (1, 1))
    assert folder_digest(settings(both), kept) == before
    (both / "train/cat/0.png").rename(both / "train/cat/00.png")  # still the first
    (both / "train/cat/.hidden").write_bytes(b"")
    (both / "README").write_bytes(b"beside the parts")
    assert folder_digest(settings(both), kept) == before
    copy = both.with_name("copy")
    shutil.copytree(both, copy, copy_function=shutil.copyfile)
    assert folder_digest(settings(copy), kept) == before
    assert folder_digest(settings(copy)) == before, "without a cache"


def test_changes_of_content_order_class_or_part_change_the_digest(both, kept):
    def changed():
        digest = folder_digest(settings(both), kept)
        assert digest == folder_digest(settings(both)), "the cache agrees with what is there"
        assert digest not in known
        known.add(digest)

    known = {folder_digest(settings(both), kept)}
    path = both / "train/cat/0.png"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    exchange(path, bytes(content))
    changed()
    path.rename(path.with_name("zero.png"))  # now the last
    changed()
    path.with_name("zero.png").rename(both / "train/dog/zero.png")
    changed()
    (both / "train/dog/zero.png").unlink()
    changed()
    (both / "train/cat").rename(both / "train/lion")
    (both / "test/cat").rename(both / "test/lion")
    changed()
    shutil.rmtree(both / "test")
    changed()


def test_only_classes_that_changed_outwardly_are_read(both, kept, read):
    folder_digest(settings(both), kept)
    assert len(read) == 14
    read.clear()
    folder_digest(settings(both), kept)
    assert not read
    os.utime(both / "train/dog/3.png")
    folder_digest(settings(both), kept)
    assert {os.path.dirname(path) for path in read} == {str(both / "train/dog")}


def test_images_that_changed_just_now_are_read_again(both, kept, read, monkeypatch):
    """A further change may get the same time."""
    monkeypatch.setattr(module, "SETTLED_SECONDS", 3600)
    for _ in range(2):
        folder_digest(settings(both), kept)
    assert len(read) == 28


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"classes": 3}', b'{"classes": {}, "seal": "?"}'])
def test_a_damaged_cache_is_made_again(both, kept, content):
    expected = folder_digest(settings(both), kept)
    (cache,) = kept.iterdir()
    cache.write_bytes(content)
    assert folder_digest(settings(both), kept) == expected
    assert len(json.loads(cache.read_text())["classes"]) == 4


def test_an_edited_cache_is_not_believed(both, kept):
    expected = folder_digest(settings(both), kept)
    (cache,) = kept.iterdir()
    cache.write_text(cache.read_text().replace('"content": "', '"content": "0', 1))
    assert folder_digest(settings(both), kept) == expected


def test_without_a_place_for_the_cache_all_is_read(both, kept, read):
    missing = kept.parent / "missing/images"
    kept.write_text("a file in the place of the folder")
    assert (
        folder_digest(settings(both), kept) == folder_digest(settings(both), missing) == folder_digest(settings(both))
    )
    assert len(read) == 3 * 14 and not missing.parent.exists()


def test_runs_at_the_same_time_share_the_cache(both, kept):
    code = "import sys; from pathlib import Path; from kdq.data import folder_digest as m; m.SETTLED_SECONDS = -1;"
    code += "print(*{m.folder_digest({'image_folder': sys.argv[1]}, Path(sys.argv[2])) for _ in range(20)})"
    words = [sys.executable, "-c", code, str(both), str(kept)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate()[0].strip() for process in running} == {folder_digest(settings(both))}
    assert [path.suffix for path in kept.iterdir()] == [".json"]


def test_the_digest_is_that_of_what_is_read(both):
    planned = folder_digest(settings(both))
    load("folder", settings(both, images=planned))
    paint(both / "train/dog/3.png", (9, 9, 9))
    with pytest.raises(UserError, match="its images changed after this run was planned; start snakemake again"):
        load("folder", settings(both, images=planned))


def test_an_image_that_may_not_be_read_is_named(both, monkeypatch):
    def denied(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(UserError, match=r"train/cat/0.png: not readable \(Permission denied\), expected an image"):
        folder_digest(settings(both))
