"""What is copied of a finished study to the pages on results."""

import csv
import subprocess

import pytest

from kdq.errors import UserError
from kdq.report.evidence import copy


def git(folder, *arguments) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with one commit, in which a study has been run."""
    folder = tmp_path / "clone"
    (folder / "results/studies/mine/figures/digits").mkdir(parents=True)
    for name in ("table.csv", "layers.csv", "table.json", "figures/digits/bits.png", "figures/digits/bits.svg"):
        (folder / "results/studies/mine" / name).write_text(name)
    (folder / ".gitignore").write_text("results/\n")
    git(tmp_path, "init", "--quiet", str(folder))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    monkeypatch.chdir(folder)
    return folder


def run_of(place) -> dict:
    with open(place / "run.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    return row


def test_tables_and_figures_are_copied_with_commit_and_machine(clone):
    place = clone / "docs/mine"
    copy(clone / "results/studies/mine", place)
    assert sorted(path.name for path in place.iterdir()) == ["bits.png", "run.csv", "table.csv"]
    assert (place / "table.csv").read_text() == "table.csv"
    row = run_of(place)
    assert row["commit"] == git(clone, "rev-parse", "--short=7", "HEAD")
    assert row["processor"] and int(row["cores"]) > 0 and row["torch"][0].isdigit()


def test_edited_files_are_told(clone):
    (clone / ".gitignore").write_text("results/\nmore\n")
    copy(clone / "results/studies/mine", clone / "results/docs")
    assert run_of(clone / "results/docs")["commit"].endswith("-dirty")


def test_what_can_not_be_copied_ends_in_one_line(clone, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="^nothing/table.csv: missing, expected the folder of a finished study$"):
        copy(type(clone)("nothing"), tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="^no commit to name: .*not a git repository"):
        copy(clone / "results/studies/mine", tmp_path / "docs")
