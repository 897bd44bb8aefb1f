"""Masks in a file: the smaller of two forms, each exact; damaged ones are refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.models import archive, masks
from kdq.models import file as model_file
from kdq.models.codes import Codes, QuantizedWeight
from kdq.provenance.files import read_tensors, write_tensors

HEADER = {"recipe": "hard/magnitude", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}


def drawn(shape, share, seed=0) -> torch.Tensor:
    """Return a mask that leaves about a ``share`` of the weights."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


class TestForms:
    @given(
        st.lists(st.integers(0, 7), min_size=1, max_size=4).filter(math.prod),
        st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0]),
        st.integers(0, 999),
    )
    def test_are_exact(self, shape, share, seed):
        mask = drawn(shape, share, seed)
        stream, bits, runs = masks.encoded(mask)
        assert stream.dtype == torch.uint8 and len(stream) <= -(-mask.numel() // 8)
        assert torch.equal(masks.decoded(stream, shape, bits, runs), mask)

    def test_worked_by_hand(self):
        """Runs of 1, 9 and 0 zeros, the longest of 3 bits being 7: 1, 7 and 2, 0, lowest bit first."""
        mask = masks.decoded(torch.tensor([0b10111001, 0b00000000], dtype=torch.uint8), (5, 8), 3, 4)
        assert mask.flatten().nonzero().flatten().tolist() == [1, 11, 12] and mask.shape == (5, 8)

    @pytest.mark.parametrize("left", [0.01, 0.05, 0.1, 0.2, 0.5])
    def test_take_little_more_than_the_entropy(self, left):
        mask = drawn((256, 64, 3, 3), left)
        stream, bits, _ = masks.encoded(mask)
        entropy = -(left * math.log2(left) + (1 - left) * math.log2(1 - left))
        assert entropy <= 8 * len(stream) / mask.numel() * 1.01 <= 1.12 * entropy
        assert (bits == masks.BITMAP) == (left == 0.5)

    def test_runs_beyond_the_last_weight_are_refused(self):
        mask = torch.zeros(40, dtype=torch.bool)
        mask[[1, 11, 39]] = True
        stream, bits, runs = masks.encoded(mask)
        with pytest.raises(ValueError, match="a mask of 30 weights has one at 39"):
            masks.decoded(stream, (30,), bits, runs)


@pytest.fixture
def pruned(build):
    """Return a network with two masks, one of a layer with codes, and these codes."""
    network = build()
    left = {"conv1": drawn(network.conv1.weight.shape, 0.4), "fc": drawn(network.fc.weight.shape, 0.1)}
    masks.attach(network, left)
    shape = network.fc.weight.shape
    levels = torch.randint(-2, 2, shape, generator=torch.Generator().manual_seed(1)).short() * left["fc"]
    codes = Codes({"fc": QuantizedWeight(levels, torch.full((shape[0],), 0.1), -2, 1, 2, {"bits": 2, "levels": "2^b"})})
    network.fc.weight.data = codes["fc"].decode()
    return network, codes, left


class TestFile:
    def test_holds_what_is_left_and_gives_all_back(self, pruned, tmp_path):
        network, codes, left = pruned
        path = tmp_path / "model.safetensors"
        model_file.save(path, network, network.architecture, codes, **HEADER)
        _, tensors = read_tensors(path, model_file.FORMAT)
        assert tensors["conv1.weight.values"].numel() == int(left["conv1"].sum())
        assert tensors["fc.weight.codes"].numel() == -(-2 * int(left["fc"].sum()) // 8)
        assert "conv1.weight" not in tensors
        file = model_file.read(path)
        loaded = model_file.to_network(file)
        assert file.masks.keys() == left.keys() and torch.equal(file.codes["fc"].codes, codes["fc"].codes)
        for name, value in network.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], value), name
        assert all(torch.equal(masks.masks_of(loaded)[name], mask) for name, mask in left.items())

    def test_comes_back_from_its_archive_byte_by_byte(self, pruned, tmp_path):
        network, codes, _ = pruned
        path, packed, again = (tmp_path / f"{name}.safetensors" for name in ("model", "packed", "again"))
        model_file.save(path, network, network.architecture, codes, **HEADER)
        archive.pack(path, packed)
        archive.unpack(packed, again)
        assert again.read_bytes() == path.read_bytes()
        assert torch.equal(archive.read(packed).codes["fc"].codes, codes["fc"].codes)

    @pytest.mark.parametrize("damage", ["left", "runs", "values"])
    def test_that_contradicts_itself_is_refused(self, pruned, tmp_path, damage):
        network, codes, _ = pruned
        path = tmp_path / "model.safetensors"
        model_file.save(path, network, network.architecture, codes, **HEADER)
        header, tensors = read_tensors(path, model_file.FORMAT)
        if damage == "values":
            tensors["conv1.weight.values"] = tensors["conv1.weight.values"][1:]
        else:
            header["pruned"]["fc"][damage] += 5
        write_tensors(path, tensors, header)
        with pytest.raises(UserError, match="corrupted, its quantized layers do not fit its header"):
            model_file.read(path)

    def test_of_a_full_mask_is_that_of_none(self, build, tmp_path):
        network, contents = build(), []
        for _ in range(2):
            model_file.save(tmp_path / "model.safetensors", network, network.architecture, Codes(), **HEADER)
            contents.append((tmp_path / "model.safetensors").read_bytes())
            masks.attach(network, {"conv1": torch.ones_like(network.conv1.weight, dtype=torch.bool)})
        assert contents[0] == contents[1]
