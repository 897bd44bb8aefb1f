"""The verdict on results: what was changed is named, it and what was made from it is not fresh, all else is."""

import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from unittest.mock import ANY

import pytest
import yaml

from kdq.errors import UserError
from kdq.provenance import formats, ledger
from kdq.provenance.files import read_json, sha256, write_json, write_tensors
from kdq.provenance.fingerprint import Fingerprints
from kdq.provenance.place import check_places
from kdq.provenance.verify import study
from kdq.provenance.verify.__main__ import main
from kdq.provenance.verify.results import summary, verify
from kdq.recipe.path import Cell
from kdq.report import metrics, record
from kdq.report.metrics import check_cell
from kdq.study.config import merged, read_study
from kdq.study.products import Products
from kdq.workflow import adopt
from kdq.workflow.job import request
from tests.verify.made_up import Results

RECIPES = ["teacher", "teacher/kd", "teacher/kd/rtn,bits={2,3}", "hard"]
SHARED = ["teacher,seed=0", "teacher,seed=0/rtn,bits=2"]
STUDY = {"datasets": ["digits"], "seeds": [0, 1], "recipes": [*RECIPES, *SHARED]}
SEED = "results/digits/seed=1"
NETWORK = "kdq/models/networks/resnet.py"
KD = f"{SEED}/teacher/kd"
VIEWS = f"{SEED}/teacher/views,crop=0,flip=true,precision=float32.safetensors"
DATA = "results/digits/data/split=0.safetensors"
STUDY_FOLDER = "results/studies/study"  # of study.yaml
TABLES = {f"{STUDY_FOLDER}/{name}" for name in ("table.csv", "summary.csv", "layers.csv", "table.json")}


CODE = Fingerprints(study.HOME)


def workflow(folder: Path, changes: dict) -> Products:
    """The workflow for the study with some changes, which is written to ``folder / "study.yaml"``."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes))
    files = [path]
    return Products(read_study(merged(files), study.HOME / "kdq", files), CODE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of results that are fresh."""
    folder = tmp_path_factory.mktemp("made")
    found = workflow(folder, {})
    results = Results(found, folder, 0.01)
    with contextlib.chdir(folder):
        results.data("digits")
        for cell in sorted(found.study.cells(), key=lambda cell: (len(cell[2].stages), cell[1])):
            results.cell(*cell)
        results.views(f"{SEED}/teacher")
        results.measured(Cell("digits", 1, "teacher/kd/rtn"))
        for recipe in ("teacher/kd/rtn,bits=2", "teacher/kd/rtn,bits=3"):
            results.archive(Cell("digits", 1, recipe))
        results.table()
    return folder


