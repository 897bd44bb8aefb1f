"""What a study may say, and what is answered where it says something else: file, key, found, expected."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.recipe.stages import find_stages
from kdq.study.config import Config, merged, read_study
from kdq.study.docs import documentation, schema

HOME = Path(__file__).resolve().parents[1]
STUDIES = sorted(f"studies/{path.name}" for path in (HOME / "studies").glob("*.yaml"))
BASE = {"datasets": ["digits"], "seeds": [0], "recipes": ["teacher"]}


def merge(base: dict, over: dict) -> dict:
    """Config files as Snakemake merges them: dicts by key, anything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


@pytest.fixture
def study(home, tmp_path):
    """Write texts as config files, merge them and read the study; file names are a.yaml, b.yaml ..."""

    def study(*texts):
        files, merged = [], {}
        for name, text in zip("abc", texts, strict=False):
            file = tmp_path / f"{name}.yaml"
            file.write_text(text)
            files.append(file)
            merged = merge(merged, yaml.safe_load(text) or {})
        return read_study(merged, home / "kdq", files)

    return study


MINIMUM = "datasets: [digits]\nseeds: [0]\nrecipes: [teacher]\n"


def refused(study, *texts, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        study(*texts)
    assert "\n" not in str(error.value)


def test_the_seed_of_a_root_stands_in_recipes_alone(study):
    refused(study, MINIMUM + "stages: {teacher: {seed: 0}}\n", match="a.yaml: .*seed: .*teacher,seed=0")
    assert study("datasets: [digits]\nseeds: [0]\nrecipes: ['teacher,seed=0/kd']\n").recipes


class TestValid:
    @pytest.mark.parametrize(
        "page", ["docs/studies.md", "docs/results/bits.md", "docs/results/orders.md", "docs/slurm.md", *STUDIES]
    )
    def test_the_studies_that_come_along(self, page):
        """As each page, and each study itself, says to run it."""
        text = (HOME / page).read_text()
        commands = re.findall(r"--configfile((?: [\w/.-]+\.yaml)+)", text)
        commands = [files.split() for files in commands]
        commands = [files for files in commands if all(re.match("studies/|config.yaml", file) for file in files)]
        assert commands
        for files in commands:
            found = read_study(merged([HOME / file for file in files]), HOME / "kdq", files)
            for recipe in found.recipes:
                assert [found.grammar.resolve(stage) for stage in recipe.stages]

    def test_the_default_study(self):
        """It can tell recipes apart: several seeds, and a control by labels that trains longer than the student."""
        found = read_study(merged([HOME / "config.yaml"]), HOME / "kdq", ["config.yaml"])
        assert len(found.config.seeds) >= 3
        epochs = {recipe.path: found.grammar.resolve(recipe.last).get("epochs") for recipe in found.recipes}
        longer = [path for path in epochs if path.startswith("hard,") and "/" not in path]
        assert max(epochs[path] for path in longer) > epochs["teacher/kd"]
        assert epochs["hard"] == epochs["teacher/kd"]

    def test_three_keys_mean_the_documented_defaults(self, study):
        found = study("datasets: [digits]\nseeds: [0]\nrecipes: [teacher, hard]\n")
        for role in ("teacher", "hard"):
            keys = found.grammar.resolve(found.grammar.parse(role).last)
            defaults = find_stages(HOME / "kdq")[role].keys().model_dump()
            assert keys == {key: value for key, value in defaults.items() if key in keys}

    def test_cells_are_the_product(self, study):
        found = study("datasets: [digits, cifar10]\nseeds: [0, 3]\nrecipes: ['{teacher,hard}/rtn', teacher]\n")
        cells = [(dataset, seed, recipe.path) for dataset, seed, recipe in found.cells()]
        paths = ["teacher/rtn", "hard/rtn", "teacher"]
        assert cells == [(d, s, path) for d in ("digits", "cifar10") for s in (0, 3) for path in paths]

    def test_an_overlay_changes_what_it_names(self, study):
        found = study(MINIMUM + "teacher: {epochs: 5, width: 0.5}\n", "teacher: {epochs: 7}\n")
        keys = found.grammar.resolve(found.recipes[0].last)
        assert (keys["epochs"], keys["width"]) == (7, 0.5)

    def test_whole_numbers_are_numbers(self, study):
        assert study(MINIMUM + "teacher: {width: 1}\n").config.teacher.width == 1


class TestMessages:
    @pytest.mark.parametrize(
        ("line", "match"),
        [
            ("thread: 1", "unknown key 'thread'; did you mean 'threads'"),
            ("zzz: 1", "unknown key 'zzz', expected one of datasets, seeds, recipes, "),
            ("5: 1", "unknown key '5', expected one of"),
            ("data: {fold: x}", "unknown key 'data.fold'; did you mean 'folder'"),
            ("teacher: {learning_rat: 1}", "unknown key 'teacher.learning_rat'; did you mean 'learning_rate'"),
            ("retrain: {width: 1}", "unknown key 'retrain.width', expected one of epochs, batch_size, "),
            ("retrain: {epoch: 1}", "unknown key 'retrain.epoch'; did you mean 'epochs'"),
            ("retrain: {learning_rate: 0}", "retrain.learning_rate: found 0, .* or equal to 0.00000001"),
            ("recipes: [hard/qat]", "recipe 'hard/qat': qat retrains a quantized model, but its parent 'hard' is"),
            ("stages: {qat: {start: weights}}", "stages.qat: start: found 'weights', expected 'codes' or 'float'"),
            ("student: {epochs: 0}", "student.epochs: found 0, expected greater than or equal to 1"),
            ("student: {epochs: 2.5}", "student.epochs: found 2.5, expected integer"),
            ("student: {flip: 'yes'}", "student.flip: found 'yes', expected boolean"),
            ("student: {learning_rate: 5e-4}", "line .: found 5e-4, which is '5e-4' in YAML 1.1 and 0.0005 in"),
            ("student: {learning_rate: .nan}", "student.learning_rate: found nan, expected a finite number"),
            (
                "student: {architecture: resnet19}",
                "found 'resnet19', expected one of mobilenetv2, resnet18, .*did you mean 'resnet18'",
            ),
            (
                "data: {validation_fraction: 1}",
                "data.validation_fraction: found 1.*, expected less than or equal to 0.9",
            ),
            ("data: {image_size: 4}", "data.image_size: found 4, expected greater than or equal to 8"),
            ("data: 5", "data: found 5, expected "),
            ("teacher: [1]", r"teacher: found \[1\], expected "),
            ("teacher:", "teacher: found None, expected "),
            ("threads: 0", "threads: found 0, expected greater than or equal to 1"),
            ("threads: true", "threads: found True, expected integer"),
            ("datasets: []", "datasets: found an empty list, expected at least one entry"),
            ("seeds: []", "seeds: found an empty list"),
            ("recipes: []", "recipes: found an empty list"),
            ("datasets: digits", "datasets: found 'digits', expected list"),
            ("datasets: [digit]", "datasets.0: found 'digit', expected 'cifar10', .*did you mean 'digits'"),
            ("datasets: [digits, svhn]", "datasets.1: found 'svhn', expected "),
            ("seeds: [-1]", "seeds.0: found -1, expected greater than or equal to 0"),
            ("seeds: 3", "seeds: found 3, expected list"),
            ("recipes: [5]", "recipes.0: found 5, expected string"),
            ("recipes: [teacher/kdd]", "recipe 'teacher/kdd': stage 'kdd' does not exist"),
            ("recipes: ['teacher/rtn,bits={8..9}']", "bits: found 9, expected less than or equal to 8"),
            ("stages: {kdd: {}}", "stages.kdd: there is no such stage, expected one of .*did you mean 'kd'"),
            ("stages: {kd: {temprature: 1}}", "stages.kd: unknown key 'temprature'; did you mean 'temperature'"),
            ("stages: {kd: {temperature: 5e-4}}", "line .: found 5e-4, .*; write '5e-4' or 0.0005"),
            ("stages: {kd: 5}", "stages.kd: found 5, expected dictionary"),
            ("stages: {kd: }", "stages.kd: found None, expected dictionary"),
            ("stages: {5: {}}", "found 5, expected string"),
            ("stages: {rtn: {bits: [2, 3]}}", r"stages.rtn: bits: found \[2, 3\], expected integer"),
        ],
    )
    def test_in_the_file_and_in_an_overlay(self, study, line, match):
        key = line.split(":")[0]
        lines = [given for given in MINIMUM.splitlines() if not given.startswith(f"{key}:")]
        refused(study, "\n".join([*lines, line]), match=f"a.yaml: .*{match}")
        refused(study, MINIMUM, line, match=f"b.yaml: .*{match}")

    @pytest.mark.parametrize("key", ["datasets", "seeds", "recipes"])
    def test_a_key_is_missing(self, study, key):
        lines = [line for line in MINIMUM.splitlines() if not line.startswith(key)]
        refused(study, "\n".join(lines), match=rf"a.yaml: the key '{key}' is missing, expected {key}: \[...\]")

    def test_the_base_is_named_where_the_overlay_is_right(self, study):
        refused(study, MINIMUM + "teacher: {width: -1}\n", "teacher: {epochs: 3}\n", match="a.yaml: teacher.width")
        refused(study, MINIMUM + "data: {foldr: x}\n", "data: {folder: y}\n", match="a.yaml: unknown key 'data.foldr'")
        refused(study, "datasets: []\nseeds: [0]\n", "recipes: [teacher]\n", match="a.yaml: datasets")

    def test_the_base_is_named_for_a_stages_key_too(self, study):
        base = MINIMUM + "stages: {dkd: {warmup: -1}}\n"
        refused(study, base, "stages: {dkd: {alpha: 2}}\n", match="a.yaml: stages.dkd: warmup")

    def test_without_files(self, home):
        with pytest.raises(UserError, match="^config: threads: found 0"):
            read_study({**BASE, "threads": 0}, home / "kdq")


KEYS = st.sampled_from(
    [
        *Config.model_fields,
        *("folder", "download", "epochs", "width", "schedule", "flip", "kd", "rtn", "scale", "bits", "temperature"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from(["digits", "teacher", "teacher/kd", "{a,b", "resnet18", "search", 10**400, -0.0])
)
GARBAGE = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.text(max_size=5) | st.integers() | st.none() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=8,
)


class TestGarbage:
    @settings(max_examples=150)
    @given(st.dictionaries(KEYS | st.text(max_size=5) | st.integers(), GARBAGE, max_size=5))
    def test_is_refused_in_one_line(self, home, values):
        for config in (values, {**BASE, **values}):
            try:
                read_study(config, home / "kdq")
            except UserError as error:
                assert "\n" not in str(error)

    @settings(max_examples=80)
    @given(st.sampled_from(["data", "teacher", "student", "retrain", "kd", "rtn", "dkd", "qat"]), KEYS, GARBAGE)
    def test_in_a_place_where_something_is_expected(self, home, place, key, value):
        fields = {"kd": ("temperature", "loss"), "rtn": ("scale", "patches", "bits"), "dkd": ("alpha", "warmup")}
        for name in (key, *fields.get(place, ("folder", "width"))):
            inside = {place: {name: value}}
            values = {**BASE, **(inside if place in Config.model_fields else {"stages": inside})}
            try:
                read_study(values, home / "kdq")
            except UserError as error:
                assert "\n" not in str(error)


class TestDocuments:
    def test_the_schema_is_that_of_the_code(self, home):
        assert (home / "schemas/config.schema.json").read_text() == schema(), "run: make docs"

    def test_editors_find_no_error_in_the_studies(self, home):
        editor = jsonschema.Draft202012Validator(json.loads(schema()))
        for path in (home / "config.yaml", *(home / "studies").glob("*.yaml")):
            assert [error.message for error in editor.iter_errors(yaml.safe_load(path.read_text()))] == [], path
        assert not editor.is_valid({"teacher": {"learning_rat": 0.1}})

    def test_the_page_is_that_of_the_code(self, home):
        assert (home / "docs/config.md").read_text() == documentation(home / "kdq"), "run: make docs"

    def test_every_default_is_valid(self):
        assert Config(**BASE).model_dump(exclude=set(BASE)) == {
            name: field.default.model_dump() if hasattr(field.default, "model_dump") else field.default
            for name, field in Config.model_fields.items()
            if name not in BASE
        }
        assert Config(**Config(**BASE).model_dump()) == Config(**BASE)

    def test_every_key_is_described(self, home):
        def keys(document):
            for entry in (document, *document.get("$defs", {}).values()):
                yield from entry.get("properties", {}).items()

        undescribed = [name for name, value in keys(json.loads(schema())) if not value.get("description")]
        assert undescribed == []
        page = documentation(home / "kdq")
        assert "| None |" not in page
        missing = [name for name, _ in keys(json.loads(schema())) if f"`{name}" not in page and f".{name}`" not in page]
        assert missing == []

    def test_a_default_of_every_stage_fits_its_type(self, home):
        for stage in find_stages(home / "kdq").values():
            assert stage.keys(**stage.keys().model_dump()) == stage.keys()
