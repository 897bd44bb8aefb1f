"""Archives: exactly the model file comes back, in about the bytes of its codes' entropy; damage is noticed."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kdq import models
from kdq.errors import UserError
from kdq.models import archive, entropy
from kdq.models import file as model_file
from kdq.models.codes import Codes, QuantizedWeight
from kdq.provenance.files import read_header
from tests.models.test_model_file import ARCHITECTURE, HEADER, random_codes


@pytest.fixture
def model(build, tmp_path):
    """The file of a small network with codes of 3 bits."""
    network = build()
    path = tmp_path / "model.safetensors"
    model_file.save(path, network, ARCHITECTURE, random_codes(network, 3), **HEADER)
    return path


@pytest.fixture
def packed(model):
    path = model.with_name("model.archive.safetensors")
    archive.pack(model, path)
    return path


def entropy_bits(codes) -> float:
    counts = np.bincount(codes.ravel())
    shares = counts[counts > 0] / codes.size
    return -codes.size * float((shares * np.log2(shares)).sum())


def bell(shape, levels, deviation, seed=0):
    drawn = np.random.default_rng(seed).normal(levels / 2, deviation, shape)
    return np.clip(drawn.round(), 0, levels - 1).astype(np.int64)


class TestStream:
    @given(st.data())
    def test_any_layers_come_back(self, data):
        layers = []
        for _ in range(data.draw(st.integers(0, 3))):
            shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=2, max_size=4)))
            levels = data.draw(st.integers(2, 300))
            codes = data.draw(
                st.lists(st.integers(0, levels - 1), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
            )
            layers.append((np.array(codes, dtype=np.int16).reshape(shape), levels))
        stream = entropy.encode(layers)
        assert stream.dtype == np.uint8
        found = entropy.decode(stream, [(codes.shape, levels) for codes, levels in layers])
        assert all(np.array_equal(one, codes) for one, (codes, _) in zip(found, layers, strict=True))

    @pytest.mark.parametrize(("levels", "deviation"), [(4, 0.8), (8, 1.2), (16, 2.5), (256, 40)])
    def test_takes_the_entropy_and_what_a_table_would(self, levels, deviation):
        codes = bell((128, 64, 3, 3), levels, deviation)
        bits = 8 * len(entropy.encode([(codes, levels)]))
        least = entropy_bits(codes)
        assert least < bits < least * 1.001 + 16 * levels + 64

    def test_codes_without_a_pattern_take_hardly_more_than_packed(self):
        codes = np.random.default_rng(0).integers(0, 16, (64, 576))
        assert len(entropy.encode([(codes, 16)])) < 1.005 * codes.size / 2

    def test_positions_that_see_nothing_cost_next_to_nothing(self):
        """Of a kernel at a 1 x 1 image eight positions see padding alone: their weights are all zero."""
        codes = np.full((64, 64, 3, 3), 4)
        codes[:, :, 1, 1] = bell((64, 64), 8, 1.5)
        bits = 8 * len(entropy.encode([(codes, 8)]))
        assert bits < 1.1 * entropy_bits(codes[:, :, 1, 1]) < 0.6 * entropy_bits(codes)

    @pytest.mark.parametrize("change", [lambda stream: stream[:-1], lambda stream: np.full(8, 255, np.uint8)])
    def test_another_stream_is_a_value_error(self, change):
        stream = entropy.encode([(bell((20, 20), 5, 1), 5)])
        with pytest.raises(ValueError, match="^stream: "):
            entropy.decode(change(stream), [((20, 20), 5)])


class TestFile:
    def test_unpacked_it_is_the_model_file_byte_for_byte(self, model, packed, tmp_path):
        archive.unpack(packed, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == model.read_bytes()

    def test_reads_as_the_model_file(self, model, packed):
        one, other = model_file.read(model), archive.read(packed)
        assert one.header == other.header
        assert all(value.equal(other.floats[name]) for name, value in one.floats.items())
        assert all(weight.codes.equal(other.codes[name].codes) for name, weight in one.codes.items())
        images = torch.rand(2, 1, 8, 8)
        assert models.load(packed)(images).equal(models.load(model)(images))

    def test_the_size_that_is_told_is_that_of_the_file(self, model, packed):
        assert archive.size_bytes(model) == packed.stat().st_size

    def test_the_same_model_gives_the_same_bytes(self, model, packed, tmp_path):
        archive.pack(model, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == packed.read_bytes()

    def test_codes_that_are_mostly_zero_take_less(self, build, tmp_path):
        network = build()
        codes = random_codes(network, 3)
        for weight in codes.values():
            weight.codes[torch.rand(weight.codes.shape) < 0.9] = 0
        model_file.save(tmp_path / "model", network, ARCHITECTURE, codes, **HEADER)
        archive.pack(tmp_path / "model", tmp_path / "archive")
        weights = sum(weight.codes.numel() for weight in codes.values())
        saved = (tmp_path / "model").stat().st_size - (tmp_path / "archive").stat().st_size
        assert saved > weights * (3 - 1) / 8

    def test_the_readers_are_those_of_the_formats(self):
        assert list(models.READERS) == [model_file.FORMAT, archive.FORMAT]

    def test_a_float_model_is_refused(self, build, tmp_path):
        model_file.save(tmp_path / "model", build(), ARCHITECTURE, Codes(), **HEADER)
        with pytest.raises(UserError, match="a float model, expected quantized layers"):
            archive.pack(tmp_path / "model", tmp_path / "archive")
        assert not (tmp_path / "archive").exists()


class TestBroken:
    def refused(self, path, match):
        with pytest.raises(UserError, match=match) as error:
            models.load(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    def rewrite(self, path, change_tensors=lambda tensors: None, change_header=lambda header: None):
        tensors, header = load_file(path), read_header(path, archive.FORMAT)
        change_tensors(tensors)
        change_header(header)
        save_file(tensors, path, metadata={"kdq": json.dumps(header, sort_keys=True)})

    @settings(max_examples=40)
    @given(st.data())
    def test_every_other_byte_of_the_stream_is_noticed(self, tmp_path_factory, data):
        network = torch.nn.Module()
        network.layer = torch.nn.Linear(30, 20, bias=False)
        values = torch.from_numpy(bell((20, 30), 8, 1.5)).short() - 4
        codes = Codes({"layer": QuantizedWeight(values, torch.ones(1), -4, 3, 3)})
        folder = tmp_path_factory.mktemp("archive")
        model_file.save(folder / "model", network, {}, codes)
        archive.pack(folder / "model", folder / "archive")
        size = len(load_file(folder / "archive")["codes"])
        place, change = data.draw(st.integers(0, size - 5)), data.draw(st.integers(1, 255))

        def flip(tensors):
            tensors["codes"][place] ^= change

        self.rewrite(folder / "archive", flip)
        with pytest.raises(UserError, match="cannot be decoded"):
            archive.read(folder / "archive")

    @pytest.mark.parametrize(
        "change",
        [
            lambda tensors: tensors.pop("codes"),
            lambda tensors: tensors.update(codes=tensors["codes"][:-4].clone()),
            lambda tensors: tensors.update(codes=tensors["codes"][:-1].clone()),
            lambda tensors: tensors.update(codes=torch.zeros(0, dtype=torch.uint8)),
        ],
    )
    def test_another_stream(self, packed, change):
        self.rewrite(packed, change_tensors=change)
        self.refused(packed, "cannot be decoded")

    @pytest.mark.parametrize(
        ("key", "value"),
        [("shape", [3, 3]), ("shape", [2**44]), ("shape", "x"), ("high", -4), ("high", 90000), ("storage_bits", 1)],
    )
    def test_another_layer(self, packed, key, value):
        self.rewrite(packed, change_header=lambda header: header["layers"]["fc"].update({key: value}))
        self.refused(packed, "cannot be decoded")

    @pytest.mark.parametrize("key", ["layers", archive.CHECKSUM])
    def test_a_header_without_a_key(self, packed, key):
        self.rewrite(packed, change_header=lambda header: header.pop(key))
        self.refused(packed, f"cannot be decoded .*{key}")

    def test_truncated(self, packed):
        packed.write_bytes(packed.read_bytes()[:-10])
        self.refused(packed, "not a readable safetensors file")

    def test_a_model_file_is_no_archive(self, model):
        with pytest.raises(UserError, match="format 'kdq-model/1', expected 'kdq-archive/1'"):
            archive.read(model)