class Copy:
    """A copy of the results, to be changed and verified, for the study with some changes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, **changes) -> dict[str, tuple[str, str]]:
        """What is not fresh: state and reason by path."""
        rows = verify(workflow(self.folder, changes), self.folder / "results")
        return {row.path: (row.verdict.state, row.verdict.reason) for row in rows if row.verdict.state != "fresh"}

    def rewrite(self, path: str, change) -> None:
        """Change what a JSON file says, sealed anew."""
        value = read_json(self.folder / path)
        change(value)
        write_json(self.folder / path, value)

    def files(self) -> list[str]:
        return [str(path.relative_to(self.folder)) for path in self.folder.glob("results/**/*") if path.is_file()]


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made / "results", tmp_path / "results")
    return Copy(tmp_path)


def cell(folder: str, *names: str) -> set[str]:
    return {f"{folder}/{name}" for name in names or ("model.safetensors", "metrics.json", "predictions.safetensors")}


def below(path: str, files: list[str]) -> set[str]:
    return {file for file in files if file.startswith(f"{path}/")}


def test_what_was_made_is_fresh_wherever_it_lies(copy):
    assert copy() == {}
    assert len(copy.files()) > 60


class TestCorrupt:
    @pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
    @pytest.mark.parametrize("name", ["model.safetensors", "history.csv", "metrics.json", "predictions.safetensors"])
    def test_a_file_of_a_cell(self, copy, name, damage):
        path = f"{KD}/{name}"
        content = bytearray((copy.folder / path).read_bytes())
        content[len(content) // 3] ^= 4
        damaged = {"flip": content, "cut": content[:-5], "empty": b""}[damage]
        (copy.folder / path).write_bytes(damaged)
        found = copy()
        assert found.pop(path)[0] == "corrupt"
        companions = {"model.safetensors": "history.csv", "metrics.json": "predictions.safetensors"}
        companions |= {other: name for name, other in companions.items()}
        companion = f"{KD}/{companions[name]}"
        assert found[companion] == ("stale", f"made together with {path}, which is corrupt")
        assert {state for state, _ in found.values()} == {"stale"}
        descendants = below(KD, copy.files()) | TABLES
        if name in ("metrics.json", "predictions.safetensors"):  # children compare themselves with the predictions
            evaluations = ("/metrics.json", "/predictions.safetensors")
            descendants = {path for path in descendants if path.endswith(evaluations)} | TABLES
        assert found.keys() == descendants - {path}

    def test_every_file_with_a_bit_flipped(self, copy):
        """All files of one name at a time: of two that are made together the one can't vouch for the other."""

        def kind(path):
            folder, name = os.path.split(path)
            return folder if folder.endswith(("code", "data")) else name

        for _, group in groupby(sorted(copy.files(), key=kind), kind):
            before = {path: (copy.folder / path).read_bytes() for path in group}
            for index, (path, content) in enumerate(before.items()):
                # in a history what was measured is not known again, so it is the learning rate
                place = content.index(b"0.125") + 2 if path.endswith("history.csv") else index * 7919 % len(content)
                flipped = bytes([content[place] ^ 1 << index % 3])
                (copy.folder / path).write_bytes(content[:place] + flipped + content[place + 1 :])
            found = copy()
            verdicts = {path: found[path][0] for path in before}
            copied = {f"results/digits/seed={seed}/teacher,seed=0/history.csv" for seed in (0, 1)} & before.keys()
            assert verdicts == dict.fromkeys(before, "corrupt") | dict.fromkeys(copied, "stale")  # not the original's
            for path, content in before.items():
                (copy.folder / path).write_bytes(content)
        assert copy() == {}

    def test_the_data(self, copy):
        (copy.folder / DATA).write_bytes(b"{}")
        found = copy()
        assert found.pop(DATA)[0] == "corrupt"
        notes = below("results/code", copy.files())
        assert found.keys() == {path for path in copy.files() if path not in notes} - {DATA}


