"""A sealed file is read as it was written, or not at all: every byte counts."""

import hashlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.provenance import seal
from kdq.provenance.files import read_json, read_tensors, write_json, write_tensors

TENSORS = {"a": torch.arange(6).view(2, 3), "b": torch.ones(2)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sealed") / "file"


def refused(read, path) -> None:
    with pytest.raises(UserError) as error:
        read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


class TestSeal:
    @given(st.binary(), st.binary())
    def test_is_the_checksum_of_the_file_with_the_checksum_blank(self, place, before, after):
        blank = before + seal.BLANK.encode() + after
        place.write_bytes(blank)
        seal.seal(place)
        found = hashlib.sha256(blank).hexdigest()
        assert place.read_bytes() == blank.replace(seal.BLANK.encode(), found.encode(), 1)
        seal.check(place, found)

    @pytest.mark.parametrize("found", ["", "0" * 64, "A" * 64, None, 7, ["a"]])
    def test_another_checksum_is_refused(self, place, found):
        place.write_bytes(seal.BLANK.encode())
        seal.seal(place)
        refused(lambda path: seal.check(path, found), place)


class TestEveryByteCounts:
    def changes(self, path):
        """The file with each byte in turn changed in one bit, then without its end, then with one byte more."""
        content = path.read_bytes()
        for index in range(len(content)):
            changed = bytearray(content)
            changed[index] ^= 1 << index % 8
            yield bytes(changed)
        yield from (content[:-1], content[: len(content) // 2], b"", content + b"\0")

    def test_of_json(self, place):
        value = {"cross_entropy": 0.25, "recipe": "teacher/kd"}
        write_json(place, value)
        assert read_json(place) == value
        key = place.read_bytes().index(b'"seal"')
        for index, content in enumerate(self.changes(place)):
            place.write_bytes(content)
            if index not in range(key + 1, key + 5):  # under another key nothing is a seal
                refused(read_json, place)

    def test_of_tensors(self, place):
        write_tensors(place, TENSORS, {"format": "f", "recipe": "teacher"})
        key = place.read_bytes().index(b"seal")
        for index, content in enumerate(self.changes(place)):
            place.write_bytes(content)
            if index not in range(key, key + 4):
                refused(lambda path: read_tensors(path, "f"), place)


def test_a_file_of_before_there_were_seals_is_read(place):
    place.write_text(json.dumps({"recipe": "teacher"}))
    assert read_json(place) == {"recipe": "teacher"}
