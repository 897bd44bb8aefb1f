"""The drop of a model: counts, intervals, risks, and the images that it is measured on."""

import numpy as np
import pytest
import torch
from scipy import stats

from kdq.compress.drops import PARTS, drop, images, images_of
from kdq.data import prepared as data_file
from kdq.errors import UserError
from kdq.evaluate.significance import bootstrap_images
from kdq.provenance.files import read_header
from kdq.provenance.formats import DATA


def answers(only_float: int, only_quantized: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [only_float, only_quantized, both, neither]
    return np.repeat([False, True, True, False], counts), np.repeat([True, False, True, False], counts)


def test_the_drop_is_the_difference_of_the_counts_exactly():
    measured = drop(*answers(100, 50, 4050, 800))
    assert measured.points == 1.0  # 50 of 5,000: no rounding may put this above 1
    assert (measured.images, measured.top1) == (5000, 0.82)


def test_the_error_is_that_of_paired_counts():
    measured = drop(*answers(100, 50, 4050, 800))
    expected = 100 * np.sqrt((150 - 50**2 / 5000) / 5000**2)  # McNemar's counts
    assert measured.error == pytest.approx(expected, rel=1e-6)
    assert measured.low == pytest.approx(1 - 1.96 * expected, abs=0.03)
    assert measured.high == pytest.approx(1 + 1.96 * expected, abs=0.03)


def test_an_improvement_is_a_negative_drop():
    measured = drop(*answers(0, 3, 90, 7))
    assert measured.points == -3.0
    assert measured.low < -3.0 < measured.high <= 0
    outcome = bootstrap_images(*(side[None] for side in answers(0, 3, 90, 7)))
    assert (measured.low, measured.high) == pytest.approx((-100 * outcome.high, -100 * outcome.low))


def test_a_bound_and_the_risk_belong_together():
    measured = drop(*answers(100, 50, 4050, 800))
    assert measured.bound(0.5) == pytest.approx(1)
    assert measured.bound(0.95) == pytest.approx(1 + stats.norm.ppf(0.95) * measured.error)
    assert measured.risk(measured.bound(0.95)) == pytest.approx(0.05)
    same = drop(*answers(0, 0, 5, 5))
    assert (same.points, same.bound(0.95), same.risk(0)) == (0, 0, 0)


def test_a_network_that_saw_no_validation_image_is_chosen_on_all_of_them():
    chosen = images({"validation": np.arange(30), "test": np.arange(50)}, validation_unseen=True)
    assert chosen.choice["validation"].sum() == 30 and list(chosen.choice) == ["validation"]
    assert chosen.report["test"].sum() == 50 and list(chosen.report) == ["test"]
    assert chosen.worth == pytest.approx(100 / 30)
    assert (chosen.chosen_on, chosen.reported_on) == ("all 30 validation images", "all 50 test images")


def test_else_it_is_chosen_on_half_of_the_test_images_and_reported_on_the_other():
    labels = {"validation": np.arange(30), "test": np.arange(51)}
    chosen = images(labels, validation_unseen=False)
    half, rest = chosen.choice["test"], chosen.report["test"]
    assert (half ^ rest).all() and half.sum() == 25
    assert (images(labels, validation_unseen=False).choice["test"] == half).all()
    assert chosen.chosen_on == "25 of 51 test images"


def test_a_single_test_image_is_refused():
    with pytest.raises(UserError, match="^test: found one image, expected at least two"):
        images({"validation": np.zeros(3), "test": np.zeros(1)}, validation_unseen=False)


def test_only_the_very_split_of_the_training_counts_as_unseen(few, tmp_path):
    path = tmp_path / "split=0.safetensors"
    keys = {"validation_fraction": 0.1, "test_fraction": 0.2}
    data_file.write(path, few, {"code": "0", "keys": keys})
    header = read_header(path, DATA)
    assert list(images_of(path, header).choice) == ["validation"]
    assert list(images_of(path, header | {"provenance": {"code": "1", "keys": keys}}).choice) == ["validation"]
    others = {
        "split_seed": 1,
        "source": {"kind": "another"},
        "provenance": {"keys": keys | {"validation_fraction": 0.3}},
    }
    for other in ({}, *(header | {key: value} for key, value in others.items())):
        assert list(images_of(path, other).choice) == ["test"]


def test_correct_answers_are_those_of_the_masked_images(few, tmp_path):
    from kdq.provenance.files import write_tensors
    from kdq.provenance.formats import PREDICTIONS

    labels = {part: getattr(few, part).labels.numpy() for part in PARTS}
    predicted = {f"{part}_class": torch.tensor(labels[part]).short() for part in PARTS}
    chosen = images(labels, validation_unseen=False)
    predicted["test_class"][np.flatnonzero(chosen.choice["test"])[:3]] += 1
    write_tensors(tmp_path / "p", predicted, {"format": PREDICTIONS})
    assert (~chosen.correct(tmp_path / "p", chosen.choice)).sum() == 3
    assert chosen.correct(tmp_path / "p", chosen.report).all()
    assert chosen.drop(tmp_path / "p", tmp_path / "p", chosen.choice).points == 0