class TestStale:
    def test_a_parameter(self, copy):
        found = copy(stages={"kd": {"temperature": 2}})
        assert found[f"{KD}/model.safetensors"] == ("stale", "parameter kd.temperature: 4.0 -> 2.0")
        model = f"parent {KD}/model.safetensors is stale"
        assert found[f"{KD}/rtn,bits=2/model.safetensors"] == ("stale", model)
        assert f"model {KD}/model.safetensors is stale" in found[f"{KD}/metrics.json"][1]
        students = below(KD, copy.files()) | below(KD.replace("seed=1", "seed=0"), copy.files())
        assert found.keys() == students | TABLES

    def test_a_parameter_of_the_data(self, copy):
        found = copy(data={"validation_fraction": 0.2})
        assert found[DATA] == ("stale", "parameter data.validation_fraction: 0.1 -> 0.2")

    def test_a_change_of_code_is_named(self, copy, made):
        path = f"{KD}/metrics.json"
        digests = workflow(made, {}).code.digests("scripts/evaluate.py", NETWORK)
        before = digests | {"kdq/evaluate/metrics.py": "0" * 64, "kdq/evaluate/gone.py": "1" * 64}
        with contextlib.chdir(copy.folder):
            code = ledger.combined(before)
            ledger.note(code, before)
        copy.rewrite(path, lambda metrics: metrics["evaluation"].update(code=code))
        expected = ("stale", "code kdq/evaluate/gone.py, kdq/evaluate/metrics.py")
        assert copy()[path] == copy()[f"{KD}/predictions.safetensors"] == expected

    def test_a_change_of_code_of_which_there_is_no_note(self, copy):
        path = f"{KD}/metrics.json"
        copy.rewrite(path, lambda metrics: metrics["evaluation"].update(code="0" * 16))
        assert copy()[path] == ("stale", f"code scripts/evaluate.py, {NETWORK} or what is imported there")

    def test_a_parent_that_was_made_again(self, copy, made):
        with contextlib.chdir(copy.folder):
            again = Results(workflow(copy.folder, {}), copy.folder, 0.01)
            again.digests = {DATA: sha256(copy.folder / DATA)}
            again.tensors["fc.bias"] += 1
            recipe, of_cell = again.products.study.grammar.parse("teacher"), {"dataset": "digits", "seed": 1}
            again.model(f"{SEED}/teacher/model.safetensors", {**of_cell, "recipe": "teacher"}, recipe)
        found = copy()
        assert found[f"{KD}/model.safetensors"] == (
            "stale",
            f"parent {SEED}/teacher/model.safetensors has another digest",
        )
        assert found[VIEWS] == ("stale", f"teacher {SEED}/teacher/model.safetensors has another digest")
        assert f"{SEED}/teacher/model.safetensors" not in found and f"{SEED}/teacher/history.csv" not in found

    def test_a_shared_root_that_is_no_longer_the_same(self, copy):
        original, shared = "results/digits/seed=0/teacher/model.safetensors", f"{SEED}/teacher,seed=0/model.safetensors"
        shutil.copy(copy.folder / f"{SEED}/teacher/model.safetensors", copy.folder / shared)
        assert copy()[shared] == ("stale", f"original {original} has another digest")
        assert copy()[f"{SEED}/teacher,seed=0/rtn,bits=2/model.safetensors"][0] == "stale"

    def test_a_cell_more_and_a_cell_less(self, copy):
        more = copy(recipes=[*STUDY["recipes"], "hard/rtn,bits=4"])
        added = "results/digits/seed=0/hard/rtn,bits=4/metrics.json was not among its inputs"
        assert more.keys() == TABLES and added in more[f"{STUDY_FOLDER}/table.csv"][1]
        less = copy(recipes=[recipe for recipe in STUDY["recipes"] if recipe != "hard"])
        assert less.keys() == TABLES
        assert (
            "results/digits/seed=0/hard/metrics.json is no longer among its inputs"
            in less[f"{STUDY_FOLDER}/table.csv"][1]
        )

    def test_results_of_before_there_were_seals(self, copy):
        path = copy.folder / KD / "metrics.json"
        path.write_text(json.dumps(read_json(path)))
        assert "has no seal" in copy()[f"{KD}/metrics.json"][1]

    def test_metrics_that_do_not_say_what_they_are_of(self, copy):
        copy.rewrite(f"{KD}/metrics.json", lambda metrics: metrics.pop("evaluation"))
        assert copy()[f"{KD}/metrics.json"][0] == "stale"


class TestIncomplete:
    @pytest.mark.parametrize(
        ("missing", "path"),
        [
            (f"{KD}/history.csv", f"{KD}/model.safetensors"),
            (f"{KD}/predictions.safetensors", f"{KD}/metrics.json"),
            (f"{STUDY_FOLDER}/layers.csv", f"{STUDY_FOLDER}/table.csv"),
        ],
    )
    def test_a_companion_is_missing(self, copy, missing, path):
        (copy.folder / missing).unlink()
        assert copy()[path] == ("incomplete", f"made together with {missing}, which is missing")

    @pytest.mark.parametrize(
        ("missing", "path", "role"),
        [
            (DATA, f"{SEED}/hard/model.safetensors", "data"),
            (f"{KD}/model.safetensors", f"{KD}/rtn,bits=2/model.safetensors", "parent"),
            (f"{KD}/model.safetensors", f"{KD}/metrics.json", "model"),
        ],
    )
    def test_an_input_is_missing(self, copy, missing, path, role):
        (copy.folder / missing).unlink()
        state, reason = copy()[path]
        assert state == "incomplete" and f"{role} {missing} is missing" in reason

    def test_what_a_killed_job_leaves(self, copy):
        interrupted, finished = f"{SEED}/hard,epochs=9/checkpoint.pt", f"{KD}/checkpoint.pt"
        aside = f"{KD}/.model.safetensors.1234"
        for path in (interrupted, finished, aside):
            (copy.folder / path).parent.mkdir(exist_ok=True)
            (copy.folder / path).write_bytes(b"x")
        found = copy()
        assert {state for state, _ in found.values()} == {"incomplete"} and len(found) == 3
        assert "goes on" in found[interrupted][1] and "removed" in found[finished][1] and "removed" in found[aside][1]


