"""Where a teacher comes from, as a study says it: keys of one source are no keys of another."""

import pytest
import yaml

from kdq.errors import UserError
from kdq.report.contents import Contents
from kdq.roots.keys import files, local_files
from kdq.roots.sources.hub import statistics
from kdq.study.config import read_study
from kdq.train.settings import Training
from tests.roots.hub import COMMIT

DIGEST = "a" * 64
HUB = {"source": "hub", "repository": "owner/name", "revision": COMMIT, "sha256": DIGEST}
MODEL = {**HUB, "source": "transformers"}
LOCAL = {"source": "transformers", "folder": "somewhere"}


@pytest.fixture
def study(home):
    def study(teacher: dict, role=None, recipes=("teacher",)):
        values = {"datasets": ["digits"], "seeds": [0], "recipes": list(recipes), "stages": {"teacher": teacher}}
        return read_study(values | {"teacher": role or {}}, home / "kdq")

    return study


@pytest.fixture
def keys(study):
    """The resolved keys of the recipe ``teacher``."""

    def keys(teacher: dict, role=None) -> dict:
        found = study(teacher, role)
        return found.grammar.resolve(found.recipes[0].last)

    return keys


def test_a_teacher_that_is_trained_has_the_keys_of_training_alone(keys):
    assert {"source", "label_smoothing", "epochs", "width"} <= keys({}).keys()
    assert not {"repository", "revision", "folder", "sha256", "file", "mean", "std", "labels"} & keys({}).keys()
    assert keys({})["source"] == "train"


def test_a_checkpoint_has_the_keys_of_its_network(keys):
    role = {"architecture": "resnet50", "width": 0.5, "epochs": 3}
    assert keys({**HUB, "mean": [0.1], "std": [0.2]}, role) == {
        **{"source": "hub", "repository": "owner/name", "revision": COMMIT, "sha256": DIGEST, "file": "", "folder": ""},
        **{"architecture": "resnet50", "width": 0.5, "stem": "cifar", "mean": [0.1], "std": [0.2]},
    }


def test_a_model_of_transformers_has_no_other_keys(keys):
    expected = {**MODEL, "file": "", "folder": "", "labels": "names"}
    assert keys(MODEL, {"architecture": "resnet50", "epochs": 3}) == expected
    assert keys(LOCAL) == {**LOCAL, "file": "", "sha256": "", "labels": "names"}


def test_what_the_config_says_of_training_does_not_reach_a_teacher_from_outside(keys):
    assert keys(HUB, {"epochs": 3, "learning_rate": 0.5}) == keys(HUB)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({**HUB, "epochs": 3}, "epochs: found 3: source=hub does not read this key"),
        ({**HUB, "label_smoothing": 0.1}, "label_smoothing: found 0.1: source=hub does not"),
        ({**HUB, "labels": "order"}, "labels: found 'order': source=hub does not"),
        ({**MODEL, "width": 0.5}, "width: found 0.5: source=transformers does not"),
        ({**MODEL, "mean": [0.5]}, r"mean: found \[0.5\]: source=transformers does not"),
        ({"repository": "owner/name"}, "repository: found 'owner/name': source=train does not"),
        ({"source": "train", "sha256": DIGEST}, "sha256: found 'a*': source=train does not"),
        ({**HUB, "folder": "x"}, "found '.*': a local folder is given, which has none"),
        ({"source": "hub"}, "repository: missing, expected a repository of the hub such as .*, or the key folder"),
        ({**HUB, "revision": ""}, "revision: missing, expected a commit of the repository, 40 hexadecimal digits"),
        ({**HUB, "sha256": ""}, "sha256: missing, expected the SHA-256"),
        ({**HUB, "revision": "main"}, "revision: found 'main', expected 40 hexadecimal digits, a commit: branches and"),
        ({**HUB, "revision": COMMIT[:7]}, "revision: found '0123456', expected 40 hexadecimal digits"),
        ({**HUB, "sha256": "A" * 64}, "sha256: found 'A*', expected 64 hexadecimal digits"),
        ({**HUB, "source": "hubb"}, "source: found 'hubb', expected .*did you mean 'hub'"),
        ({**HUB, "std": [0.0]}, "std.0: found 0.0, expected greater than or equal to 0.001"),
    ],
)
def test_what_makes_no_sense_is_refused(study, teacher, message):
    with pytest.raises(UserError, match=message) as error:
        study(teacher)
    assert "\n" not in str(error.value)


def test_a_recipe_may_spell_a_source(study):
    assert study({}, recipes=["teacher,folder=models,source=transformers/kd"]).recipes
    with pytest.raises(UserError, match="epochs: found 3: source=hub"):
        study(HUB, recipes=["teacher,epochs=3"])


def test_the_files(keys, tmp_path):
    assert files(keys({})) == {} and files(keys(HUB)) == {"weights": "pytorch_model.bin"}
    descriptions = {name: name for name in ("config.json", "preprocessor_config.json")}
    assert files(keys(MODEL)) == {"weights": "model.safetensors", **descriptions}
    assert local_files(keys({})) == local_files(keys(MODEL)) == {}
    here = keys({**LOCAL, "folder": str(tmp_path), "file": "pytorch_model.bin"})
    with pytest.raises(UserError, match="folder: found .* which has no file pytorch_model.bin"):
        local_files(here)
    for name in files(here).values():
        (tmp_path / name).touch()
    assert local_files(here) == {role: tmp_path / name for role, name in files(here).items()}


def test_a_teacher_that_was_not_trained_here_has_no_curve(study):
    recipes = ["teacher/kd", "hard"]
    assert Contents(study(HUB, recipes=recipes)).trained == ["hard", "teacher/kd"]
    assert Contents(study({}, recipes=recipes)).trained == ["hard", "teacher", "teacher/kd"]
    assert "training_curves" not in Contents(study(HUB)).figures


def test_its_history_is_an_empty_table_with_the_columns_of_a_trained_one(few, training_keys, build, tmp_path):
    from kdq.models.model import Model
    from kdq.train.history import COLUMNS
    from kdq.train.stage import save, train_root

    places = {"checkpoint": tmp_path / "checkpoint", "identity": "", "log": print}
    keys = {**training_keys(epochs=1), "label_smoothing": 0.0}
    assert set(keys) >= set(Training.model_fields)
    history = train_root(few, keys, seed=0, threads=1, **places).history
    assert tuple(history[0]) == COLUMNS
    save(tmp_path / "model", tmp_path / "history.csv", Model(build(), {}))
    assert (tmp_path / "history.csv").read_text().splitlines() == [",".join(COLUMNS)]


def test_the_study_of_the_page(home):
    text = (home / "docs/imported.md").read_text().split("```")[1]
    values = {
        "datasets": ["cifar10"],
        "seeds": [0],
        "recipes": ["teacher/kd"],
        **yaml.safe_load(text.removeprefix("yaml")),
    }
    found = read_study(values, home / "kdq")
    keys = found.grammar.resolve(found.recipes[0].root.last)
    assert keys["source"] == "hub" and keys["architecture"] == "resnet50"
    assert statistics(keys, 3)["mean"] == [0.4914, 0.4822, 0.4465]
