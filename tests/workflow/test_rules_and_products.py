"""The rules against the table of products: every job of a study that uses every rule is the product of its files."""

import json
import subprocess
import sys

import pytest

from kdq.provenance.fingerprint import Fingerprints
from kdq.provenance.verify.claims import OF_CODE
from kdq.study import products
from kdq.study.config import merged, read_study
from tests.workflow.study import HOME, Workflow

STUDY = {
    "datasets": ["digits"],
    "seeds": [0, 1],
    "latency": True,
    "recipes": [
        *("teacher", "hard", "teacher/kd,teacher_cache=true", "teacher/at", "teacher,seed=0/rtn,bits=3"),
        *("{hard,teacher/at}/gpfq,bits={3,4}", "hard/gpfq,budget=3", "hard/gpfq,bits=3/qat", "hard/rtn/kd/rtn"),
        "teacher/dkd,alpha={1,2},beta=4",
    ],
}
ARCHIVE = "results/digits/seed=0/hard/gpfq,bits=3/model.archive.safetensors"
HUB = "results/digits/seed=0/hard/gpfq,bits=3/hub/README.md"
SHARED_HISTORY = "results/digits/seed=1/teacher,seed=0/history.csv"


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> dict:
    """The rules with outputs, and every job of the study."""
    workflow = Workflow(tmp_path_factory.mktemp("planned"))
    workflow.configure(STUDY)
    program = [sys.executable, str(HOME / "tests/workflow/jobs.py"), str(workflow.folder), str(workflow.overlay)]
    done = subprocess.run(
        [*program, "all", ARCHIVE, HUB, SHARED_HISTORY],
        cwd=workflow.folder,
        env=workflow.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    files = [workflow.overlay]
    study = read_study(merged(files), HOME / "kdq", files)
    return json.loads(done.stdout) | {"products": products.Products(study, Fingerprints(HOME))}


def test_every_rule_is_in_the_study(planned):
    used = {job["rule"] for job in planned["jobs"]}
    assert set(planned["rules"]) == used


def test_every_file_of_the_table_is_made_by_a_rule(planned):
    made = {products.name_in_cell(path) for job in planned["jobs"] for path in job["output"]}
    assert set(products.names_of_cells()) <= made
    assert any(name.startswith("views,") for name in made)


def test_every_job_is_the_product_of_its_files(planned):
    for job in planned["jobs"]:
        for path in job["output"]:
            product = planned["products"].of(path)
            assert job["rule"] in product.rules, path
            assert set(product.outputs) == set(job["output"]), path


def test_inputs_and_their_roles_are_those_of_the_rule(planned):
    for job in planned["jobs"]:
        product = planned["products"].of(job["output"][0])
        inputs = set(product.inputs.values())
        assert inputs == set(job["input"]), job["output"]
        if not product.is_copy and all(role != path for role, path in product.inputs.items()):
            by_role = {role: [path] for role, path in product.inputs.items()}
            assert {role: files for role, files in job["roles"].items() if files} == by_role, job["output"]


def test_code_and_keys_are_those_of_the_job(planned):
    for job in planned["jobs"]:
        product = planned["products"].of(job["output"][0])
        if product.is_copy:
            continue
        assert job["job"]["code"] == planned["products"].code.of(*product.code), job["output"]
        told = {key: value for key, value in job["job"].items() if key not in OF_CODE}
        if "keys" in told:
            told = told["keys"] | ({"threads": told["threads"]} if "threads" in told else {})
        assert told == json.loads(json.dumps(product.keys)), job["output"]
