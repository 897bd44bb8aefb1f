"""Times of files in runtimes: rounds that count, ratios within rounds, files of two names, what can't be run."""

import json
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
import torch

from kdq.deploy import latency, machine, timing
from kdq.deploy.graph_nodes import UINT8_NHWC
from kdq.deploy.onnx_file import to_onnx
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from tests.deploy.conftest import images

BATCHES = {1: np.zeros((1, 3, 8, 8), np.float32), 128: np.zeros((128, 3, 8, 8), np.float32)}
SHAPE = "float32,3,16,16"


@pytest.fixture
def clocks(monkeypatch):
    """Let wall and processor time go on as told, ``spend(wall, processor)`` in seconds."""
    now = {"wall": 0.0, "processor": 0.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "process_time", lambda: now["processor"])

    def spend(wall: float, processor: float) -> None:
        now["wall"] += wall
        now["processor"] += processor

    return spend


class TestRounds:
    def test_times_are_per_batch_and_round(self, clocks):
        seconds = {"model": 0.02, "float": 0.06}
        runs = {name: lambda batch, s=s: clocks(s * len(batch), s * len(batch)) for name, s in seconds.items()}
        measured = timing.timed(runs, BATCHES)
        assert measured["busy"] == "" and json.loads(json.dumps(measured)) == measured
        for name, expected in seconds.items():
            for batch in (1, 128):
                series = measured["times"][name][str(batch)]
                assert series["wall"] == series["processor"] == pytest.approx([expected * batch] * timing.ROUNDS)

    def test_an_interval_is_long_enough_for_its_clocks(self, clocks):
        runs = []
        timing.timed({"model": lambda batch: (runs.append(len(batch)), clocks(1e-4, 1e-4))}, BATCHES)
        assert runs.count(1) >= timing.ROUNDS * timing.LEAST_SECONDS / 1e-4

    def test_rounds_beside_something_else_do_not_count(self, clocks):
        count = 0

        def run(batch):
            nonlocal count
            count += 1
            clocks(2.0 if 10 < count < 15 else 1.0, 1.0)  # the first runs are no measurements

        measured = timing.timed({"model": run}, BATCHES)
        assert measured["busy"] == "" and measured["times"]["model"]["1"]["wall"] == [1.0] * timing.ROUNDS

    def test_a_busy_machine_has_no_numbers_and_an_end(self, clocks):
        rounds = []
        measured = timing.timed({"model": lambda batch: (rounds.append(0), clocks(1.3, 1.0))}, BATCHES)
        assert measured == {"times": {}, "busy": "1.30"}
        assert len(rounds) == 2 * (2 + timing.MOST_ROUNDS)

    def test_a_little_more_wall_time_is_quiet(self, clocks):
        assert timing.timed({"model": lambda batch: clocks(1.14, 1.0)}, BATCHES)["busy"] == ""

    def test_with_several_threads_all_rounds_count(self, clocks):
        measured = timing.timed({"model": lambda batch: clocks(1.0, 3.0)}, BATCHES, threads=4)
        assert len(measured["times"]["model"]["1"]["wall"]) == timing.ROUNDS


def times(**walls) -> dict:
    """Return times of rounds at both batches, the processor's the same."""
    return {
        name.replace("_", "@"): {batch: {"wall": wall, "processor": wall} for batch in ("1", "128")}
        for name, wall in walls.items()
    }


class TestComparison:
    def test_a_speedup_is_that_of_a_round_however_the_machine_changes(self):
        facts = latency.compared(times(model=[0.1, 0.2, 0.4], float=[0.3, 0.6, 1.2]))
        assert facts["speedups"]["float"]["1"] == {"median": 3, "least": 3, "most": 3}

    def test_median_and_extremes(self):
        facts = latency.compared(times(model=[0.1, 0.1, 0.1], float=[0.2, 0.5, 0.3], float_bfloat16=[0.1] * 3))
        assert facts["speedups"]["float"]["128"] == {"median": 3, "least": 2, "most": 5}
        assert facts["speedups"]["float@bfloat16"]["1"]["median"] == 1 and "model" not in facts["speedups"]
        assert facts["milliseconds"]["float"] == {"median": 300, "least": 200}
        assert facts["images_per_second"]["float"] == {"median": 426.7, "most": 640}
        assert facts["processor_milliseconds"]["float"] == 300

    def test_without_the_model_nothing_is_compared(self):
        assert latency.compared(times(float=[1.0], float_bfloat16=[0.5]))["speedups"] == {}


