"""Two studies in one folder: each keeps its tables and figures, and both share their models."""

import csv
import json
import subprocess
import sys

import pytest
import yaml

from tests.workflow.study import Workflow

STUDY = {
    "datasets": ["digits"],
    "seeds": [0],
    "student": {"architecture": "resnet18", "width": 0.0625, "epochs": 1, "batch_size": 512},
}
ALONE = STUDY | {"recipes": ["hard"]}
ROUNDED = STUDY | {"recipes": ["hard/rtn,bits={2,3}"]}
STUDIES = "results/studies"


class Studies(Workflow):
    """The workflow, run with the config files that each call names."""

    def write(self, path: str, config: dict) -> None:
        place = self.folder / path
        place.parent.mkdir(exist_ok=True)
        place.write_text(yaml.safe_dump(config))

    def call(self, module: str, *arguments) -> subprocess.CompletedProcess:
        words = [sys.executable, "-m", module, *arguments]
        return subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def make(self, file: str, *arguments) -> subprocess.CompletedProcess:
        return self.call("snakemake", "--cores", "2", *arguments, "--configfile", file)

    def contents(self, study: str) -> dict[str, bytes]:
        folder = self.folder / STUDIES / study
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def rows(self, study: str) -> set[tuple[str, str]]:
        with open(self.folder / STUDIES / study / "table.csv") as file:
            return {(row["seed"], row["recipe"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> Studies:
    """A finished study."""
    workflow = Studies(tmp_path_factory.mktemp("studies"))
    workflow.write("mine/alone.yaml", ALONE)
    workflow.write("mine/rounded.yaml", ROUNDED)
    done = workflow.make("mine/alone.yaml")
    assert done.returncode == 0, done.stderr
    return workflow


def test_a_second_study_leaves_the_first_as_it_is(studies):
    first, model = studies.contents("alone"), studies.folder / "results/digits/seed=0/hard/model.safetensors"
    made = model.stat().st_mtime_ns
    assert {"table.csv", "table.json", "figures/digits/training_curves.png"} <= first.keys()
    done = studies.make("mine/rounded.yaml")
    assert done.returncode == 0, done.stderr
    assert studies.contents("alone") == first and model.stat().st_mtime_ns == made
    assert studies.rows("alone") == {("0", "hard")}
    assert studies.rows("rounded") == {("0", "hard"), ("0", "hard/rtn,bits=2"), ("0", "hard/rtn,bits=3")}
    assert [path.name for path in studies.folder.glob("results/*.csv")] == []
    for name in ("alone", "rounded"):
        planned = studies.make(f"mine/{name}.yaml", "--dry-run")
        assert "Nothing to be done" in planned.stdout + planned.stderr
        verified = studies.call("kdq.provenance.verify", "--configfile", f"mine/{name}.yaml")
        assert verified.returncode == 0, verified.stdout
        assert "tables and figures of other studies are skipped" in verified.stdout.splitlines()[-1]


def test_a_file_of_the_same_name_is_another_study(studies):
    studies.write("alone.yaml", ROUNDED)
    first = studies.contents("alone")
    refused = studies.make("alone.yaml")
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "results/studies/alone: found the tables of mine/alone.yaml, expected those of alone.yaml; give one" in line
    cell = studies.make("alone.yaml", "--dry-run", "results/digits/seed=0/hard/rtn,bits=4/metrics.json")
    assert cell.returncode == 0, cell.stderr  # no table is touched
    done = studies.make("alone.yaml", "--config", "name=mine")
    assert done.returncode == 0, done.stderr
    assert studies.contents("alone") == first and ("0", "hard/rtn,bits=2") in studies.rows("mine")


def test_the_same_study_for_other_seeds_says_so(studies):
    record = studies.folder / STUDIES / "other/table.json"
    studies.write("mine/other.yaml", ALONE)
    targets = [f"{STUDIES}/other/table.csv"]
    sources = []
    for options in ([], ["--config", "seeds=[1]"]):
        done = studies.make("mine/other.yaml", *targets, *options)
        assert done.returncode == 0, done.stderr
        sources.append(json.loads(record.read_text())["study"])
    assert studies.rows("other") == {("1", "hard")}
    assert [source["files"] for source in sources] == [["mine/other.yaml"]] * 2
    assert sources[0]["sha256"] != sources[1]["sha256"]


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("results/table.csv", "results/studies/alone/table.csv"),
        ("results/digits/figures/comparisons.png", "results/studies/alone/figures/digits/comparisons.png"),
    ],
)
def test_a_place_of_before_is_answered_with_that_of_now(studies, target, place):
    done = studies.make("mine/alone.yaml", "--dry-run", target)
    assert done.returncode == 1
    assert f"error: {target}: tables and figures are those of a study, expected {place}" in done.stderr
