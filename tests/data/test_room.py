"""A data set that is larger than memory is prepared in a mapped file: the same bytes, and no room is an error."""

import errno
import os

import pytest
import torch

from kdq.data import prepared as data_file
from kdq.data.catalog import Images, prepare
from kdq.data.room import room, selected
from kdq.errors import UserError
from tests.data.image_folder import paint, settings


def test_a_large_data_set_has_the_bytes_of_a_small_one(tmp_path, monkeypatch):
    for number in range(40):
        for label, name in enumerate(("cat", "dog")):
            paint(tmp_path / f"images/{name}/{number}.png", (number, label, 3 * number))
    monkeypatch.chdir(tmp_path)
    files = []
    for large in (1 << 30, 0):
        monkeypatch.setattr("kdq.data.room.LARGE_BYTES", large)
        monkeypatch.setattr("kdq.data.room.CHUNK", 7)
        files.append(tmp_path / f"{large}.safetensors")
        data_file.write(files[-1], prepare("folder", settings(tmp_path / "images"), 0.1, 0))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"images", *(file.name for file in files)}


def test_a_large_room_is_mapped_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kdq.data.room.LARGE_BYTES", 100)
    large = room(10, 3, 4, 4)
    large.fill_(7)
    assert list(tmp_path.iterdir()) == []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert any(f"{tmp_path}/.images-" in line for line in maps)
    taken = torch.arange(10) % 3 == 0
    large[:, 0, 0, 0] = torch.arange(10)
    assert torch.equal(selected(large, taken), large[taken])


def test_no_room_on_the_disk_is_one_line(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(UserError, match=f"^{tmp_path}: no room for 2.15 GB of images .No space left on device.$"):
        room(2**31)
    assert list(tmp_path.iterdir()) == []


def test_mapped_images_take_little_memory():
    assert Images(1_281_167, 256, 3, 1000).megabytes > 250_000
    assert Images(1_281_167, 256, 3, 1000, mapped=True).megabytes == 1000
    assert Images(100, 32, 3, 10, mapped=True).megabytes == Images(100, 32, 3, 10).megabytes
