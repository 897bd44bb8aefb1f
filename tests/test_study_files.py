"""The files of a study, the folder of its tables and figures, and whose that is."""

import re
from pathlib import Path

import pytest

from kdq.data.catalog import CATALOG
from kdq.errors import UserError
from kdq.provenance.files import write_json
from kdq.provenance.ledger import FOLDER as CODE
from kdq.recipe.path import STUDIES
from kdq.study.config import read_study
from kdq.study.files import check_owner, config_files, source_of, study_name
from kdq.workflow import report_targets

MINIMUM = {"datasets": ["digits"], "seeds": [0], "recipes": ["teacher"]}


class TestNames:
    @pytest.mark.parametrize(
        ("files", "name"),
        [
            (["config.yaml"], "default"),
            (["/clone/config.yaml"], "default"),
            (["config.yaml", "studies/sequences.yaml"], "default+sequences"),
            (["studies/cifar10.yaml"], "cifar10"),
            (["a/b.c.yaml", "d"], "b.c+d"),
            (["it's {a} $(b).yaml"], "it-s-a-b"),
            (["größe.yaml"], "größe"),
            (["..yaml", ".yaml", "---.yaml", "\udcff.yaml"], "study+yaml+study+study"),
            ([], "default"),
        ],
    )
    def test_of_files(self, files, name):
        assert study_name(files) == name

    def test_of_a_config(self, home):
        assert read_study(MINIMUM, home / "kdq", [home / "studies/sequences.yaml"]).name == "sequences"

    def test_a_name_of_its_own(self, home):
        study = read_study(MINIMUM | {"name": "mine"}, home / "kdq", [home / "studies/sequences.yaml"])
        assert study.name == "mine"

    @pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a b", "-a", "{a}", "a\n", "a" * 101, "a\0"])
    def test_what_is_no_name_of_a_folder_is_refused(self, home, name):
        with pytest.raises(UserError, match="config: name: found .*, expected at most 100 letters, digits and any of"):
            read_study(MINIMUM | {"name": name}, home / "kdq")

    def test_many_files_need_a_name(self, home, tmp_path):
        files = [tmp_path / f"{'a' * 40}.yaml"] * 3
        files[0].write_text("seeds: [1]", encoding="utf-8")
        with pytest.raises(UserError, match="name: found 'aaa.*, expected at most 100"):
            read_study(MINIMUM, home / "kdq", files)
        assert read_study(MINIMUM | {"name": "a"}, home / "kdq", files).name == "a"

    def test_no_data_set_is_called_like_a_folder_of_the_results(self):
        assert not {STUDIES, CODE.name} & CATALOG.keys()


def test_config_yaml_is_read_if_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clone = Path("/clone")
    assert config_files([], clone) == ["/clone/config.yaml"]
    (tmp_path / "config.yaml").touch()
    assert config_files([], clone) == ["config.yaml"]
    assert config_files([Path("a.yaml"), "b.yaml"], clone) == ["a.yaml", "b.yaml"]


class TestOwner:
    @pytest.fixture
    def check(self, tmp_path, monkeypatch):
        """Check the folder of a study of ``files`` with ``values`` against the records there."""
        monkeypatch.chdir(tmp_path)
        for name in ("a.yaml", "below/a.yaml"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()

        def check(files, values):
            check_owner(tmp_path / "tables", source_of(files, values))

        write_json(tmp_path / "tables/figures/digits/a.json", {"study": source_of(["a.yaml"], MINIMUM)})
        return check

    def test_the_same_files_may_change(self, check, tmp_path):
        check(["a.yaml"], MINIMUM | {"seeds": [1]})
        check([str(tmp_path / "a.yaml")], MINIMUM | {"seeds": [1]})  # as Snakemake has it

    def test_other_files_may_not(self, check, tmp_path):
        with pytest.raises(UserError, match="tables: found the tables of a.yaml, expected those of below/a.yaml; give"):
            check(["below/a.yaml"], MINIMUM | {"seeds": [1]})
        with pytest.raises(UserError, match="expected those of a.yaml, below/a.yaml"):
            check(["a.yaml", "below/a.yaml"], MINIMUM | {"seeds": [1]})

    def test_a_copy_of_the_file_may(self, check):
        check(["below/a.yaml"], MINIMUM)

    def test_a_file_that_is_gone_still_owns_its_tables(self, check, tmp_path):
        (tmp_path / "a.yaml").unlink()
        check(["below/a.yaml"], MINIMUM)
        with pytest.raises(UserError, match="found the tables of a.yaml, .* or remove the folder"):
            check(["below/a.yaml"], MINIMUM | {"seeds": [1]})

    def test_files_outside_of_the_working_folder_have_their_whole_path(self, check):
        assert source_of(["/clone/config.yaml", "below/../a.yaml"], {})["files"] == ["/clone/config.yaml", "a.yaml"]

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"study": 5}', '{"study": {"files": [5], "sha256": 5}}'])
    def test_a_record_that_names_no_study_says_nothing(self, check, tmp_path, text):
        (tmp_path / "tables/figures/digits/a.json").write_text(text)
        check(["below/a.yaml"], MINIMUM | {"seeds": [1]})


class TestTargets:
    @pytest.mark.parametrize(
        "target",
        [
            *("all", "--cores", "results", "results/", "results/notes.csv", "docs/results/table.csv"),
            *("results/studies", "results/studies/mine", "results/studies/mine/table.csv", "table.csv", ""),
            *("results/studies/mine/figures/digits/comparisons.png", "results/digits/seed=0/hard/sensitivity.csv"),
        ],
    )
    def test_what_is_there_or_is_left_to_snakemake(self, target):
        report_targets.check(target, "mine", ["digits"])

    @pytest.mark.parametrize(
        ("target", "match"),
        [
            ("results/table.csv", "are those of a study, expected results/studies/mine/table.csv"),
            ("results/sensitivity.json", "expected results/studies/mine/sensitivity.json"),
            ("results/digits/figures/pie.svg", "expected results/studies/mine/figures/digits/pie.svg"),
            ("results/studies/cifar10/table.csv", "found the study 'cifar10', expected 'mine', whose config this run"),
            ("results/studies/cifar10/figures/digits/a.png", "found the study 'cifar10'"),
            ("results/studies/mine/figures/digits/comparison.png", "no such figure, .*; did you mean 'comparisons'"),
            ("results/studies/mine/figures/cifar10/comparisons.png", "data set 'cifar10', expected one of digits"),
            ("results/studies/mine/tabel.csv", "ends in 'tabel.csv', expected one of .*; did you mean 'table.csv'"),
        ],
    )
    def test_slips(self, target, match):
        with pytest.raises(UserError, match=f"^{re.escape(target)}: .*{match}") as error:
            report_targets.check(target, "mine", ["digits"])
        assert "\n" not in str(error.value)
