"""Columns that are compiled: where, and what happens where the compiled function can't be kept."""

import subprocess
import sys
from pathlib import Path

import torch

from kdq.quantize.methods.gpfq import gpfq
from kdq.quantize.solver import compiled_columns as compiled
from kdq.quantize.solver import substitution
from tests.quantize.problems import gram_matrices, problem


def test_a_large_layer_is_compiled_and_has_the_codes_of_torch(monkeypatch):
    calls, columns = [], compiled.columns
    monkeypatch.setattr(
        compiled, "columns", lambda *arguments, of_nan: (calls.append(arguments[-1]), columns(*arguments, of_nan))
    )
    weight, analog, quantized = problem(0, 600, 450, 500)
    arguments = weight, *gram_matrices(analog, quantized), weight.abs().amax(1) / 8, -8, 7
    codes = gpfq(*arguments)
    assert len(calls) == 16 and calls[0] == 0
    small = weight[:580], *arguments[1:3], arguments[3][:580], -8, 7
    assert codes[:580].equal(gpfq(*small)) and len(calls) == 16  # 580 * 450 weights are fewer than 2^18
    monkeypatch.setattr(compiled, "WEIGHTS", float("inf"))
    assert codes.equal(gpfq(*arguments)) and len(codes.unique()) == 16


def test_other_roundings_are_not_compiled(monkeypatch):
    monkeypatch.setattr(compiled, "WEIGHTS", 0)
    z, triangle = torch.full((1, 2, 3), 2.0, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None]
    codes = torch.empty_like(z)
    substitution.solve(z, codes, triangle, lambda z_and_half, code: code.fill_(7), weights=6)
    assert codes.eq(7).all()


def test_what_cannot_be_kept_is_compiled_anew(tmp_path):
    script = """
import torch
from kdq.quantize.solver import compiled_columns as compiled
from kdq.quantize.methods.gpfq import gpfq
compiled.WEIGHTS = 0
print(gpfq(torch.tensor([[0.6, 0.3]]), torch.eye(2), torch.eye(2), 0.25, -4, 3).tolist())
"""
    kept = tmp_path / "kept"
    environment = {"NUMBA_CACHE_DIR": str(kept), "PATH": "/usr/bin:/bin"}

    def run():
        words, home = [sys.executable, "-c", script], Path(__file__).parents[2]
        done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "[[2, 1]]\n"

    run()
    files = [file for file in kept.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".nbi", ".nbc"}
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    run()
    kept = tmp_path / "a file"
    kept.touch()
    environment["NUMBA_CACHE_DIR"] = str(kept)
    run()