@pytest.fixture(scope="module")
def files(model_of, tmp_path_factory):
    """A quantized and a float ONNX file, and the float network's model file."""
    folder, quantized = tmp_path_factory.mktemp("files"), model_of(bits=4, activations=8)
    network = model_file.to_network(quantized, integer=False)
    content = model_file.ModelFile(quantized.header, network.state_dict(), Codes())
    onnx.save(to_onnx(quantized, "m", {}), folder / "model.onnx")
    onnx.save(to_onnx(content, "m", {}), folder / "float.onnx")
    onnx.save(to_onnx(content, "m", {}, UINT8_NHWC), folder / "camera.onnx")
    model_file.save(folder / "model.safetensors", network, network.architecture, Codes())
    return folder


class TestRuntimes:
    """With two threads, so that a busy machine does not matter."""

    def test_a_file_of_two_names_is_run_once(self, files, monkeypatch):
        commands, run = [], subprocess.run
        monkeypatch.setattr(subprocess, "run", lambda command, **rest: commands.append(command) or run(command, **rest))
        float_file = str(files / "float.onnx")
        named = {"model": str(files / "model.onnx"), "float": float_file, "root": float_file}
        measured, busy = latency.run("onnxruntime", named, SHAPE, 2)
        assert sum(float_file in word for word in commands[0]) == 1 and not busy
        assert measured.keys() == {"model", "float", "root"} and measured["root"] == measured["float"]
        assert measured["model"] != measured["float"]

    @pytest.mark.skipif("openvino" not in machine.runtimes(), reason="OpenVINO is not installed")
    def test_openvino(self, files):
        measured, busy = latency.run("openvino", {"model": str(files / "model.onnx")}, SHAPE, 2)
        assert "model" in measured and not busy

    def test_an_input_as_cameras_give_it(self, files):
        named = {"model": str(files / "camera.onnx")}
        assert latency.run("onnxruntime", named, "uint8,16,16,3", 2)[0].keys() == {"model"}

    def test_the_float_network_in_torch(self, files):
        runs = timing.torch_of(str(files / "model.safetensors"), 1)
        with torch.inference_mode():
            expected = model_file.load(files / "model.safetensors")(images(4).float() / 255).numpy()
        for batch in ((images(4).float() / 255).numpy(), images(4).permute(0, 2, 3, 1).contiguous().numpy()):
            assert np.allclose(runs[""](batch), expected, rtol=1e-3, atol=1e-4)
            difference = np.linalg.norm(runs["@bfloat16"](batch) - expected) / np.linalg.norm(expected)
            assert 1e-4 < difference < 0.1  # rounded to 8 bits, and no more

    def test_torch_has_both_precisions(self, files):
        measured, busy = latency.run("torch", {"float": str(files / "model.safetensors")}, SHAPE, 2)
        assert measured.keys() == {"float", "float@bfloat16"} and measured["float"].keys() == {"1", "128"}

    def test_a_file_that_a_runtime_refuses_is_one_line(self, files, tmp_path):
        (tmp_path / "model.onnx").write_bytes(b"none")
        with pytest.raises(UserError, match=r"model\.onnx: onnxruntime can't run it or a file beside it \(.+\)$"):
            latency.run("onnxruntime", {"model": str(tmp_path / "model.onnx")}, SHAPE, 2)


