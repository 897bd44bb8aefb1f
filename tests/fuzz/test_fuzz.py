"""Every input is read, or refused in one line. Many more inputs: ``python -m benchmarks.fuzz``."""

import json
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.roots.sources import hub as hub_checkpoint
from kdq.train import checkpoint
from tests.fuzz.evil import TRACE, Evil
from tests.fuzz.guard import GROWTH_BYTES, Escape, guarded
from tests.fuzz.published import Published
from tests.fuzz.subjects import HOME, of_texts, read_guarded, subjects

INPUTS = 15  # per subject
NAMES = (
    *("recipe", "config", "model", "archive", "data", "metrics", "predictions", "compared predictions"),
    *("history", "tables", "latency"),
    *("views", "checkpoint", "weights.bin", "weights.safetensors", "cifar batch", "cifar batch of the right MD5"),
    *("cifar archive", "cifar archive of the right MD5", "cifar parquet", "results", "image"),
    *("model of a hub", "model file of it"),
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return subjects(tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def texts():
    return of_texts()


def test_all_subjects_are_here(found):
    assert set(NAMES) == found.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_changed_in_bytes_and_values(found, name, tmp_path):
    for number in range(INPUTS):
        read_guarded(found[name], number, name, tmp_path)


recipes = st.text(alphabet="abdehkrt0123456789,=/.-^{}'\";$ \n\0é", max_size=60)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
KEYS = ("datasets", "seeds", "recipes", "data", "teacher", "student", "stages", "threads")


@settings(max_examples=200)
@given(recipes | st.builds("{}{}".format, st.sampled_from(["teacher/kd,", "hard,", "teacher/rtn,bits="]), recipes))
def test_any_recipe(texts, tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "recipe"
    path.write_text(text)
    with guarded(path.parent):
        texts["recipe"].read(path)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(KEYS), values), st.dictionaries(st.sampled_from(KEYS[3:7]), values))
def test_any_config(texts, tmp_path_factory, wild, tame):
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    base = {"datasets": ["digits"], "seeds": [0], "recipes": ["teacher/kd/rtn"]}
    for config in (wild, base | tame):
        path.write_text(json.dumps(config))
        with guarded(path.parent):
            texts["config"].read(path)


class TestPickles:
    """Foreign pickles run no code: those that could are not loaded."""

    @pytest.fixture(params=["torch", "pickle"])
    def evil(self, request, tmp_path):
        path = tmp_path / "pytorch_model.bin"
        if request.param == "torch":
            torch.save({"fc.weight": Evil()}, path)
        else:
            path.write_bytes(pickle.dumps({"fc.weight": Evil()}))
        yield path
        assert not TRACE.exists()

    def test_it_would_do_something(self, tmp_path):
        with pytest.raises(Escape), guarded(tmp_path):
            pickle.loads(pickle.dumps(Evil()))
        assert not TRACE.exists()

    def test_a_checkpoint_of_a_hub(self, evil):
        with guarded(evil.parent), pytest.raises(UserError, match="not readable as weights"):
            hub_checkpoint.read(evil)

    def test_a_checkpoint_of_a_training(self, evil):
        said = []
        with guarded(evil.parent):
            assert checkpoint.load(evil, "run", said.append) is None
        assert "starting over" in said[0]

    def test_weights_of_transformers(self, evil, tmp_path_factory):
        published = Published(tmp_path_factory.mktemp("hub") / "published")
        (published.folder / "model.safetensors").unlink()
        (published.folder / evil.name).write_bytes(evil.read_bytes())
        with guarded(published.folder), pytest.raises(UserError, match="not readable as weights"):
            published.load(published.folder, file=evil.name)

    def test_a_batch_of_cifar(self, found, tmp_path):
        path = tmp_path / "data_batch_1"
        for content in ({"data": Evil(), "labels": [1]}, {"data": np.array([Evil()], dtype=object), "labels": [1]}):
            path.write_bytes(pickle.dumps(content))
            with guarded(tmp_path), pytest.raises(UserError, match="refused to load"):
                found["cifar batch of the right MD5"].read(path)
        assert not TRACE.exists()


class TestGuard:
    """The guard catches what it is meant to."""

    @pytest.mark.parametrize(
        "escape",
        [
            lambda: (HOME / "written").write_text(""),
            lambda: os.mkdir("/tmp/kdq-folder"),
            lambda: subprocess.run(["true"]),
            lambda: os.system("true"),
        ],
        ids=["write", "folder", "process", "shell"],
    )
    def test_an_escape(self, tmp_path, escape):
        with pytest.raises(Escape), guarded(tmp_path):
            escape()
        assert not (HOME / "written").exists() and not Path("/tmp/kdq-folder").exists()

    def test_memory(self, tmp_path):
        with pytest.raises(AssertionError, match="took"), guarded(tmp_path):
            bytearray(b"\1") * (GROWTH_BYTES + 2**26)
        with pytest.raises(MemoryError), guarded(tmp_path):
            bytearray(2**33)

    def test_a_long_message_or_a_traceback(self, tmp_path):
        with guarded(tmp_path):
            raise UserError("in one\nline")
        with pytest.raises(ZeroDivisionError), guarded(tmp_path):
            raise ZeroDivisionError