class TestArchivesAndSensitivities:
    MEASURED = f"{KD}/rtn/sensitivity.csv"
    ARCHIVES = [f"{KD}/rtn,bits={bits}/model.archive.safetensors" for bits in (2, 3)]

    def test_a_scaled_column_is_corrupt(self, copy):
        path = copy.folder / self.MEASURED
        path.write_text(path.read_text().replace(",0.5,0.25,", ",1.0,0.25,"))
        assert copy() == {self.MEASURED: ("corrupt", ANY)}

    def test_swapped_archives_are_foreign(self, copy):
        first, second = (copy.folder / path for path in self.ARCHIVES)
        contents = first.read_bytes(), second.read_bytes()
        second.write_bytes(contents[0])
        first.write_bytes(contents[1])
        found = copy()
        assert {path: state for path, (state, _) in found.items()} == dict.fromkeys(self.ARCHIVES, "foreign")

    def test_both_are_stale_after_their_model(self, copy):
        found = copy(stages={"kd": {"temperature": 2}})
        assert found[self.MEASURED] == ("stale", f"parent {KD}/model.safetensors is stale")
        model = self.ARCHIVES[0].replace("model.archive", "model")
        assert found[self.ARCHIVES[0]] == ("stale", f"model {model} is stale")

    def test_the_measurement_is_stale_after_a_key_that_it_depends_on(self, copy):
        assert copy(stages={"rtn": {"images": 64}})[self.MEASURED] == ("stale", "parameter rtn.images: 256 -> 64")
        assert self.MEASURED not in copy(stages={"rtn": {"bits": 5}})