class TestMeasure:
    @pytest.fixture
    def measured(self, monkeypatch):
        """Measure with processes that do not run; return the result and what each was to run."""
        asked = {}

        def measured(busy="", runtimes=("onnxruntime", "torch"), files=("model", "float", "root"), cores=1, **options):
            def run(runtime, named, images, threads):
                if threads > 1:
                    asked[f"{runtime} with {threads}"] = named
                    return times(**dict.fromkeys(named, [0.25])), ""
                asked[runtime] = named
                return ({}, busy) if busy else (times(**dict.fromkeys(named, [0.5])), "")

            monkeypatch.setattr(latency, "run", run)
            monkeypatch.setattr(machine, "runtimes", lambda: dict.fromkeys(runtimes, "1.0"))
            monkeypatch.setattr(latency.os, "sched_getaffinity", lambda process: set(range(cores)))
            return latency.measure({name: f"{name}.onnx" for name in files}, SHAPE, **options), asked

        return measured

    def test_holds_machine_and_runtimes(self, measured):
        facts, asked = measured(network="n.safetensors")
        assert facts["processor"]["name"] and facts["threads"] == 1 and facts["load"] >= 0 and facts["busy"] == ""
        assert facts["runtimes"]["onnxruntime"]["version"] == "1.0"
        assert asked["torch"] == {"float": "n.safetensors"}
        assert latency.summary(facts) == (
            "onnxruntime: 500 ms at batch 1, 256 images/s at 128; "
            "torch: the float network 500 ms at batch 1, 256 images/s at 128"
        )

    def test_with_all_threads_the_model_and_its_float_network_run_again(self, measured):
        facts, asked = measured(cores=4, network="n.safetensors")
        assert asked["onnxruntime with 4"] == {"model": "model.onnx", "float": "float.onnx"}
        assert list(asked) == ["onnxruntime", "onnxruntime with 4", "torch"]
        times = facts["runtimes"]["onnxruntime"]["all_threads"]
        assert times["threads"] == 4 and times["milliseconds"]["model"]["median"] == 250
        assert facts["runtimes"]["onnxruntime"]["milliseconds"]["model"]["median"] == 500
        assert "all_threads" not in measured()[0]["runtimes"]["onnxruntime"]

    def test_a_float_network_is_the_model_in_torch_too(self, measured):
        assert measured(network="n.safetensors", files=("model", "root"))[1]["torch"] == {"model": "n.safetensors"}

    def test_busy_is_one_line_and_no_numbers(self, measured):
        facts, asked = measured(busy="took 1.30 times its processor time, expected at most 1.15")
        assert facts["busy"] == "too busy: onnxruntime took 1.30 times its processor time, expected at most 1.15"
        assert facts["runtimes"] == {} and list(asked) == ["onnxruntime"], "the next runtime has no better chance"


class TestMachine:
    @pytest.fixture
    def of(self, monkeypatch, tmp_path):
        def of(text: str) -> dict:
            (tmp_path / "cpuinfo").write_text(text)
            monkeypatch.setattr(machine, "Path", lambda path: tmp_path / "cpuinfo")
            return machine.processor()

        return of

    def test_processors(self, of):
        intel = "processor : 0\nmodel name : Xeon\nflags : fpu avx2 amx_bf16\n\nprocessor : 1\nmodel name : Xeon\n"
        assert of(intel) == {"name": "Xeon", "flags": ["avx2", "amx_bf16"]}
        assert "torch" in machine.runtimes()
        assert of("processor : 0\nFeatures : fp asimd\n") == {"name": "unknown", "flags": ["asimd"]}
        assert "torch" not in machine.runtimes() and "onnxruntime" in machine.runtimes()

    def test_the_planner_reads_it_without_a_runtime(self):
        program = "import sys; from kdq.deploy import machine; machine.runtimes(); print(json.dumps(list(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", f"import json; {program}"], capture_output=True, check=True)
        assert not {"torch", "onnx", "onnxruntime", "openvino", "numpy"} & set(json.loads(done.stdout))
