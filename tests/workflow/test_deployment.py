"""ONNX files and latencies as results: what makes them again, what does not, and what verify notices."""

from types import SimpleNamespace

import pytest

from kdq.deploy import machine
from kdq.provenance.files import read_json
from kdq.workflow.planning import Plan
from tests.workflow.study import Workflow
from tests.workflow.test_adopt import command, copied
from tests.workflow.test_reruns import appended

STUDY = {"recipes": ["hard/rtn,bits=3"], "latency": True}
CELL, ROOT = "results/digits/seed=0/hard/rtn,bits=3", "results/digits/seed=0/hard"
LATENCIES = {f"{CELL}/latency.json", f"{ROOT}/latency.json"}
EXPORTED = {f"{folder}/{name}" for folder in (CELL, ROOT) for name in ("model.onnx", "model.onnx.json")}


@pytest.fixture(scope="module")
def timed(tmp_path_factory) -> Workflow:
    """A finished study of a network and its quantization, with latencies."""
    workflow = Workflow(tmp_path_factory.mktemp("timed"))
    workflow.configure(STUDY)
    done = workflow.run("--cores", "2")
    assert done.returncode == 0, done.stderr[-4000:]
    return workflow


def planned(workflow) -> set[str]:
    """Return the files of models that a run would make; tables and figures follow them."""
    return {path for path in workflow.plan() if not path.startswith("results/studies/")}


def verdicts(workflow) -> dict[str, str]:
    """What verify prints for each file."""
    lines = command(workflow, "kdq.provenance.verify").stdout.splitlines()
    return {words[1]: " ".join([words[0], *words[2:]]) for line in lines if len(words := line.split()) > 1}


def test_a_latency_holds_its_cell_and_its_onnx_file(timed):
    facts = read_json(timed.folder / CELL / "latency.json", sealed=True)
    exported = read_json(timed.folder / CELL / "model.onnx.json", sealed=True)
    assert (facts["dataset"], facts["seed"], facts["recipe"]) == ("digits", 0, "hard/rtn,bits=3")
    assert facts["onnx"] == {"bytes": (timed.folder / CELL / "model.onnx").stat().st_size, "test": exported["test"]}
    assert facts["onnx"]["test"]["agreement"] > 0.99 and exported["input"] == {"type": "float32", "shape": [1, 8, 8]}
    times = facts["runtimes"].get("onnxruntime", {}).get("milliseconds")
    assert facts["busy"] if not facts["runtimes"] else times.keys() == {"model", "float", "root"}
    log = (timed.folder / "logs/latency/digits/seed=0/hard/rtn,bits=3.log").read_text()
    assert ("ms at batch 1" in log) if times else (f"snakemake --force {CELL}/latency.json" in log)


def test_all_is_fresh_and_nothing_is_left_to_do(timed):
    states = verdicts(timed)
    assert states.keys() >= LATENCIES | EXPORTED
    assert {states[path] for path in LATENCIES | EXPORTED} == {"fresh"}
    assert planned(timed) == set()


def test_a_missing_or_newer_latency_makes_nothing_else(timed):
    path = timed.folder / CELL / "latency.json"
    content = path.read_bytes()
    path.unlink()
    assert planned(timed) == {f"{CELL}/latency.json"}
    path.write_bytes(content)
    assert planned(timed) == set()


def test_its_code_makes_latencies_alone(timed):
    with timed.edited("kdq/deploy/timing.py", appended("EDITED = 1")):
        assert planned(timed) == LATENCIES


def test_code_of_the_export_makes_no_model_or_metrics(timed):
    with timed.edited("kdq/deploy/onnx_graph.py", appended("EDITED = 1")):
        assert planned(timed) == LATENCIES | EXPORTED


def test_another_version_of_a_runtime_makes_latencies_alone(timed, tmp_path):
    (tmp_path / "onnxruntime-0.0.1.dist-info").mkdir()
    (tmp_path / "onnxruntime-0.0.1.dist-info/METADATA").write_text("Name: onnxruntime\nVersion: 0.0.1\n")
    timed.environment["PYTHONPATH"] = str(tmp_path)
    try:
        assert planned(timed) == LATENCIES
        assert {verdicts(timed)[path] for path in LATENCIES} == {"fresh"}, "whatever the machine"
    finally:
        del timed.environment["PYTHONPATH"]


def test_another_input_makes_onnx_files_again(timed):
    timed.configure(STUDY | {"onnx_input": "uint8_nhwc"})
    try:
        assert planned(timed) == LATENCIES | EXPORTED
        reason = "stale (parameter export.input: 'float32_nchw' -> 'uint8_nhwc')"
        assert {verdicts(timed)[path] for path in EXPORTED} == {reason}
    finally:
        timed.configure(STUDY)


def test_a_changed_byte_is_noticed(timed):
    path = timed.folder / CELL / "model.onnx"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    try:
        states = verdicts(timed)
        assert states[f"{CELL}/model.onnx"] == "corrupt (its content is not the one that it was made with)"
        assert states[f"{CELL}/latency.json"].startswith("stale (onnx")
        assert states[f"{ROOT}/latency.json"] == "fresh"
    finally:
        path.write_bytes(content)


def test_a_model_that_would_be_another_makes_its_onnx_stale(timed):
    with timed.edited("kdq/quantize/methods/rtn.py", appended("EDITED = 1")):
        states = verdicts(timed)
        assert states[f"{CELL}/model.onnx"].startswith("stale (model")
        assert states[f"{CELL}/latency.json"].startswith("stale (")
        assert states[f"{ROOT}/model.onnx"] == "fresh"
        assert LATENCIES - {f"{ROOT}/latency.json"} <= planned(timed) and f"{ROOT}/model.onnx" not in planned(timed)


def test_a_copy_of_another_machine_is_adopted(timed, tmp_path):
    workflow = copied(timed, tmp_path, metadata=False)
    workflow.configure(STUDY)
    assert planned(workflow) != set()
    adopted = command(workflow, "kdq.workflow.adopt")
    assert adopted.returncode == 0 and not list(tmp_path.glob("results.aside*")), adopted.stdout + adopted.stderr
    assert planned(workflow) == set()


def test_it_asks_for_all_cores_of_a_local_run(timed):
    done = timed.run("--cores", "7", "--dry-run", "--printshellcmds", "--force", f"{ROOT}/latency.json")
    assert "--threads 7" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("settings", "keyed", "threads"),
    [
        ({"is_on_cluster": False, "is_local": True}, True, 4),
        ({"is_on_cluster": True, "is_local": True}, False, 1),
        ({"is_on_cluster": False, "is_local": False}, False, 4),
    ],
    ids=["local", "planned for a cluster", "on a node"],
)
def test_the_processor_matters_to_a_local_run_alone(settings, keyed, threads):
    plan = SimpleNamespace(settings=SimpleNamespace(cores=4, **settings))
    assert (machine.processor()["name"] in Plan.machine.func(plan)) == keyed
    assert Plan.all_cores.fget(plan) == threads


def test_a_changed_file_is_not_timed(timed):
    """The last test of this study: Snakemake removes the output of a failed job."""
    path = timed.folder / CELL / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = timed.run("--cores", "1", "--force", f"{CELL}/latency.json", "--rerun-triggers", "input")
    assert done.returncode != 0
    assert f"error: {CELL}/model.onnx: its content is not the one that model.onnx.json holds" in done.stderr


def test_without_the_key_nothing_is_asked_for(fresh):
    fresh.configure(STUDY | {"latency": False})
    assert not {path for path in planned(fresh) if path.endswith(("latency.json", "model.onnx"))}
