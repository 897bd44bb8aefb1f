"""A folder to give away is a product: asked for by its path, covered file by file, remade if one was changed."""

import json
import re

import pytest
from huggingface_hub import ModelCard

from tests.workflow.study import Workflow
from tests.workflow.test_adopt import command

CELL = "results/digits/seed=0/hard/gpfq,activations=8,bits=4"
FOLDER = f"{CELL}/hub"
FILES = ("LICENSE", "README.md", "config.json", "model.onnx", "model.safetensors", "preprocessor_config.json")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Workflow:
    """A study without tables of times, in which the folder of one model was asked for."""
    workflow = Workflow(tmp_path_factory.mktemp("folder"))
    workflow.configure({"recipes": ["hard"], "latency": False})
    done = workflow.run("--cores", "2", f"{FOLDER}/README.md")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return workflow


def verdicts(study) -> dict[str, str]:
    lines = command(study, "kdq.provenance.verify").stdout.splitlines()[:-1]
    return {line.split()[1]: line.split()[0] for line in lines}


def test_its_card_has_the_numbers_of_the_model(study):
    card = ModelCard.load(study.folder / FOLDER / "README.md")
    metrics = json.loads((study.folder / CELL / "metrics.json").read_text())
    record = json.loads((study.folder / CELL / "model.onnx.json").read_text())
    values = [result.metric_value for result in card.data.eval_results]
    assert values == pytest.approx([record["test"]["top1"], metrics["test"]["top1"]])
    assert f"| `model.onnx` | ONNX Runtime | {record['bytes']:,} |" in str(card)
    assert re.search(r"2\. `gpfq,activations=8,bits=4`: GPFQ.*`images=256`", str(card))
    assert str(study.folder) not in str(card)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_noticed(study, name):
    path = study.folder / FOLDER / name
    content = path.read_bytes()
    assert verdicts(study)[f"{FOLDER}/{name}"] == "fresh"
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    assert verdicts(study)[f"{FOLDER}/{name}"] == "corrupt"
    path.write_bytes(content)


def test_a_file_that_no_job_made_is_foreign(study):
    path = study.folder / FOLDER / "notes.txt"
    path.write_text("notes")
    assert verdicts(study)[f"{FOLDER}/notes.txt"] == "foreign"
    path.unlink()


def test_it_is_made_once_and_again_if_a_file_is_missing(study):
    target = f"{FOLDER}/README.md"
    assert study.plan(target) == set()
    path = study.folder / FOLDER / "config.json"
    content = path.read_bytes()
    path.unlink()
    assert study.plan(f"{FOLDER}/config.json") == {f"{FOLDER}/{name}" for name in (*FILES, "provenance.json")}
    path.write_bytes(content)


def test_a_misspelled_name_is_corrected(study):
    done = study.run("--cores", "1", f"{FOLDER}/README")
    assert done.returncode != 0 and "did you mean 'hub/README.md'" in done.stderr
