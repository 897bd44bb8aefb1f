"""Files outside the results: their content counts, not their times, and it is read only if it may have changed."""

import os

import pytest

from kdq.errors import UserError
from kdq.provenance import file_digests
from kdq.provenance.file_digests import SMALL_BYTES, FileDigests
from kdq.provenance.files import sha256
from kdq.provenance.verify.outside import differences
from tests.roots.hub import COMMIT

CONTENT = b"\1" * SMALL_BYTES


@pytest.fixture
def reads(monkeypatch):
    """The paths that are read."""
    reads = []
    monkeypatch.setattr(file_digests, "sha256", lambda path: reads.append(str(path)) or sha256(path))
    monkeypatch.setattr(file_digests, "SETTLED_SECONDS", -1)
    return reads


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(CONTENT)
    return path


def test_a_large_file_is_read_once(large, reads, tmp_path):
    kept = tmp_path / ".snakemake" / "files"
    kept.parent.mkdir()
    assert FileDigests(kept).of(large) == FileDigests(kept).of(large) == sha256(large)
    assert len(reads) == 1
    os.utime(large)
    assert FileDigests(kept).of(large) == sha256(large) and len(reads) == 2


def test_one_of_the_same_size_and_an_older_time_is_read_again(large, reads, tmp_path):
    kept = tmp_path / ".snakemake" / "files"
    kept.parent.mkdir()
    before, status = FileDigests(kept).of(large), large.stat()
    large.write_bytes(b"\2" * SMALL_BYTES)
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert FileDigests(kept).of(large) == sha256(large) != before


def test_a_link_that_is_changed_is_another_file(large, tmp_path):
    digests, link, second = FileDigests(), tmp_path / "link", tmp_path / "second"
    second.write_bytes(b"\2" * SMALL_BYTES)
    link.symlink_to(large)
    assert digests.of(link) == sha256(large)
    link.unlink()
    link.symlink_to(second)
    assert digests.of(link) == sha256(second)


def test_what_is_kept_and_damaged_or_too_young_is_not_believed(large, reads, tmp_path, monkeypatch):
    kept = tmp_path / ".snakemake" / "files"
    FileDigests(kept).of(large)
    assert not kept.exists(), "without .snakemake nothing is kept"
    kept.parent.mkdir()
    FileDigests(kept).of(large)
    (note,) = kept.iterdir()
    note.write_text(note.read_text().replace(sha256(large)[:8], "0" * 8))
    assert FileDigests(kept).of(large) == sha256(large)
    note.unlink()
    monkeypatch.setattr(file_digests, "SETTLED_SECONDS", 1000)
    FileDigests(kept).of(large)
    assert not note.exists(), "it may change again within a tick of the clock"


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="gone: not readable .No such file"):
        FileDigests().of(tmp_path / "gone")


class TestDifferences:
    """What verify says of an imported root."""

    @pytest.fixture
    def published(self, tmp_path):
        for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
            (tmp_path / name).write_text(name)
        return {"source": "transformers", "folder": str(tmp_path), "file": "", "sha256": ""}

    def claimed(self, keys) -> dict:
        names = {"weights": "model.safetensors", **{name: name for name in ("config.json", "preprocessor_config.json")}}
        return {role: sha256(f"{keys['folder']}/{name}") for role, name in names.items()}

    def test_none(self, published):
        assert differences(published, self.claimed(published), FileDigests()) == []
        assert differences({"epochs": 3}, {}, FileDigests()) == []

    @pytest.mark.parametrize("role", ["weights", "config.json", "preprocessor_config.json"])
    def test_one(self, published, role):
        claimed = self.claimed(published)
        name = "model.safetensors" if role == "weights" else role
        assert differences(published, claimed | {role: "0" * 64}, FileDigests()) == [
            f"{role} {name} has another digest"
        ]
        del claimed[role]
        assert differences(published, claimed, FileDigests()) == [f"{name} was not among its inputs"]

    def test_a_folder_that_is_gone(self, published, tmp_path):
        claimed = self.claimed(published)
        (tmp_path / "config.json").unlink()
        assert "has no file config.json" in differences(published, claimed, FileDigests())[0]

    def test_a_repository_is_pinned_by_its_keys(self):
        keys = {"source": "transformers", "folder": "", "repository": "owner/name", "revision": COMMIT, "file": ""}
        keys["sha256"] = "a" * 64
        claimed = {"weights": "a" * 64, "config.json": "b" * 64, "preprocessor_config.json": "c" * 64}
        assert differences(keys, claimed, FileDigests()) == []
        changed = differences(keys, claimed | {"weights": "d" * 64}, FileDigests())
        assert changed == ["weights model.safetensors has another digest"]
