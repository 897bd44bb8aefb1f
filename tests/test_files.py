"""Files are whole or absent, and readable by whoever may."""

import errno
import json
import math
import os
import subprocess
import sys

import pytest
import torch

from kdq.data import prepared
from kdq.errors import UserError
from kdq.evaluate import predictions
from kdq.models import archive
from kdq.models import file as model_file
from kdq.provenance import formats, ledger
from kdq.provenance.files import (
    atomic,
    read_header,
    read_json,
    read_table,
    read_tensors,
    sha256,
    write_json,
    write_table,
    write_tensors,
)
from kdq.provenance.place import check_place, check_places
from kdq.quantize.bits import sensitivity_table
from kdq.recipe.path import Cell
from kdq.report import metrics
from kdq.report.tables import cells
from kdq.train import checkpoint, history


@pytest.fixture
def umask():
    """Set the process's umask for a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path) -> int:
    return path.stat().st_mode & 0o777


class TestAtomic:
    def test_a_crash_in_the_block_leaves_the_old_file_and_nothing_else(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("old")
        with pytest.raises(ZeroDivisionError), atomic(path) as aside:
            aside.write_text("half of the n")
            raise ZeroDivisionError
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["file"]

    def test_a_crash_before_anything_is_written(self, tmp_path):
        with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "file"):
            raise KeyboardInterrupt
        assert os.listdir(tmp_path) == []

    def test_the_old_file_stands_until_the_block_ends(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("old")
        with atomic(path) as aside:
            aside.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new" and os.listdir(tmp_path) == ["file"]

    def test_folders_are_made(self, tmp_path):
        with atomic(tmp_path / "a/b/file") as aside:
            aside.write_text("new")
        assert (tmp_path / "a/b/file").read_text() == "new"

    def test_aside_lies_in_the_same_folder_and_is_hidden(self, tmp_path):
        with atomic(tmp_path / "file") as aside:
            aside.write_text("")
            assert aside.parent == tmp_path and aside.name.startswith(".")

    @pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
    def test_modes_follow_the_umask(self, tmp_path, umask, mask, expected):
        umask(mask)
        with atomic(tmp_path / "text") as aside:
            aside.write_text("")
        write_tensors(tmp_path / "tensors", {"a": torch.zeros(1)}, {"format": "f"})
        write_json(tmp_path / "json", {})
        assert {mode(path) for path in tmp_path.iterdir()} == {expected}
        assert os.umask(mask) == mask

    def test_killed_in_the_block_the_old_file_stands(self, tmp_path, home):
        path = tmp_path / "file"
        path.write_text("old")
        code = (
            "import os, sys; from kdq.provenance.files import atomic\n"
            "with atomic(sys.argv[1]) as aside: aside.write_text('half'); os.kill(os.getpid(), 9)"
        )
        environment = {**os.environ, "PYTHONPATH": str(home)}
        assert subprocess.run([sys.executable, "-c", code, str(path)], env=environment).returncode == -9
        assert path.read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 2
        with atomic(path) as aside:
            aside.write_text("new")
        assert [found.name for found in tmp_path.iterdir()] == ["file"], "what the killed process left is removed"


class TestJson:
    def test_the_same_value_gives_the_same_bytes(self, tmp_path):
        write_json(tmp_path / "a", {"x": 1, "y": [2.5, None]})
        write_json(tmp_path / "b", {"y": [2.5, None], "x": 1})
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        assert read_json(tmp_path / "a") == {"x": 1, "y": [2.5, None]}
        assert json.loads((tmp_path / "a").read_text()).keys() == {"x", "y", "seal"}

    @pytest.mark.parametrize("value", [math.nan, math.inf, object()])
    def test_what_is_not_json_is_refused_and_leaves_nothing(self, tmp_path, value):
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "a", {"x": value})
        assert os.listdir(tmp_path) == []


class TestTensors:
    def test_round_trip(self, tmp_path):
        tensors = {
            "float": torch.randn(3, 4),
            "turned": torch.randn(3, 4).t(),
            "codes": torch.arange(5, dtype=torch.uint8),
            "scalar": torch.tensor(3),
            "with gradient": torch.randn(2, requires_grad=True),
        }
        write_tensors(tmp_path / "a", tensors, {"format": "f", "more": [1, "é"]})
        header, found = read_tensors(tmp_path / "a", "f")
        assert header == {"format": "f", "more": [1, "é"]} == read_header(tmp_path / "a", "f")
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensors[name]) for name in tensors)

    def test_the_same_content_gives_the_same_bytes(self, tmp_path):
        for name in ("a", "b"):
            tensors = {key: torch.arange(size) for key, size in (("x", 3), ("y", 5), ("z", 1))}
            write_tensors(tmp_path / name, tensors, {"format": "f", name: 0} | {"a": 0, "b": 0})
        assert sha256(tmp_path / "a") == sha256(tmp_path / "b")

    def test_one_tensor_under_two_names(self, tmp_path):
        shared = torch.arange(3)
        write_tensors(tmp_path / "a", {"x": shared, "y": shared.clone()}, {"format": "f"})
        assert read_tensors(tmp_path / "a", "f")[1]["y"].tolist() == [0, 1, 2]

    def test_another_format(self, tmp_path):
        write_tensors(tmp_path / "a", {"x": torch.zeros(1)}, {"format": "f"})
        with pytest.raises(UserError, match="a: format 'f', expected 'g'$"):
            read_tensors(tmp_path / "a", "g")

    def test_missing(self, tmp_path):
        with pytest.raises(UserError, match="a: no such file$"):
            read_tensors(tmp_path / "a", "f")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_writers_of_the_same_file_at_the_same_time_do_not_meet(tmp_path):
    path = tmp_path / "note.json"
    with atomic(path, alone=False) as first, atomic(path, alone=False) as second:
        first.write_text("the same")
        second.write_text("the same")
    assert path.read_text() == "the same" and list(tmp_path.iterdir()) == [path]


def wrapped() -> RuntimeError:
    """As torch gives the error of a file that it writes to."""
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as error:
        wrapping = RuntimeError("unexpected position")
        wrapping.__context__ = error
        return wrapping


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EDQUOT, "quota"), wrapped(), ValueError("I/O error: No space left on device (os error 28)")],
    ids=["python", "torch", "safetensors"],
)
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, error):
    with pytest.raises(UserError, match=r"file: can't be written \((No space|Disk quota)"), atomic(tmp_path / "file"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_other_errors_in_the_block_are_left_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "file") as aside:
        aside.with_name("missing").read_text()


class TestTable:
    HEADER = {"format": "a/1", "seed": 3}

    @pytest.fixture
    def path(self, tmp_path):
        write_table(tmp_path / "a.csv", "x,y\n1,2\n", self.HEADER)
        return tmp_path / "a.csv"

    def test_what_is_written_is_read(self, path):
        assert read_table(path, "a/1") == (self.HEADER, "x,y\n1,2\n")
        assert path.read_text().startswith("# {")

    def test_equal_content_gives_equal_bytes(self, path):
        before = path.read_bytes()
        write_table(path, "x,y\n1,2\n", dict(reversed(self.HEADER.items())))
        assert path.read_bytes() == before

    def test_every_changed_byte_is_noticed(self, path):
        content = path.read_bytes()
        for place in range(len(content)):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(UserError):
                read_table(path, "a/1")

    def test_another_format_is_refused(self, path):
        with pytest.raises(UserError, match="format 'a/1', expected 'b/1'"):
            read_table(path, "b/1")


class TestIrregular:
    """What is no regular file in the place of one is told in one line: to read a FIFO would wait forever."""

    KINDS = {
        "a FIFO": os.mkfifo,
        "a folder": os.mkdir,
        "a device": lambda path: os.symlink("/dev/zero", path),
        "a link to nowhere, which does not exist": lambda path: os.symlink("nowhere", path),
        "nothing readable \\(too many levels of symbolic links": lambda path: os.symlink(path, path),
    }
    READERS = {
        "model": lambda path: model_file.read(path),
        "data": lambda path: prepared.read(path),
        "predictions": lambda path: predictions.read(path),
        "archive": lambda path: archive.read(path),
        "sensitivity": lambda path: sensitivity_table.read(path),
        "metrics": lambda path: metrics.read(path),
        "history": lambda path: history.digest(path),
        "table": lambda path: cells.SCHEMA.read(path),
        "header": lambda path: read_header(path, "f"),
        "code": lambda path: ledger.read(path),
        "digest": lambda path: sha256(path),
    }

    @pytest.mark.parametrize("reader", READERS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_refused(self, tmp_path, kind, reader):
        path = tmp_path / "results/digits/seed=0/hard/file"
        path.parent.mkdir(parents=True)
        self.KINDS[kind](path)
        with pytest.raises(UserError, match=f"^{path}: found {kind}"):
            self.READERS[reader](path)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_checkpoint_is_refused(self, tmp_path, kind):
        self.KINDS[kind](tmp_path / "checkpoint.pt")
        with pytest.raises(UserError, match=rf"checkpoint\.pt: found {kind}"):
            checkpoint.load(tmp_path / "checkpoint.pt", "identity", print)

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a folder"])
    def test_is_replaced_by_what_is_written(self, tmp_path, kind):
        self.KINDS[kind](tmp_path / "a")
        write_json(tmp_path / "a", {"x": 1})
        assert read_json(tmp_path / "a") == {"x": 1} and os.listdir(tmp_path) == ["a"]

    def test_a_folder_is_not_replaced(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(UserError, match="a: found a folder in the place of this file; remove it"):
            write_json(tmp_path / "a", {"x": 1})
        assert os.listdir(tmp_path) == ["a"]

    def test_a_file_is_in_the_place_of_its_folder(self, tmp_path):
        (tmp_path / "a").write_text("")
        with pytest.raises(UserError, match="a/b/c: .*/a is no folder; remove it"):
            write_json(tmp_path / "a/b/c", {"x": 1})


class TestPlace:
    CELL = Cell("digits", 1, "teacher,seed=0")

    @pytest.mark.parametrize("cell", [CELL, CELL.original])
    def test_a_file_names_its_cell_or_the_one_that_it_is_a_copy_of(self, cell):
        check_place(self.CELL.path("model.safetensors"), cell.identity)

    @pytest.mark.parametrize(
        ("header", "match"),
        [
            ({"dataset": "digits", "seed": 2, "recipe": "teacher,seed=0"}, "seed: found 2, expected 1"),
            ({"dataset": "digits", "seed": 0, "recipe": "hard"}, "recipe: found 'hard', expected 'teacher,seed=0'"),
            ({"seed": 1, "recipe": "teacher,seed=0"}, "dataset: found None, expected 'digits'"),
        ],
    )
    def test_a_file_of_another_cell_is_refused(self, header, match):
        with pytest.raises(UserError, match=match):
            check_place(self.CELL.path("model.safetensors"), header)

    @pytest.mark.parametrize(
        "header", [{"dataset": "mnist", "split_seed": 0}, {"dataset": "digits", "split_seed": 1}, {}]
    )
    def test_data_of_another_set_or_split_are_refused(self, tmp_path, header):
        path = tmp_path / "results/digits/data/split=0.safetensors"
        write_tensors(path, {}, {"format": formats.DATA, "dataset": "digits", "split_seed": 0})
        check_places({"data": path})
        write_tensors(path, {}, {"format": formats.DATA, **header})
        with pytest.raises(UserError, match="split=0.safetensors: found the data of .*, expected that of its path"):
            check_places({"data": path})

    def test_what_is_built_on_a_shared_root_is_no_copy(self):
        cell = Cell("digits", 1, "teacher,seed=0/rtn")
        assert cell.original == cell
        assert Cell("digits", 1, "hard,epochs=2,seed=0,width=2").original == Cell("digits", 0, "hard,epochs=2,width=2")
