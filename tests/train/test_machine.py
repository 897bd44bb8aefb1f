"""What of a machine counts: its name, the precision that `auto` is on it, and the inputs of another machine."""

import os
import subprocess
import sys

import pytest
import torch

from kdq.data.prepared import write
from kdq.distill.methods import kd
from kdq.distill.side_by_side import Students
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.train import history
from kdq.train.device import device_name
from kdq.train.precision import log_other_precisions, precision_name

CPU = torch.device("cpu")
HEADER = {"recipe": "teacher", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}


def processor(monkeypatch, capability="AVX512", **capabilities):
    """Let torch see a processor with these capabilities."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **capabilities})
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: capabilities.get("avx512_bf16", False))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, "cpu x86_64 AMD AVX512 bf16"),
        ({"cpu_name": "Intel(R) Xeon(R)", "avx512_bf16": True, "amx_tile": True}, "cpu x86_64 Intel AVX512 bf16 amx"),
        ({"cpu_name": "Intel(R) Core(TM)", "capability": "AVX2"}, "cpu x86_64 Intel AVX2"),
        ({"capability": "DEFAULT"}, "cpu x86_64 DEFAULT"),
    ],
)
def test_the_name_of_a_processor_has_what_its_bytes_depend_on(monkeypatch, capabilities, expected):
    processor(monkeypatch, **capabilities)
    assert device_name(CPU) == expected


def test_the_kernels_are_those_that_torch_takes_not_those_that_there_are(home):
    command = "import torch; from kdq.train.device import device_name; print(device_name(torch.device('cpu')))"
    environment = {**os.environ, "PYTHONPATH": str(home), "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert "DEFAULT" in done.stdout


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_what_the_processor_is_fast_at(monkeypatch, native):
    processor(monkeypatch, avx512_bf16=native)
    assert precision_name("auto", CPU) == ("bfloat16" if native else "float32")
    assert [precision_name(name, CPU) for name in ("bfloat16", "float32")] == ["bfloat16", "float32"]


class TestInputs:
    @pytest.fixture
    def lines(self, build, tmp_path):
        """Log of a job in ``precision``, whose parent and teacher have these records."""

        def lines(precision, **made_by):
            inputs = {}
            for role, record in made_by.items():
                inputs[role] = tmp_path / role / "model.safetensors"
                network = build(seed=1)
                header = HEADER | {"provenance": record}
                model_file.save(inputs[role], network, network.architecture, Codes(), **header)
            lines = []
            log_other_precisions(inputs, precision, lines.append)
            return lines

        return lines

    RECORD = {"precision": "bfloat16", "device": "cpu x86_64 AMD AVX512 bf16"}

    def test_of_another_precision_are_named_in_one_line(self, lines, tmp_path):
        assert lines("float32", parent={}, teacher=self.RECORD) == [
            f"{tmp_path}/teacher/model.safetensors: trained in bfloat16 (cpu x86_64 AMD AVX512 bf16), this job trains "
            "in float32; the key precision sets one for all"
        ]

    def test_of_the_same_or_none_are_not(self, lines):
        assert lines("bfloat16", parent=self.RECORD, teacher={}) == []


class TestCheckpoint:
    """Of a job that was stopped on one machine and is started on another."""

    @pytest.fixture
    def run(self, few, build, training_keys, tmp_path):
        def run(end=None):
            network = build(seed=1)
            inputs = {"data": tmp_path / "data.safetensors", "parent": tmp_path / "teacher/model.safetensors"}
            write(inputs["data"], few)
            model_file.save(inputs["parent"], network, network.architecture, Codes(), **HEADER)
            keys = {**training_keys(precision="auto"), **kd.Parameters().model_dump()}
            students = Students(inputs, tmp_path / "teacher", "code", seed=0, threads=1)
            job, lines = {"stage": "kd", "module": kd.__name__, "keys": keys, "code": "code"}, []
            (tmp_path / "teacher/kd").mkdir(exist_ok=True)
            try:
                with students.trained(job, None, lambda job: True, lines.append):
                    if end:
                        raise end
            except KeyboardInterrupt:
                pass
            return students.made_by(job), lines

        return run

    @pytest.mark.parametrize(
        ("there", "change"),
        [
            ({"avx512_bf16": True, "cpu_name": "AMD"}, ""),
            ({"cpu_name": "AMD"}, "'cpu x86_64 AMD AVX512 bf16'; made_by.precision 'float32' -> 'bfloat16'"),
            ({"avx512_bf16": True, "cpu_name": "Intel"}, "'cpu x86_64 AMD AVX512 bf16'"),
        ],
        ids=["same", "precision", "maker"],
    )
    def test_is_continued_on_the_same_kind_alone(self, run, monkeypatch, there, change):
        processor(monkeypatch, **there)
        before, _ = run(KeyboardInterrupt())  # killed when all epochs are trained and nothing is saved
        processor(monkeypatch, avx512_bf16=True, cpu_name="AMD")
        after, lines = run()
        text = "\n".join(lines)
        assert (before == after) is ("going on after epoch 2" in text) is (not change)
        if change:
            assert f"of another run (made_by.device '{before['device']}' -> {change}); starting over" in text
        assert (after["device"], after["precision"], after["threads"]) == ("cpu x86_64 AMD AVX512 bf16", "bfloat16", 1)


def test_a_pipe_in_the_place_of_a_history_is_refused_and_not_waited_for(tmp_path):
    path = tmp_path / "history.csv"
    os.mkfifo(path)
    with pytest.raises(UserError, match=f"^{path}: found a FIFO"):
        history.digest(path)