class TestForeign:
    @pytest.mark.parametrize(
        "path",
        [
            *(
                "results/notes.txt",
                "results/table.tsv",
                "results/digits/notes",
                "results/mnist/seed=0/hard/metrics.json",
            ),
            *(f"{SEED}/teacher/kdd/metrics.json", f"{SEED}/kd/metrics.json", f"{SEED}/hard,width=1.0/metrics.json"),
            *("results/digits/seed=01/hard/metrics.json", f"{KD}/rtn,bits=2/history.csv", f"{KD}/model.pt"),
            *(
                f"{STUDY_FOLDER}/figures/digits/pie.png",
                f"{STUDY_FOLDER}/figures/mnist/curves.png",
                f"{STUDY_FOLDER}/table.tsv",
                "results/studies/table.csv",
                # of an earlier version
                "results/sequences.csv",
                "results/digits/figures/training_curves.png",
                "results/digits/data/split=x.safetensors",
                f"{KD}/views",
                f"{KD}/views,crop=1.safetensors",
            ),
            *("results/code/x.json", "results/code/0123456789abcdef.txt"),
        ],
    )
    def test_what_no_job_makes(self, copy, path):
        (copy.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (copy.folder / path).write_bytes(b"x")
        found = copy()
        assert found.keys() == {path} and found[path][0] == "foreign" and found[path][1]

    def test_a_table_of_another_study_is_named(self, copy):
        place = copy.folder / "results/studies/cifar10/table.csv"
        place.parent.mkdir()
        place.write_text("")
        expected = ("skipped", "is of the study 'cifar10', compared is 'study'")
        assert copy() == {"results/studies/cifar10/table.csv": expected}

    def test_a_file_of_another_cell(self, copy):
        for name in ("model.safetensors", "history.csv"):
            shutil.copy(copy.folder / f"{SEED}/hard/{name}", copy.folder / f"{KD}/{name}")
        state, reason = copy()[f"{KD}/model.safetensors"]
        assert state == "foreign" and "'hard'" in reason

    def test_a_link_to_a_folder_is_not_followed(self, copy):
        os.symlink("/", copy.folder / "results/digits/seed=9")
        assert copy().keys() == {"results/digits/seed=9"}


def replaced(*pairs: tuple[str, str]):
    """Copy each first file, as it was before, over the second."""

    def damage(folder: Path) -> None:
        contents = [(folder / source).read_bytes() for source, _ in pairs]
        for (_, place), content in zip(pairs, contents, strict=True):
            (folder / place).write_bytes(content)

    return damage


def edited(path: str, change):
    """Change the text of a file."""

    def damage(folder: Path) -> None:
        file = folder / path
        file.write_text(change(file.read_text()))

    return damage


def irregular(path: str, make):
    """Replace a file by what ``make`` makes."""

    def damage(folder: Path) -> None:
        (folder / path).unlink()
        make(folder / path)

    return damage


def one_seed_for_the_other(folder: Path) -> None:
    shutil.rmtree(folder / SEED)
    shutil.copytree(folder / SEED.replace("seed=1", "seed=0"), folder / SEED)


MODELS = {recipe: f"{SEED}/{recipe}/model.safetensors" for recipe in ("hard", "teacher")}
BITS = {bits: f"{KD}/rtn,bits={bits}/model.safetensors" for bits in (2, 3)}
ARCHIVES = {bits: path.replace("model.", "model.archive.") for bits, path in BITS.items()}
PREDICTIONS = {recipe: f"{SEED}/{recipe}/predictions.safetensors" for recipe in ("hard", "teacher")}
MEASURED = f"{KD}/rtn/sensitivity.csv"
DAMAGES = {  # what is done, to which file, and the verdict on it
    "the student's model as the teacher's": (replaced(tuple(MODELS.values())), MODELS["teacher"], "foreign"),
    "the model of other bits": (replaced((BITS[2], BITS[3])), BITS[3], "foreign"),
    "the folder of another seed": (one_seed_for_the_other, MODELS["hard"], "foreign"),
    "predictions of another cell": (replaced(tuple(PREDICTIONS.values())), PREDICTIONS["teacher"], "foreign"),
    "metrics without a seal": (
        edited(f"{KD}/metrics.json", lambda text: re.sub(' *"seal": "[0-9a-f]+",\n', "", text)),
        f"{KD}/metrics.json",
        "corrupt",
    ),
    "a history edited": (
        edited(f"{KD}/history.csv", lambda text: text.replace("0.125", "0.25")),
        f"{KD}/history.csv",
        "corrupt",
    ),
    "a cost scaled": (edited(MEASURED, lambda text: text.replace(",0.5,", ",1.0,")), MEASURED, "corrupt"),
    "a cost that is no number": (edited(MEASURED, lambda text: text.replace(",0.5,", ",nan,")), MEASURED, "corrupt"),
    "an infinite cost": (edited(MEASURED, lambda text: text.replace(",0.5,", ",inf,")), MEASURED, "corrupt"),
    "costs without a header": (edited(MEASURED, lambda text: text.partition("\n")[2]), MEASURED, "corrupt"),
    "archives swapped": (replaced(tuple(ARCHIVES.values()), tuple(ARCHIVES.values())[::-1]), ARCHIVES[2], "foreign"),
    "a summary edited": (
        edited(f"{STUDY_FOLDER}/summary.csv", lambda text: text + "x"),
        f"{STUDY_FOLDER}/summary.csv",
        "corrupt",
    ),
    "a FIFO": (irregular(MODELS["hard"], os.mkfifo), MODELS["hard"], "corrupt"),
    "a device": (irregular(MODELS["hard"], lambda path: os.symlink("/dev/zero", path)), MODELS["hard"], "corrupt"),
    "a link to nowhere": (
        irregular(f"{KD}/metrics.json", lambda path: os.symlink("x", path)),
        f"{KD}/metrics.json",
        "corrupt",
    ),
    "a link to itself": (irregular(MEASURED, lambda path: os.symlink(path, path)), MEASURED, "corrupt"),
}


class TestDamages:
    @pytest.mark.parametrize("name", DAMAGES)
    def test_verify_tells_and_what_adopt_leaves_is_fresh(self, copy, monkeypatch, name):
        damage, path, state = DAMAGES[name]
        damage(copy.folder)
        there, found = copy.files(), copy()
        assert found[path][0] == state and found[path][1]
        touched = []
        monkeypatch.chdir(copy.folder)
        monkeypatch.setattr(adopt, "touch", lambda paths, configfiles: touched.extend(paths))
        rows = verify(workflow(copy.folder, {}), Path("results"))
        lines = adopt.adopt(rows, [])
        assert any(line.startswith(f"{path}  is {state}  (") for line in lines)
        notes = below("results/code", there)
        assert set(touched) == set(there) - found.keys() - notes
        assert copy() == {} and not os.path.lexists(path)
        assert {str(file) for file in Path("results.aside").rglob("*") if not file.is_dir()} == {
            path.replace("results", "results.aside", 1) for path in found
        }

    def test_an_archive_is_held_against_its_model(self, copy, monkeypatch):
        monkeypatch.chdir(copy.folder)
        again = Results(workflow(copy.folder, {}), copy.folder, 0.01)
        again.digests = {path: sha256(path) for path in (DATA, f"{KD}/model.safetensors")}
        again.tensors["fc.bias"] += 1
        recipe = again.products.study.grammar.parse("teacher/kd/rtn,bits=2")
        again.model(BITS[2], Cell.of(BITS[2]).identity, recipe)
        assert copy()[ARCHIVES[2]] == ("stale", f"model {BITS[2]} has another digest")

    def test_the_data_of_another_split(self, copy):
        other = DATA.replace("split=0", "split=1")
        shutil.copy(copy.folder / DATA, copy.folder / other)
        assert copy() == {other: ("foreign", "is of dataset 'digits', split_seed 0, which does not belong here")}

    def test_the_table_refuses_metrics_of_another_cell_and_without_a_seal(self, copy, monkeypatch):
        monkeypatch.chdir(copy.folder)
        one_seed_for_the_other(copy.folder)
        with pytest.raises(UserError, match="seed: found 0, expected 1 as in the path"):
            check_cell(f"{KD}/metrics.json", read_json(f"{KD}/metrics.json"))
        DAMAGES["metrics without a seal"][0](copy.folder)
        with pytest.raises(UserError, match="has no seal"):
            metrics.read(f"{KD}/metrics.json")

    def test_a_table_is_held_against_its_record(self, copy):
        table = copy.folder / f"{STUDY_FOLDER}/summary.csv"
        record.check(table)
        table.write_text(table.read_text() + "x")
        with pytest.raises(UserError, match="summary.csv: its content is not what was written; remove it and run"):
            record.check(table)
        (copy.folder / f"{STUDY_FOLDER}/table.json").unlink()
        with pytest.raises(UserError, match="summary.csv: no record beside it tells how it was made; remove it"):
            record.check(table)


class TestPlaces:
    """Every job that reads a cell's file refuses one that was copied from another cell."""

    HARD = f"{SEED}/hard/model.safetensors"
    TEACHER, PREDICTIONS = (f"{SEED}/teacher/{name}.safetensors" for name in ("model", "predictions"))
    FLOAT, QUANTIZED = f"{KD}/model.safetensors", f"{KD}/rtn,bits=2/model.safetensors"

    @pytest.fixture
    def run(self, copy, capsys, monkeypatch):
        """Run a script in the folder of the results with some inputs; return what it prints."""
        monkeypatch.chdir(copy.folder)
        monkeypatch.setattr("kdq.workflow.job.raise_on_sigterm", lambda: None)

        def run(script: str, stage: str, output: str, **inputs: str) -> str:
            file = [f"kdq/{stage.replace('.', '/')}.py"] if stage else []
            code = CODE.of(script, *file)
            job = {"code": code, "files": file, "module": f"kdq.{stage}", "keys": {}}
            wildcards = ["seed=1", "stage=x", "crop=0", "flip=true", "precision=float32"]
            pairs = [f"{role}={path}" for role, path in {"data": DATA, **inputs}.items()]
            arguments = [script, "--input", *pairs, "--output", output, "--wildcards", *wildcards]
            _, snakemake = request([*arguments, "--threads", "1", "--log", "log", "--job", json.dumps(job)])
            with pytest.raises(SystemExit):
                runpy.run_path(str(study.HOME / script), {"snakemake": snakemake})
            return capsys.readouterr().err

        return run

    @pytest.mark.parametrize(
        ("script", "stage", "output", "inputs", "wrong"),
        [
            ("evaluate", "", f"metrics={KD}/metrics.json", {"model": FLOAT, "parent": PREDICTIONS}, FLOAT),
            ("archive", "", f"archive={KD}/rtn,bits=2/model.archive.safetensors", {"model": QUANTIZED}, QUANTIZED),
            ("teacher_cache", "", f"views={VIEWS}", {"teacher": TEACHER}, TEACHER),
            ("distill", "distill.methods.kd", f"model={FLOAT}", {"parent": TEACHER}, TEACHER),
            ("quantize", "quantize.methods.rtn", f"model={QUANTIZED}", {"parent": FLOAT}, FLOAT),
            ("sensitivity", "quantize.methods.rtn", f"sensitivity={KD}/rtn/x", {"parent": FLOAT}, FLOAT),
            ("retrain", "retrain.methods.qat", f"model={KD}/x/y", {"parent": QUANTIZED, "teacher": FLOAT}, FLOAT),
            ("retrain", "retrain.methods.qat", f"model={KD}/x/y", {"parent": QUANTIZED, "teacher": FLOAT}, QUANTIZED),
        ],
    )
    def test_a_model_of_another_cell(self, copy, run, script, stage, output, inputs, wrong):
        shutil.copy(copy.folder / self.HARD, copy.folder / wrong)
        recipe = Cell.of(wrong).recipe
        error = f"{wrong}: recipe: found 'hard', expected {recipe!r}: a file of another cell; remove it and run again"
        assert run(f"scripts/{script}.py", stage, output, **inputs) == f"error: {error}\n"

    def test_predictions_of_another_cell(self, copy, run):
        shutil.copy(copy.folder / f"{SEED}/hard/predictions.safetensors", copy.folder / self.PREDICTIONS)
        inputs = {"model": self.FLOAT, "parent": self.PREDICTIONS}
        error = run("scripts/evaluate.py", "", f"metrics={KD}/metrics.json", **inputs)
        assert error.startswith(f"error: {self.PREDICTIONS}: recipe: found 'hard', expected 'teacher'")

    @pytest.mark.parametrize(
        ("script", "stage"),
        [
            ("evaluate", ""),
            ("teacher_cache", ""),
            ("distill", "distill.methods.kd"),
            ("quantize", "quantize.methods.rtn"),
            ("sensitivity", "quantize.methods.rtn"),
            ("retrain", "retrain.methods.qat"),
            ("train_root", "roots.methods.hard"),
        ],
    )
    def test_data_of_another_data_set(self, copy, run, script, stage):
        write_tensors(copy.folder / DATA, {}, {"format": formats.DATA, "dataset": "mnist", "split_seed": 0})
        outputs = {"evaluate": "metrics", "teacher_cache": "views", "sensitivity": "sensitivity"}
        inputs = {"parent": self.FLOAT, "teacher": self.TEACHER}
        error = run(f"scripts/{script}.py", stage, f"{outputs.get(script, 'model')}={self.QUANTIZED}", **inputs)
        assert error.startswith(f"error: {DATA}: found the data of 'mnist', split 0, expected that of its path")

    def test_views_of_another_cell(self, copy, run):
        other = VIEWS.replace("seed=1", "seed=0")
        shutil.copy(copy.folder / VIEWS, copy.folder / other)
        assert copy()[other][0] == "foreign"
        inputs = {"parent": self.TEACHER.replace("seed=1", "seed=0"), "views": other}
        error = run("scripts/distill.py", "distill.methods.kd", f"model={self.FLOAT}", **inputs)
        assert error.startswith(f"error: {other}: seed: found 1, expected 0: a file of another cell")

    def test_a_root_that_seeds_share_names_its_original(self, copy, monkeypatch):
        monkeypatch.chdir(copy.folder)
        shared = f"{SEED}/teacher,seed=0/model.safetensors"
        check_places({"parent": shared})
        shutil.copy(self.TEACHER, shared)
        with pytest.raises(UserError, match="recipe: found 'teacher', expected 'teacher,seed=0'"):
            check_places({"parent": shared})


class TestCommand:
    @pytest.mark.parametrize("module", ["kdq.provenance.verify", "kdq.workflow.adopt"])
    def test_a_reader_that_leaves_is_no_error(self, copy, module):
        workflow(copy.folder, {})
        words = [sys.executable, "-m", module, "--configfile", "study.yaml"]
        for path in copy.folder.glob("results/**/*.json"):
            path.write_text("{}")  # nothing is fresh, so nothing is touched
        reading, writing = os.pipe()
        os.close(reading)
        environment = {**os.environ, "PYTHONPATH": str(study.HOME)}
        done = subprocess.run(
            words, cwd=copy.folder, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True
        )
        os.close(writing)
        assert done.stderr == "" and done.returncode in (0, 1)

    def test_lines_and_exit_codes(self, copy, capsys):
        config = ["--configfile", str(copy.folder / "study.yaml")]
        workflow(copy.folder, {})
        results = str(copy.folder / "results")
        assert main([results, *config]) == 0
        out = capsys.readouterr().out.splitlines()
        assert len(out) == len(copy.files()) + 1 and all(line.startswith("fresh ") for line in out[:-1])
        assert main([results, "--quiet", *config]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1
        (copy.folder / "results/notes").write_text("")
        assert main([results, "--quiet", *config]) == 1
        found = capsys.readouterr().out.splitlines()
        assert found[0] == "foreign     results/notes  (no file that the workflow makes)" and "1 foreign" in found[1]

    def test_another_study_is_none_of_this_ones_business(self, copy, capsys):
        workflow(copy.folder, {})
        folder = copy.folder / "results/studies/cifar10/figures"
        folder.mkdir(parents=True)
        for path in (folder / "a.png", folder.parent / "table.csv"):
            path.write_text("")
        assert main([str(copy.folder / "results"), "--configfile", str(copy.folder / "study.yaml")]) == 0
        *lines, last = capsys.readouterr().out.splitlines()
        assert "2 tables and figures of other studies are skipped" in last and "cifar10" not in " ".join(lines)
        assert last.startswith(f"{len(lines)} files: {len(lines)} fresh;")

    @pytest.mark.parametrize("arguments", [["nowhere"], ["results", "--configfile", "nowhere.yaml"]])
    def test_a_wrong_call_is_one_line(self, copy, capsys, arguments, monkeypatch):
        monkeypatch.chdir(copy.folder)
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: nowhere") and captured.err.count("\n") == 1

    def test_the_summary_counts_the_cells_of_the_study(self, copy):
        wanted = workflow(copy.folder, {"recipes": [*STUDY["recipes"], "hard/rtn"]})
        line = summary(verify(wanted, copy.folder / "results"), wanted)
        assert line.endswith("14 of the study's 16 cells are evaluated")
