"""Which config files a run reads: those that are named, else `config.yaml`, from whatever folder it is started."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kdq.provenance.verify import study
from kdq.recipe.stages import find_stages
from tests.workflow.study import HOME, Workflow

HARD = "results/digits/seed=0/hard/model.safetensors"
OVER = "datasets: [digits]\nseeds: [0]\nrecipes: [hard]\nstudent: {epochs: 3}\n"
SMALL = "datasets: [digits]\nseeds: [0]\nrecipes: [hard]\nstudent: {epochs: 5, width: 0.5}\nname: small\n"
DEFAULTS = find_stages(HOME / "kdq")["hard"].keys().model_dump()
DIGITS = {"epochs": 15, "batch_size": 64, "width": 0.125, "schedule": "onecycle", "crop": 1, "flip": False}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    return Workflow(tmp_path_factory.mktemp("clone")).folder


def snakemake(clone: Path, folder: Path, *arguments) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "snakemake", "-s", str(clone / "Snakefile"), "--cores", "1", "--dry-run"]
    return subprocess.run([*words, *arguments], cwd=folder, capture_output=True, text=True)


def keys(clone: Path, folder: Path, *arguments) -> dict:
    """Return the keys with which `hard` would be trained."""
    done = snakemake(clone, folder, "--printshellcmds", HARD, *arguments)
    (command,) = re.findall(r"exec .*train_root\.py.*", done.stdout + done.stderr)
    words = shlex.split(command)
    return json.loads(words[words.index("--job") + 1])["keys"]


def expected(**changes) -> dict:
    return {key: value for key, value in (DEFAULTS | changes).items() if key in DIGITS}


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


# the files of the folder that the run is started in, its options, and the keys that differ from the documented defaults
CASES = {
    "nothing named": ({}, [], DIGITS),
    "a config.yaml of one's own": ({"config": OVER}, [], {"epochs": 3}),
    "a named file": ({"over": OVER}, ["--configfile", "over.yaml"], {"epochs": 3}),
    "a named file beside config.yaml": ({"over": OVER, "config": SMALL}, ["--configfile", "over.yaml"], {"epochs": 3}),
    "two named files": (
        {"over": OVER, "small": SMALL},
        ["--configfile", "small.yaml", "over.yaml"],
        {"epochs": 3, "width": 0.5},
    ),
    "config.yaml named first": (
        {"over": OVER, "config": SMALL},
        ["--configfile", "config.yaml", "over.yaml"],
        {"epochs": 3, "width": 0.5},
    ),
    "values over the default study": ({}, ["--config", "student={epochs: 2}"], DIGITS | {"epochs": 2}),
    "values over a named file": (
        {"over": OVER},
        ["--configfile", "over.yaml", "--config", "student={width: 2}"],
        {"epochs": 3, "width": 2.0},
    ),
    "named in a profile": (
        {"over": OVER, "config": SMALL, "profile": "configfile: over.yaml\n"},
        ["--profile", "profile.yaml"],
        {"epochs": 3},
    ),
    "named beside a profile": (
        {"over": OVER, "small": SMALL, "profile": "configfile: over.yaml\n"},
        ["--profile", "profile.yaml", "--configfile", "small.yaml"],
        {"epochs": 5, "width": 0.5},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_from_a_folder_of_ones_own(clone, tmp_path, case):
    files, arguments, changes = CASES[case]
    assert expected(**changes) == {
        key: value for key, value in keys(clone, write(tmp_path, **files), *arguments).items() if key in DIGITS
    }


def test_three_keys_mean_the_documented_defaults_in_the_clone_too(clone, tmp_path):
    write(tmp_path, over=OVER)
    named = keys(clone, clone, "--configfile", str(tmp_path / "over.yaml"))
    assert named == keys(clone, tmp_path, "--configfile", "over.yaml")
    assert {key: value for key, value in named.items() if DEFAULTS[key] != value} == {"epochs": 3}
    assert keys(clone, clone)["batch_size"] == DIGITS["batch_size"]


def test_another_working_folder(clone, tmp_path):
    """Its `config.yaml` is read, and the names of config files are those of the folder that the run is started in."""
    there = write(tmp_path / "there", config=OVER)
    write(tmp_path, small=SMALL)
    assert keys(clone, tmp_path, "--directory", str(there))["epochs"] == 3
    assert keys(clone, tmp_path, "--directory", str(there), "--configfile", "small.yaml")["epochs"] == 5


@pytest.mark.parametrize("files", [{}, {"config": OVER}, {"over": OVER, "config": SMALL}])
def test_results_are_verified_with_the_same_files(clone, tmp_path, files, monkeypatch):
    monkeypatch.setattr(study, "HOME", clone)
    named = ["over.yaml"] if "over" in files else []
    with contextlib.chdir(write(tmp_path, **files)):
        verified = study.products(named).study
    (hard,) = (recipe for recipe in verified.recipes if recipe.path == "hard")
    planned = keys(clone, tmp_path, *(["--configfile", *named] if named else []))
    assert verified.grammar.resolve(hard.last) == planned


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({"config": "a: [1\n"}, [], "config.yaml: line 2: not readable as YAML"),
        ({"config": "student: {epochs: 3}\n"}, [], "config.yaml: the key 'datasets' is missing"),
        (
            {"part": "student: {epochs: 3}\n"},
            ["--configfile", "part.yaml"],
            "part.yaml: the key 'datasets' is missing, .*; a file that only changes a study is named after it",
        ),
        ({"over": OVER, "config": "epoch: 1\n"}, ["--configfile", "over.yaml", "config.yaml"], "unknown key 'epoch'"),
        ({}, ["--config", "name=a/b"], "--config: name: found 'a/b', expected at most 100 letters, digits"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(clone, tmp_path, files, arguments, message):
    done = snakemake(clone, write(tmp_path, **files), *arguments)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using workflow specific profile")]
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    assert re.search(f"^error: .*{message}", lines[0])


def test_a_config_that_leads_nowhere_is_not_the_default_study(clone, tmp_path):
    (tmp_path / "config.yaml").symlink_to("moved.yaml")
    done = snakemake(clone, tmp_path)
    assert (
        done.returncode == 1 and "error: config.yaml: found a link to moved.yaml, which does not exist" in done.stderr
    )
