"""Inputs that wait in the temporary folder: a full one is told in one line, wherever it fills, and nothing is left."""

import errno
import os
import tempfile

import pytest
import torch

from kdq.errors import UserError
from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from tests.quantize.small import network, part, silent


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def spilling(model):
    quantizer = quantizer_of("kdq.quantize.methods.gpfq", {"memory": 1e-9}, 0)
    return quantize(model, part(70).images, quantizer, log=silent)


def refused(folder, model=None):
    model = model or network()
    with pytest.raises(UserError) as caught:
        spilling(model)
    message = str(caught.value)
    assert message.startswith(f"memory: {folder} can't hold") and "\n" not in message
    assert not list(folder.iterdir())
    assert all("forward" not in vars(module) and not module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        model(part().images / 255)
    return message


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_at_any_of_the_files(folder, monkeypatch, code):
    allocate, sizes = os.posix_fallocate, []
    monkeypatch.setattr(os, "posix_fallocate", lambda *given: sizes.append(given[2]) or allocate(*given))
    spilling(network())
    assert len(sizes) == 15  # five layers, three chunks of images
    for full_at in range(len(sizes)):
        taken = iter(range(len(sizes)))

        def fill(*given, taken=taken, full_at=full_at):
            if next(taken) == full_at:
                raise OSError(code, os.strerror(code))
            allocate(*given)

        monkeypatch.setattr(os, "posix_fallocate", fill)
        assert os.strerror(code) in refused(folder)


def test_a_map_that_the_system_refuses(folder, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("unable to mmap 4096 bytes from file: Cannot allocate memory (12)")

    monkeypatch.setattr(torch, "from_file", refuse)
    assert "Cannot allocate memory" in refused(folder)


def test_a_folder_that_is_gone(folder):
    folder.rmdir()
    try:
        with pytest.raises(UserError, match=rf"^memory: {folder} can't hold .*No such file"):
            spilling(network())
    finally:
        folder.mkdir()
