"""The page's file: one, the same bytes for the same sources, and nothing in it that a name could end or start."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from kdq.errors import UserError
from kdq.provenance import seal
from kdq.provenance.files import header_text
from kdq.report.page import assets, document, models, sources
from tests.report.page import made_up


@pytest.fixture(scope="module")
def study():
    return made_up.sources()


def test_equal_sources_give_equal_bytes(study):
    assert document.html(study, assets.read()) == document.html(made_up.sources(), assets.read())


def test_nothing_is_loaded_from_elsewhere(study):
    text = document.html(study, assets.read())
    own = re.sub(r'<script type="(application/json|text/plain)".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["'](?!#|data:,)""", own) and "@import" not in own and "url(" not in own


def test_no_name_ends_a_script(study):
    text = document.html(study, assets.read())
    assert made_up.EVIL not in text
    assert text.count("</script>") == 4  # of content, cells, plotly and code
    content = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)[1]
    assert made_up.EVIL in json.loads(content)["datasets"]["digits"]["classes"]


def test_wrong_images_are_all_that_differs_from_the_labels():
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 3, (2, 50))
    gaps, classes = models.wrong(predicted, labels)
    rebuilt = labels.copy()
    rebuilt[np.cumsum(gaps) - 1] = classes
    assert rebuilt.tolist() == predicted.tolist()


def test_an_edited_part_is_refused_by_a_job_that_was_planned_without_it():
    parts = assets.read()
    assets.check(parts, assets.digest(parts))
    for name in assets.NAMES:
        with pytest.raises(UserError, match="changed after this run was planned"):
            assets.check(parts | {name: parts[name] + " "}, assets.digest(parts))


def write(path, tensors, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=header_text(header))
    seal.seal(path)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ([0, 1], "found 2 images, expected 3"),
        ([0, 1, 7], "beyond the 2 of the data set"),
        ([0.0, 1.0, 1.0], "expected one whole number per image"),
        (None, "test_class: not readable"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(tmp_path, predicted, message):
    path = tmp_path / "results/digits/seed=0/hard/predictions.safetensors"
    tensors = {"other": np.zeros(1)} if predicted is None else {"test_class": np.array(predicted)}
    write(path, tensors, format="kdq-predictions/1", dataset="digits", seed=0, recipe="hard")
    part = sources.TestPart(["zero", "one"], np.array([0, 1, 1]))
    with pytest.raises(UserError, match=message) as error:
        sources.read_predicted(path, {"digits": part})
    assert str(path) in str(error.value)


def test_predictions_and_labels_are_read_without_torch(tmp_path):
    path = tmp_path / "results/digits/seed=0/hard/predictions.safetensors"
    write(
        path,
        {"test_class": np.array([0, 1, 0], dtype=np.int16)},
        format="kdq-predictions/1",
        dataset="digits",
        seed=0,
        recipe="hard",
    )
    data = tmp_path / "results/digits/data/split=0.safetensors"
    write(
        data,
        {"test.labels": np.array([0, 1, 1])},
        format="kdq-data/1",
        dataset="digits",
        split_seed=0,
        classes=["a", "b"],
    )
    name, part = sources.read_part(data)
    assert (name, part.classes, part.labels.tolist()) == ("digits", ["a", "b"], [0, 1, 1])
    assert sources.read_predicted(path, {name: part}).tolist() == [0, 1, 0]


def test_a_label_without_a_class_is_refused(tmp_path):
    data = tmp_path / "results/digits/data/split=0.safetensors"
    write(
        data, {"test.labels": np.array([0, 2])}, format="kdq-data/1", dataset="digits", split_seed=0, classes=["a", "b"]
    )
    with pytest.raises(UserError, match="labels without a name"):
        sources.read_part(data)
