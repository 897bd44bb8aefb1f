"""Differences and whether they are real: hand-computed cases, symmetry, known distributions."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdq.data.prepared import write as write_data
from kdq.errors import UserError
from kdq.evaluate import predictions as predictions_file
from kdq.evaluate.significance import bootstrap_images, holm, paired, welch
from kdq.provenance.files import write_tensors
from kdq.recipe.path import Cell
from kdq.report import answers as answer_files
from kdq.report import pairs
from kdq.report.figures import comparisons as forest_plot
from kdq.report.tables import cells as table
from kdq.report.tables import comparisons
from tests.report.cells import KINDS, cell, records

IMAGES = 200


def answers(share, seed=0, images=IMAGES):
    return np.random.default_rng(seed).random(images) < share


def bits_array(rows):
    return np.array([[letter == "1" for letter in row.replace(" ", "")] for row in rows])


class TestWelch:
    def test_by_hand(self):
        # means 3 and 6; variances 1 and 4, of 3 runs each: squared standard error 5/3
        found = welch([2, 3, 4], [4, 6, 8])
        freedom = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
        half = stats.t.ppf(0.975, freedom) * math.sqrt(5 / 3)
        assert (found.low, found.high) == (pytest.approx(-3 - half), pytest.approx(-3 + half))
        assert found.p == pytest.approx(2 * stats.t.sf(3 / math.sqrt(5 / 3), freedom))
        assert found.p == pytest.approx(stats.ttest_ind([2, 3, 4], [4, 6, 8], equal_var=False).pvalue)

    def test_a_model_under_every_seed_is_a_fixed_number(self):
        constant, student = [10, 10, 10], [11, 12, 16]
        assert welch(student, constant).p == pytest.approx(stats.ttest_1samp(student, 10).pvalue)

    @pytest.mark.parametrize(("values", "others"), [([5], [7]), ([5, 5], [7, 7]), ([5, 5, 5], [5, 5, 5])])
    def test_nothing_is_said_without_spread(self, values, others):
        found = welch(values, others)
        assert (found.low, found.high, found.p) == (None, None, None)

    def test_false_alarms_come_as_often_as_the_level_says(self):
        rng = np.random.default_rng(0)
        ps = [welch(rng.normal(0, 1, 5), rng.normal(0, 2, 5)).p for _ in range(1000)]
        assert 0.03 < np.mean(np.array(ps) < 0.05) < 0.07


class TestPaired:
    def test_by_hand(self):
        # differences 1, 2, 3: mean 2, deviation 1, standard error 1 / sqrt(3), 2 degrees of freedom
        found = paired([11, 22, 33], [10, 20, 30])
        half = 4.302653 / math.sqrt(3)
        assert (found.low, found.high) == (pytest.approx(2 - half, abs=1e-5), pytest.approx(2 + half, abs=1e-5))
        assert found.p == pytest.approx(0.0741799, abs=1e-6)

    @pytest.mark.parametrize(("values", "others"), [([5], [7]), ([5, 6], [7, 8])])
    def test_nothing_is_said_where_all_differences_are_equal(self, values, others):
        assert paired(values, others).p is None

    def test_what_the_seeds_have_in_common_cancels(self):
        teacher = np.array([0, 40, -30, 10, 80])
        values, others = teacher + [3, 2, 3, 4, 3], teacher
        assert paired(values, others).p < 0.001 < 0.5 < welch(values, others).p


class TestBootstrapOfImages:
    def test_by_hand(self):
        # differences 1, 0: the sum of two draws is 0, 1, 2 with probability 1/4, 1/2, 1/4; observed 1
        found = bootstrap_images(bits_array(["1 1"]), bits_array(["0 1"]))
        assert (found.low, found.high, found.p) == (0.0, 1.0, pytest.approx(0.5))

    def test_the_seeds_of_an_image_are_drawn_together(self):
        # per image +2 and 0 of two seeds: the same as +1 and 0 of one, not four images
        found = bootstrap_images(bits_array(["11", "11"]), bits_array(["01", "01"]))
        assert (found.low, found.high, found.p) == (0.0, 1.0, pytest.approx(0.5))

    def test_equal_models(self):
        found = bootstrap_images(bits_array(["1010"]), bits_array(["1010"]))
        assert (found.low, found.high, found.p) == (0.0, 0.0, 1.0)

    def test_hardly_any_discordant_image(self):
        correct, others = np.ones((1, 1000), bool), np.ones((1, 1000), bool)
        others[0, :3] = False
        # nearly Poisson of mean 3: P(0) + P(6 or more)
        expected = stats.poisson.pmf(0, 3) + stats.poisson.sf(5, 3)
        assert bootstrap_images(correct, others).p == pytest.approx(expected, abs=2e-3)

    def test_is_the_limit_of_resampling(self):
        correct = np.stack([answers(0.9, seed) for seed in (1, 2, 3)])
        others = np.stack([answers(0.86, seed) for seed in (4, 5, 6)])
        found = bootstrap_images(correct, others)
        means = (correct.astype(float) - others).mean(0)
        drawn = stats.bootstrap((means,), np.mean, n_resamples=20_000, method="percentile", batch=2000, rng=0)
        assert found.low == pytest.approx(drawn.confidence_interval.low, abs=0.0035)
        assert found.high == pytest.approx(drawn.confidence_interval.high, abs=0.0035)
        centred = abs(drawn.bootstrap_distribution - means.mean())
        assert found.p == pytest.approx(np.mean(centred >= abs(means.mean()) - 1e-9), abs=0.01)

    def test_false_alarms_come_as_often_as_the_level_says(self):
        rng = np.random.default_rng(0)
        draws = rng.random((2, 1000, 1, 400)) < 0.85
        ps = np.array([bootstrap_images(correct, others).p for correct, others in zip(*draws, strict=True)])
        assert 0.03 < np.mean(ps < 0.05) < 0.07


def outcomes(draw):
    seeds, images = draw(st.integers(1, 4)), draw(st.integers(1, 30))
    return np.array(draw(st.lists(st.booleans(), min_size=2 * seeds * images, max_size=2 * seeds * images))).reshape(
        2, seeds, images
    )


@settings(max_examples=40)
@given(st.composite(outcomes)())
def test_swapping_the_models_flips_signs_and_keeps_p(correct):
    counts = correct.sum(2)
    for test, arguments in ((welch, counts), (paired, counts), (bootstrap_images, correct)):
        found, swapped = test(*arguments), test(*arguments[::-1])
        if found.p is None:
            assert swapped.p is None
            continue
        assert swapped.p == pytest.approx(found.p)
        assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
        assert 0 <= found.p <= 1 and found.low <= found.high


class TestHolm:
    def test_by_hand(self):
        # sorted 0.005, 0.011, 0.02, 0.04 times 4, 3, 2, 1 = 0.02, 0.033, 0.04, 0.04
        assert holm([0.02, 0.04, 0.005, 0.011]) == pytest.approx([0.04, 0.04, 0.02, 0.033])

    def test_never_falls_and_never_passes_one(self):
        assert holm([0.01, 0.011, 0.9, 0.8]) == pytest.approx([0.04, 0.04, 1.0, 1.0])

    def test_what_has_no_p_value_does_not_count(self):
        assert holm([None, 0.03, None]) == [None, 0.03, None]
        assert holm([]) == []

    @given(st.lists(st.floats(0, 1), max_size=12))
    def test_lies_between_p_and_bonferroni(self, ps):
        corrected = holm(ps)
        assert all(p <= c <= min(1, len(ps) * p) + 1e-15 for p, c in zip(ps, corrected, strict=True))
        assert [ps[i] for i in np.argsort(corrected, kind="stable")] == sorted(ps) or len(set(corrected)) < len(ps)


FLOATS = ["teacher", "hard", "teacher/kd", "teacher/dkd,alpha=2"]


def models(recipes):
    cells = [cell(path, keys={"bits": 2}, errors=[0.1] if "rtn" in path or "gpfq" in path else ()) for path in recipes]
    return table.rows(cells, {**KINDS, "hard": "root"})


def chosen(recipes):
    return pairs.choose(models(recipes))


class TestPairs:
    def test_floats_against_hard_and_among_themselves(self):
        found = chosen(FLOATS)
        assert [pair for pair in found if pair[0] == "baseline"] == [
            ("baseline", path, "hard") for path in ("teacher", "teacher/dkd,alpha=2", "teacher/kd")
        ]
        assert len(found) == 6 and len({frozenset(pair[1:]) for pair in found}) == 6

    def test_without_hard_against_the_first_root(self):
        assert chosen(["teacher", "teacher/kd"]) == [("baseline", "teacher/kd", "teacher")]
        assert pairs.baseline(["teacher,seed=0", "teacher", "teacher/kd"]) == "teacher"
        assert pairs.baseline(["hard,epochs=3", "teacher"]) == "hard,epochs=3"

    def test_quantized_at_the_same_bits_only(self):
        quantized = [f"{path}/{name}" for path in ("hard", "teacher/kd") for name in ("rtn,bits=2", "gpfq,bits=2")]
        found = [pair for pair in chosen(["hard", "teacher", "teacher/kd", *quantized]) if "bits" in pair[1]]
        assert found == [
            ("networks", "teacher/kd/gpfq,bits=2", "hard/gpfq,bits=2"),
            ("networks", "teacher/kd/rtn,bits=2", "hard/rtn,bits=2"),
            ("quantizers", "hard/gpfq,bits=2", "hard/rtn,bits=2"),
            ("quantizers", "teacher/kd/gpfq,bits=2", "teacher/kd/rtn,bits=2"),
        ]

    def test_a_budget_that_is_met_to_a_tenth_has_the_same_bits(self):
        shares = {"teacher/gpfq,bits=3": 3, "teacher/gpfq,budget=3": 2.96, "teacher/gpfq,budget=3.2": 3.19}
        rows = [
            {"recipe": path, "network": "teacher", "bits": bits, "quantizer": path.split("/")[1].rsplit("=", 1)[0]}
            | {"activation_bits": 32}
            for path, bits in shares.items()
        ]
        floats = {"recipe": "teacher", "network": "teacher", "bits": 32, "quantizer": "none"}
        assert pairs.choose(pd.DataFrame([floats, *rows])) == [
            ("quantizers", "teacher/gpfq,budget=3", "teacher/gpfq,bits=3")
        ]

    def test_at_other_bits_of_activations_only_one_quantizer_with_itself(self, tmp_path):
        ranges = ["", ",activation_range=minmax,activations=8", ",activations=4", ",activations=8"]
        cells = [cell("teacher")]
        for name in ("rtn", "gpfq"):
            for keys in ranges:
                bits = {"bits": 2, "activations": int(keys[-1])} if keys else {"bits": 2}
                cells.append(cell(f"teacher/{name}{keys},bits=2", keys=bits, errors=[0.1]))
        frame = table.rows(cells, KINDS)
        found, bits = pairs.choose(frame), dict(zip(frame.recipe, frame.activation_bits, strict=True))
        by_family = {
            family: [pair[1:] for pair in found if pair[0] == family] for family in ("quantizers", "activations")
        }
        assert len(found) == sum(map(len, by_family.values()))
        assert all(bits[recipe] == bits[reference] for recipe, reference in by_family["quantizers"])
        assert len(by_family["quantizers"]) == 1 + 6 + 1  # float, two ranges of 8 bits, 4 bits
        expected = [(4, 8)] * 2 + [(4, 32)] + [(8, 32)] * 2
        for name in ("rtn", "gpfq"):
            of_name = [pair for pair in by_family["activations"] if name in pair[0]]
            assert all(name in reference for _, reference in of_name)
            assert sorted((bits[recipe], bits[reference]) for recipe, reference in of_name) == expected
        correct = {Cell("digits", 0, recipe): answers(0.9, seed) for seed, recipe in enumerate(frame.recipe)}
        rows = comparisons.rows(frame, KINDS, correct)
        comparisons.SCHEMA.write(tmp_path / "a.csv", rows)
        told = comparisons.SCHEMA.read(tmp_path / "a.csv")
        unequal = told.activation_bits != told.other_activation_bits
        assert set(told.family[unequal]) == {"activations"} and unequal.sum() == 10

    def test_a_large_group_is_compared_with_its_first_alone(self):
        students = [f"teacher/dkd,alpha={alpha}" for alpha in range(40)]
        found = chosen(["hard", "teacher", *students])
        assert len(found) == 41 and {pair[2] for pair in found} == {"hard"}
        assert pairs.of_group(list("abc")) == [("b", "a"), ("c", "a"), ("c", "b")]

    def test_the_students_of_the_figure(self):
        assert pairs.students(["teacher", "hard", "teacher/kd", "hard,epochs=3"]) == ["hard,epochs=3", "teacher/kd"]
        assert pairs.students(["teacher", "hard"]) == ["teacher"]
        assert pairs.students(["teacher"]) == []


ALL_KINDS = {**KINDS, "hard": "root"}


def compared(correct):
    """The rows of comparisons for answers by (seed, recipe), by their pair."""
    return {(row["recipe"], row["other"]): row for row in records(frame(correct))}


def frame(correct):
    cells = [cell(path, seed) for seed, path in correct]
    named = {Cell("digits", *key): answer for key, answer in correct.items()}
    return comparisons.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, named)


def row_of(shares, reference_shares, recipe="teacher/kd", reference="hard"):
    correct = {(seed, recipe): answers(share, seed) for seed, share in enumerate(shares)}
    correct |= {(seed, reference): answers(share, 100 + seed) for seed, share in enumerate(reference_shares)}
    return compared(correct | {(seed, "teacher"): answers(0.9, 50 + seed) for seed in range(len(shares))})[
        recipe, reference
    ]


class TestRows:
    def test_the_difference_is_that_of_the_accuracies(self):
        correct = {(0, "hard"): bits_array(["1100"])[0], (1, "hard"): bits_array(["1000"])[0]}
        correct |= {(0, "teacher"): bits_array(["1110"])[0], (1, "teacher"): bits_array(["1111"])[0]}
        (row,) = compared(correct).values()
        # 3/4 and 4/4 less 2/4 and 1/4
        assert row["difference"] == pytest.approx(0.5) and row["test_images"] == 4 and row["seeds"] == 2
        assert row["p_welch"] == pytest.approx(stats.ttest_ind([3, 4], [2, 1], equal_var=False).pvalue)
        assert row["low"] == pytest.approx(stats.ttest_ind([3, 4], [2, 1]).confidence_interval().low / 4)
        assert row["p_paired"] == pytest.approx(stats.ttest_rel([3, 4], [2, 1]).pvalue)

    def test_a_single_seed_says_so_and_gives_no_verdict(self):
        row = row_of([0.95], [0.5])
        empty = ("test", "low", "high", "p_welch", "p_paired", "p_holm", "within_noise")
        assert all(row[column] is None for column in empty)
        assert row["note"].startswith("single seed") and row["p_images_holm"] < 0.001

    def test_a_large_difference_is_beyond_noise_and_none_is_within(self):
        assert row_of([0.95, 0.94, 0.95, 0.96], [0.5, 0.52, 0.51, 0.5])["within_noise"] is False
        assert row_of([0.9, 0.91, 0.9], [0.9, 0.9, 0.91])["within_noise"] is True

    def test_seeds_that_agree_are_not_enough_where_the_images_do_not(self):
        # the same images under every seed but for one: 20 that the teacher gets wrong, 22 others that hard does
        images = np.arange(IMAGES)
        wrong = {"teacher": (20, 20, 20, 19), "hard": (22, 22, 22, 23)}
        correct = {(seed, "teacher"): images >= count for seed, count in enumerate(wrong["teacher"])}
        correct |= {(seed, "hard"): images < IMAGES - count for seed, count in enumerate(wrong["hard"])}
        (row,) = compared(correct).values()
        assert row["p_holm"] < 0.01 and row["p_images_holm"] > 0.5 and row["within_noise"] is True

    def test_seeds_without_spread_say_so(self):
        correct = {(seed, path): answers(0.9, 7) for seed in (0, 1) for path in ("hard", "teacher")}
        (row,) = compared(correct).values()
        assert "the same difference under all seeds" in row["note"] and row["within_noise"] is None

    def test_only_the_seeds_that_both_have(self):
        correct = {(seed, "hard"): answers(0.8, seed) for seed in range(3)}
        correct |= {(seed, "teacher"): answers(0.8, 9 + seed) for seed in (1, 2, 5)}
        assert compared(correct)["teacher", "hard"]["seeds"] == 2

    def test_holm_counts_a_data_set_and_family(self):
        correct = {(seed, path): answers(0.9, 10 * i + seed) for i, path in enumerate(FLOATS) for seed in range(3)}
        rows = compared(correct).values()
        for family in ("baseline", "float"):
            of_family = [row for row in rows if row["family"] == family]
            assert len(of_family) == 3
            assert [row["p_images_holm"] for row in of_family] == holm([row["p_images"] for row in of_family])
            primary = [row["p_paired" if row["test"] == "paired" else "p_welch"] for row in of_family]
            assert [row["p_holm"] for row in of_family] == holm(primary)

    def test_the_csv_reads_back(self, tmp_path):
        rows = [row_of([0.9, 0.8], [0.7, 0.75]), row_of([0.9], [0.8])]
        comparisons.SCHEMA.write(tmp_path / "a.csv", comparisons.SCHEMA.frame(rows))
        expected = [{key: pytest.approx(value, abs=1e-6) for key, value in row.items()} for row in rows]
        assert records(comparisons.SCHEMA.read(tmp_path / "a.csv")) == expected


@pytest.mark.parametrize(
    ("recipe", "other", "design", "test"),
    [
        ("teacher/kd", "hard", "own teacher", "Welch"),
        ("teacher/kd", "teacher/dkd,alpha=2", "own teacher", "paired"),
        ("teacher/kd", "teacher", "own teacher", "paired"),
        ("teacher", "hard", "own teacher", "Welch"),
        ("teacher,seed=0/kd", "hard", "shared teacher", "Welch"),
        ("teacher,seed=0/kd", "teacher,seed=0/dkd,alpha=2", "shared teacher", "Welch"),
        ("teacher,seed=0/kd/rtn,bits=2", "teacher,seed=0/kd/gpfq,bits=2", "shared teacher", "paired"),
        ("teacher,epochs=3,seed=0", "hard", "shared teacher", "Welch"),
        ("teacher,seed=0/kd", "teacher/kd", "own and shared teacher", "Welch"),
        ("teacher,seed=0/kd", "teacher", "own and shared teacher", "Welch"),
        ("teacher,seed=0/kd", "teacher,seed=0", "shared teacher", "Welch"),
        ("teacher/kd/rtn,bits=2", "hard/rtn,bits=2", "own teacher", "Welch"),
    ],
)
def test_the_design_and_the_test_that_fits_it(recipe, other, design, test):
    for pair in ((recipe, other), (other, recipe)):
        assert comparisons.design(*pair, ALL_KINDS) == design
        assert comparisons.share_a_model(*pair) == (test == "paired")


def test_a_root_that_all_seeds_share_is_noted():
    correct = {(seed, "teacher,seed=0"): answers(0.9, 1) for seed in range(3)}
    correct |= {(seed, "hard"): answers(0.8, 20 + seed) for seed in range(3)}
    (row,) = compared(correct).values()
    assert row["note"] == "teacher,seed=0 is one model under all seeds" and row["design"] == "shared teacher"
    expected = stats.ttest_1samp([correct[seed, "hard"].sum() for seed in range(3)], answers(0.9, 1).sum()).pvalue
    assert row["p_welch"] == pytest.approx(expected)


class TestFiles:
    @pytest.fixture
    def write(self, few, tmp_path):
        def write(classes, **changes):
            data = tmp_path / "data.safetensors"
            write_data(data, few)
            path = tmp_path / f"results/{few.dataset}/seed=3/hard/predictions.safetensors"
            header = {"format": predictions_file.FORMAT, "dataset": few.dataset, "seed": 3, "recipe": "hard", **changes}
            write_tensors(path, {"test_class": classes}, header)
            return [data], [path]

        return write

    def test_correct_is_read_by_cell(self, few, write):
        classes = few.test.labels.to(torch.int16)
        classes[0] = (classes[0] + 1) % 10
        ((key, correct),) = answer_files.read(*write(classes)).items()
        assert key == Cell(few.dataset, 3, "hard") and list(correct) == [False] + [True] * (len(classes) - 1)

    def test_predictions_of_other_data_are_refused(self, write):
        with pytest.raises(UserError, match="predictions.safetensors: 5 test images"):
            answer_files.read(*write(torch.zeros(5, dtype=torch.int16)))

    def test_predictions_of_another_cell_are_refused(self, few, write):
        with pytest.raises(UserError, match="predictions.safetensors: seed: found 4, expected 3 as in the path"):
            answer_files.read(*write(few.test.labels.to(torch.int16), seed=4))

    def test_a_table_that_lacks_a_row_is_refused(self):
        rows = models(FLOATS)
        correct = {Cell("digits", 0, recipe): answers(0.9) for recipe in FLOATS}
        answer_files.check_rows("table.csv", rows, correct)
        for wrong in (rows[1:], pd.concat([rows, rows[:1]])):
            with pytest.raises(UserError, match="^table.csv: found [35] rows, .* expected one row for each of 4"):
                answer_files.check_rows("table.csv", wrong, correct)


class TestFigure:
    def rows(self, seeds=3):
        correct = {(s, path): answers(0.9, 10 * i + s) for i, path in enumerate(FLOATS) for s in range(seeds)}
        return frame(correct)

    def test_has_a_row_a_student_with_its_difference(self):
        figure = forest_plot.draw(self.rows(), "digits")
        panel = figure.axes[0]
        labels = [label.get_text() for label in panel.get_yticklabels()]
        assert sorted(labels) == ["dkd, alpha=2", "kd"]
        assert "percentage points" in panel.get_xlabel() and "hard" in panel.get_xlabel()
        expected = sorted(
            100 * row["difference"] for row in records(self.rows()) if row["other"] == "hard" and "/" in row["recipe"]
        )
        dots = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"]
        assert dots == pytest.approx(expected)

    def test_a_single_seed_has_only_the_interval_over_images(self):
        figure = forest_plot.draw(self.rows(seeds=1), "digits")
        assert "single seed" in figure.get_suptitle()
        words = " ".join(text.get_text() for text in figure.legends[0].get_texts())
        assert "images" in words and "over seeds" not in words
