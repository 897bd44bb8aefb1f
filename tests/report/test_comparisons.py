"""Differences and whether they are real: hand-computed cases, symmetry, known distributions."""

import math
from types import SimpleNamespace

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
from kdq.evaluate.significance import bootstrap_images, errors_to_detect, holm, paired, welch
from kdq.provenance.files import write_tensors
from kdq.recipe.path import Cell
from kdq.report import answers as answer_files
from kdq.report import pairs
from kdq.report.figures import comparisons as forest_plot
from kdq.report.tables import cells as table
from kdq.report.tables import comparisons, summary
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

    def test_false_alarms_come_as_often_as_the_level_says(self):
        """Runs of a seed have much in common, and the spreads are unlike."""
        rng = np.random.default_rng(0)
        common = rng.normal(0, 3, (2000, 4))
        runs = common + rng.normal(0, 1, (2, 2000, 4)) * np.array([1, 2])[:, None, None]
        found = [paired(values, others) for values, others in zip(*runs, strict=True)]
        assert [test.p for test in found] == pytest.approx(stats.ttest_rel(*runs, axis=1).pvalue)
        assert 0.035 < np.mean(np.array([test.p for test in found]) < 0.05) < 0.065

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


class TestDetectable:
    """The smallest difference that a test would have found: against scipy, by simulation, by hand."""

    @pytest.mark.parametrize(("freedom", "level"), [(2, 0.05), (4, 0.05), (4, 0.05 / 3), (7.3, 0.01), (60, 0.05)])
    def test_the_power_is_that_of_the_non_central_t(self, freedom, level):
        shift, critical = errors_to_detect(freedom, level), stats.t.isf(level / 2, freedom)
        upper, lower = stats.nct.sf(critical, freedom, shift), stats.nct.cdf(-critical, freedom, shift)
        assert np.nan_to_num(upper) + np.nan_to_num(lower) == pytest.approx(0.8, abs=1e-3)

    def test_of_a_known_spread_it_is_normal(self):
        # 1.959964 + 0.841621: the textbook's 2.8 standard errors; the other tail adds nothing
        assert errors_to_detect(math.inf, 0.05) == pytest.approx(1.959964 + 0.841621, abs=1e-4)
        assert errors_to_detect(1e7, 0.05) == pytest.approx(errors_to_detect(math.inf, 0.05), abs=1e-4)

    @pytest.mark.parametrize("freedom", [1, 2, 3.5, 20, math.inf])
    def test_it_falls_with_seeds_and_rises_with_the_number_of_tests(self, freedom):
        shifts = [errors_to_detect(freedom, 0.05 / tests) for tests in (1, 2, 10, 40)]
        assert shifts == sorted(set(shifts))
        assert shifts[0] >= errors_to_detect(math.inf, 0.05)

    def test_a_true_difference_of_that_size_is_found_four_times_in_five(self):
        rng, level, runs = np.random.default_rng(1), 0.05 / 3, 1500
        for seeds in (2, 3, 5):
            shift = errors_to_detect(seeds - 1, level) / math.sqrt(seeds)  # the spread of a difference is 1
            ps = [paired(rng.normal(shift, 1, seeds), np.zeros(seeds)).p for _ in range(runs)]
            assert np.mean(np.array(ps) < level) == pytest.approx(0.8, abs=0.03)

    def test_nor_is_it_otherwise_for_unequal_spreads(self):
        rng, level = np.random.default_rng(2), 0.05
        variances = np.array([1, 4]) / 5
        freedom = variances.sum() ** 2 / (variances**2 / 4).sum()
        shift = errors_to_detect(freedom, level) * math.sqrt(variances.sum())
        ps = [welch(rng.normal(shift, 1, 5), rng.normal(0, 2, 5)).p for _ in range(1500)]
        assert np.mean(np.array(ps) < level) == pytest.approx(0.8, abs=0.03)

    def test_over_images_too(self):
        """Of 500 images the one model gets about 50 wrong that the other gets right, the other some fewer."""
        rng, images, level, discordant = np.random.default_rng(3), 500, 0.01, 0.16
        shift = errors_to_detect(math.inf, level) * math.sqrt(discordant / images)  # less the squared difference
        draws = rng.choice(
            [1, 0, -1], (1000, images), p=[(discordant + shift) / 2, 1 - discordant, (discordant - shift) / 2]
        )
        ps = [bootstrap_images((row > 0)[None], (row < 0)[None]).p for row in draws]
        assert np.mean(np.array(ps) < level) == pytest.approx(0.8, abs=0.04)

    def test_the_standard_errors_are_those_of_the_tests(self):
        values, others = np.array([11, 22, 36]), np.array([10, 20, 30])
        for test, found in ((stats.ttest_rel, paired), (stats.ttest_ind, welch)):
            expected, outcome = test(values, others), found(values, others)
            assert outcome.error == pytest.approx((values - others).mean() / expected.statistic)
        assert paired(values, others).freedom == 2
        assert welch(values, others).freedom == stats.ttest_ind(values, others, equal_var=False).df
        correct, reference = np.stack([answers(0.9, 1), answers(0.9, 2)]), np.stack([answers(0.8, 3), answers(0.8, 4)])
        means = (correct.astype(float) - reference).mean(0)
        assert bootstrap_images(correct, reference).error == pytest.approx(means.std() / math.sqrt(IMAGES))

    def test_without_spread_there_is_none(self):
        assert paired([1, 1], [0, 0]).detectable(0.05) is None
        assert bootstrap_images(bits_array(["11"]), bits_array(["11"])).detectable(0.05) is None


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


def of_family(family, rows):
    return [pair[1:] for pair in pairs.choose(summary.summarize(rows)) if pair[0] == family]


def sized(recipes, large="width=0.25"):
    """The table of models, of which those of another width have more parameters, and the teacher most."""
    rows = models(recipes)
    sizes = {path: 90 if large in path else 40 for path in rows.recipe} | {"teacher": 200}
    return rows.assign(parameters=rows.network.map(sizes))


def validated(rows, accuracies):
    """The table with other validation accuracies."""
    return rows.assign(validation_top1=rows.recipe.map(accuracies).fillna(rows.validation_top1))


class TestPairs:
    def test_every_family_is_documented_and_nothing_else_is_compared(self):
        quantized = [f"{path}/{name},bits=2" for path in FLOATS for name in ("rtn", "gpfq", "gpfq,activations=8")]
        rows = models([*FLOATS, *quantized]).assign(training_flops=1.0)
        rows.loc[rows.recipe.str.contains("activations"), "activation_bits"] = 8
        assert {pair[0] for pair in pairs.choose(summary.summarize(rows))} == set(pairs.FAMILIES)

    def test_a_float_network_is_compared_with_its_control(self):
        assert of_family("control", models(FLOATS)) == [
            (path, "hard") for path in ("teacher", "teacher/dkd,alpha=2", "teacher/kd")
        ]

    def test_the_control_has_the_size_of_the_network(self):
        recipes = ["hard", "hard,epochs=9", "hard,width=0.25", "teacher", "teacher/kd", "teacher/kd,width=0.25"]
        assert dict(of_family("control", sized(recipes))) == {
            "hard,epochs=9": "hard",
            "hard,width=0.25": "hard",
            "teacher": "hard",
            "teacher/kd": "hard",
            "teacher/kd,width=0.25": "hard,width=0.25",
        }

    def test_without_hard_against_the_first_root(self):
        assert of_family("control", models(["teacher", "teacher/kd"])) == [("teacher/kd", "teacher")]
        assert pairs.baseline(["teacher,seed=0", "teacher", "teacher/kd"]) == "teacher"
        assert pairs.baseline(["hard,epochs=3", "teacher"]) == "hard,epochs=3"

    def test_the_control_has_the_epochs_of_the_network(self):
        hard = ["hard,epochs=16", "hard,epochs=9", "hard"]
        students = ["teacher/kd", "teacher/kd,epochs=9", "teacher/gpfq,bits=2/kd,epochs=16,temperature=2"]
        found = dict(of_family("control", models([*hard, *students])))
        assert [found[recipe] for recipe in students] == ["hard", "hard,epochs=9", "hard,epochs=16"]
        assert [found.get(recipe) for recipe in hard] == ["hard", "hard", None]

    def test_the_control_has_the_epochs_of_the_config_too(self):
        rows = models(["hard,epochs=16", "hard,epochs=9", "teacher/kd", "teacher/kd,temperature=2"])
        rows["epochs"] = rows.recipe.map(lambda recipe: 16 if "16" in recipe else 9).astype("Int64")
        found = dict(of_family("control", rows))
        assert found["teacher/kd"] == found["teacher/kd,temperature=2"] == "hard,epochs=9"

    def test_quantized_models_against_their_float_network_and_the_quantized_control(self):
        quantized = [f"{path}/{name}" for path in ("hard", "teacher/kd") for name in ("rtn,bits=2", "gpfq,bits=2")]
        rows = models(["hard", "teacher", "teacher/kd", *quantized])
        assert of_family("quantization", rows) == [(path, path.rsplit("/", 1)[0]) for path in sorted(quantized)]
        assert of_family("networks", rows) == [
            ("teacher/kd/gpfq,bits=2", "hard/gpfq,bits=2"),
            ("teacher/kd/rtn,bits=2", "hard/rtn,bits=2"),
        ]
        assert of_family("quantizers", rows) == [
            ("hard/gpfq,bits=2", "hard/rtn,bits=2"),
            ("teacher/kd/gpfq,bits=2", "teacher/kd/rtn,bits=2"),
        ]
        assert of_family("networks", rows[rows.recipe != "hard/gpfq,bits=2"]) == [
            ("teacher/kd/rtn,bits=2", "hard/rtn,bits=2")
        ]

    def test_a_quantized_student_of_another_width_has_a_control_of_its_width(self):
        networks = ["hard", "hard,width=0.25", "teacher/kd", "teacher/kd,width=0.25"]
        rows = sized([*networks, "teacher", *(f"{path}/gpfq,bits=2" for path in networks)])
        assert dict(of_family("networks", rows))["teacher/kd,width=0.25/gpfq,bits=2"] == "hard,width=0.25/gpfq,bits=2"

    def test_the_best_is_chosen_on_validation_among_one_size(self):
        recipes = ["hard", "hard,width=0.25", "teacher", "teacher/kd", "teacher/kd,width=0.25"]
        rows = validated(sized(recipes), {"hard": 0.95, "teacher/kd,width=0.25": 0.96, "teacher": 0.99})
        assert of_family("best network", rows) == [
            ("teacher/kd", "hard"),
            ("hard,width=0.25", "teacher/kd,width=0.25"),
        ]
        rows["test_top1"] = rows.recipe.map({"teacher/kd": 1.0}).fillna(0.1)
        assert ("teacher/kd", "hard") in of_family("best network", rows)

    def test_the_best_quantizer_and_the_best_quantized_network(self):
        quantized = [f"{path}/{name},bits=2" for path in ("hard", "teacher/kd") for name in ("rtn", "gpfq")]
        rows = models(["hard", "teacher", "teacher/kd", *quantized])
        rows = validated(rows, {"hard/gpfq,bits=2": 0.96, "hard/rtn,bits=2": 0.95, "teacher/kd/rtn,bits=2": 0.94})
        assert of_family("best quantizer", rows) == [
            ("hard/rtn,bits=2", "hard/gpfq,bits=2"),
            ("teacher/kd/gpfq,bits=2", "teacher/kd/rtn,bits=2"),
        ]
        assert of_family("best quantized network", rows) == [
            ("teacher/kd/gpfq,bits=2", "hard/gpfq,bits=2"),
            ("teacher/kd/rtn,bits=2", "hard/rtn,bits=2"),
        ]

    def test_at_equal_compute_with_the_nearest_control(self):
        cost = {"hard": 10, "hard,epochs=9": 92, "hard,epochs=11": 108, "teacher/kd": 100, "teacher/dkd": 200}
        rows = models([*cost, "teacher"])
        assert of_family("compute", rows) == []  # nothing was counted
        counted = rows.assign(training_flops=rows.recipe.map(cost))
        assert of_family("compute", counted) == [("teacher/kd", "hard,epochs=11")]
        elsewhere = counted.assign(parameters=counted.recipe.map({"hard,epochs=11": 90}).fillna(40).astype(int))
        assert of_family("compute", elsewhere) == [("teacher/kd", "hard,epochs=9")]
        for operations, expected in ((89.9, 0), (90.1, 1), (110.9, 1), (111.1, 0)):
            costs = rows.recipe.map({"teacher/kd": 1.0, "hard": operations / 100})
            assert len(of_family("compute", rows.assign(training_flops=1 / costs))) == expected

    def test_a_budget_that_is_met_to_a_tenth_has_the_same_bits(self):
        rows = models(["teacher", "teacher/rtn,bits=3", "teacher/gpfq,budget=3", "teacher/gpfq,budget=3.2"])
        shares = {"teacher/rtn,bits=3": 3, "teacher/gpfq,budget=3": 2.96, "teacher/gpfq,budget=3.2": 3.19}
        rows["bits"] = rows.recipe.map(shares).fillna(32)
        assert of_family("quantizers", rows) == [("teacher/gpfq,budget=3", "teacher/rtn,bits=3")]

    def test_at_other_bits_of_activations_only_one_quantizer_with_itself(self, tmp_path):
        ranges = ["", ",activation_range=minmax,activations=8", ",activations=4", ",activations=8"]
        cells = [cell("teacher")]
        for name in ("rtn", "gpfq"):
            for keys in ranges:
                bits = {"bits": 2, "activations": int(keys[-1])} if keys else {"bits": 2}
                cells.append(cell(f"teacher/{name}{keys},bits=2", keys=bits, errors=[0.1]))
        frame = table.rows(cells, KINDS)
        bits = dict(zip(frame.recipe, frame.activation_bits, strict=True))
        assert all(bits[recipe] == bits[reference] for recipe, reference in of_family("quantizers", frame))
        of_activations = of_family("activations", frame)
        for name in ("rtn", "gpfq"):
            of_name = [pair for pair in of_activations if name in pair[0]]
            assert all(name in reference for _, reference in of_name)
            assert sorted((bits[recipe], bits[reference]) for recipe, reference in of_name) == [(4, 32)] + [(8, 32)] * 2
        correct = {Cell("digits", 0, recipe): answers(0.9, seed) for seed, recipe in enumerate(frame.recipe)}
        rows = comparisons.rows(frame, KINDS, correct)
        comparisons.SCHEMA.write(tmp_path / "a.csv", rows)
        told = comparisons.SCHEMA.read(tmp_path / "a.csv")
        unequal = told[told.activation_bits != told.other_activation_bits]
        assert set(unequal.family) == {"activations", "quantization"}

    def test_many_networks_give_few_pairs(self):
        students = [f"teacher/dkd,alpha={alpha}" for alpha in range(40)]
        found = pairs.choose(summary.summarize(models(["hard", "teacher", *students])))
        assert len(found) == 41 + 41

    def test_the_students_of_the_figure(self):
        assert pairs.students(["teacher", "hard", "teacher/kd", "hard,epochs=3"]) == ["hard,epochs=3", "teacher/kd"]
        assert pairs.students(["teacher", "hard"]) == ["teacher"]
        assert pairs.students(["teacher"]) == []


ALL_KINDS = {**KINDS, "hard": "root"}


def compared(correct, family="control"):
    """The rows of a family of comparisons for answers by (seed, recipe), by their pair."""
    return {(row["recipe"], row["other"]): row for row in records(frame(correct)) if row["family"] == family}


def frame(correct):
    cells = [cell(path, seed) | {"parameters": 90 if path == "teacher" else 40} for seed, path in correct]
    named = {Cell("digits", *key): answer for key, answer in correct.items()}
    return comparisons.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, named)


def row_of(shares, reference_shares, recipe="teacher/kd", reference="hard"):
    correct = {(seed, recipe): answers(share, seed) for seed, share in enumerate(shares)}
    correct |= {(seed, reference): answers(share, 100 + seed) for seed, share in enumerate(reference_shares)}
    return compared(correct | {(seed, "teacher"): answers(0.9, 50 + seed) for seed in range(len(shares))})[
        recipe, reference
    ]


def against_hard(recipes, correct):
    """The contrasts of a family, each recipe with ``hard``, all of one size, for answers by (seed, recipe)."""
    named = {Cell("digits", *key): answer for key, answer in correct.items()}
    common = {"dataset": "digits", "all_seeds": {seed for seed, _ in correct}, "parameters": 1}
    hard, *others = (SimpleNamespace(**common, recipe=path, auto_precisions=set()) for path in ("hard", *recipes))
    kinds = {**ALL_KINDS, **dict.fromkeys(recipes, "root")}
    rows = [comparisons.difference(model, hard, kinds, named) for model in others]
    return comparisons.corrected([row | {"other": "hard"} for row in rows], ["other"])


class TestRows:
    def test_the_difference_is_that_of_the_accuracies(self):
        correct = {(0, "hard"): bits_array(["1100"])[0], (1, "hard"): bits_array(["1000"])[0]}
        correct |= {(0, "teacher"): bits_array(["1110"])[0], (1, "teacher"): bits_array(["1111"])[0]}
        (row,) = compared(correct).values()
        # 3/4 and 4/4 less 2/4 and 1/4
        assert row["difference"] == pytest.approx(0.5) and row["test_images"] == 4 and row["seeds"] == 2
        assert row["test"] == "Welch"  # networks of two sizes
        assert row["p"] == pytest.approx(stats.ttest_ind([3, 4], [2, 1], equal_var=False).pvalue)
        assert row["low"] == pytest.approx(stats.ttest_ind([3, 4], [2, 1]).confidence_interval().low / 4)

    def test_students_of_a_seed_share_weights_and_batches_and_are_paired(self):
        correct = {(seed, "hard"): answers(0.6 + 0.1 * seed, seed) for seed in range(4)}
        correct |= {(seed, "teacher/kd"): answers(0.65 + 0.1 * seed, 9 + seed) for seed in range(4)}
        row = compared(correct | {(seed, "teacher"): answers(0.9, seed) for seed in range(4)})["teacher/kd", "hard"]
        counts = [[correct[seed, path].sum() for seed in range(4)] for path in ("teacher/kd", "hard")]
        assert row["test"] == "paired" and row["p"] == pytest.approx(stats.ttest_rel(*counts).pvalue)
        interval = stats.ttest_rel(*counts).confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx((interval.low / IMAGES, interval.high / IMAGES))

    def test_a_single_seed_says_so_and_gives_no_verdict(self):
        row = row_of([0.95], [0.5])
        empty = ("test", "low", "high", "p", "p_holm", "verdict")
        assert all(row[column] is None for column in empty)
        assert row["note"].startswith("single seed") and row["p_images_holm"] < 0.001

    def test_a_large_difference_is_decided_and_a_small_one_is_not(self):
        high, low = [0.95, 0.94, 0.95, 0.96], [0.5, 0.52, 0.51, 0.5]
        assert row_of(high, low)["verdict"] == "better" and row_of(low, high)["verdict"] == "worse"
        assert row_of([0.9, 0.91, 0.9], [0.9, 0.9, 0.91])["verdict"] == "undecided"

    def test_beside_the_verdict_stands_what_would_have_been_seen(self):
        correct = {(seed, path): answers(0.8, 10 * i + seed) for i, path in enumerate(FLOATS) for seed in range(3)}
        for recipe in ("teacher/kd", "teacher/dkd,alpha=2"):
            row = compared(correct)[recipe, "hard"]
            pair = [np.stack([correct[seed, path] for seed in range(3)]) for path in (recipe, "hard")]
            over_seeds = paired(*(rows.mean(1) for rows in pair)).detectable(0.05 / 3)
            over_images = bootstrap_images(*pair).detectable(0.05 / 3)
            assert row["detectable"] == pytest.approx(max(over_seeds, over_images)) and over_seeds != over_images
        single = {key: value for key, value in correct.items() if key[0] == 0}
        expected = bootstrap_images(single[0, "teacher/kd"][None], single[0, "hard"][None]).detectable(0.05 / 3)
        assert compared(single)["teacher/kd", "hard"]["detectable"] == pytest.approx(expected)

    def test_of_contrasts_without_a_difference_few_families_have_a_verdict(self):
        """Seven students that differ from the control by chance alone: a false alarm in one family of twenty."""
        rng, alarms, studies = np.random.default_rng(0), 0, 400
        for _ in range(studies):
            hardness = rng.random(100)
            correct = {
                (seed, path): 0.3 * hardness + 0.7 * rng.random(100) < 0.85 + 0.02 * rng.normal()
                for path in ("hard", *"abcdefg")
                for seed in range(3)
            }
            alarms += any(row["verdict"] != "undecided" for row in against_hard("abcdefg", correct))
        assert alarms / studies <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)

    def test_a_true_difference_of_the_detectable_size_is_seldom_missed(self):
        """Answers whose spread over seeds is much larger than over images: the t test decides."""
        rng, images, spread, runs = np.random.default_rng(5), 1000, 0.02, 400
        true = errors_to_detect(3, 0.05) * spread * math.sqrt(2 / 4)
        found, stated = 0, []
        for _ in range(runs):
            shares = 0.8 + spread * rng.normal(size=(2, 4)) + np.array([[true], [0]])
            correct = {
                (seed, path): np.arange(images) < images * shares[index, seed]
                for index, path in enumerate(("a", "hard"))
                for seed in range(4)
            }
            (row,) = against_hard("a", correct)
            found += row["verdict"] == "better"
            stated.append(row["detectable"])
        assert found / runs == pytest.approx(0.8, abs=0.05)
        # an estimated variance is right on average
        assert math.sqrt(np.mean(np.square(stated))) == pytest.approx(true, rel=0.1)

    def test_seeds_that_agree_are_not_enough_where_the_images_do_not(self):
        # the same images under every seed but for one: 20 that the teacher gets wrong, 22 others that hard does
        images = np.arange(IMAGES)
        wrong = {"teacher": (20, 20, 20, 19), "hard": (22, 22, 22, 23)}
        correct = {(seed, "teacher"): images >= count for seed, count in enumerate(wrong["teacher"])}
        correct |= {(seed, "hard"): images < IMAGES - count for seed, count in enumerate(wrong["hard"])}
        (row,) = compared(correct).values()
        assert row["p_holm"] < 0.01 and row["p_images_holm"] > 0.5 and row["verdict"] == "undecided"

    def test_seeds_without_spread_say_so(self):
        correct = {(seed, path): answers(0.9, 7) for seed in (0, 1) for path in ("hard", "teacher")}
        (row,) = compared(correct).values()
        assert "the same difference under all seeds" in row["note"] and row["verdict"] is None

    def test_only_the_seeds_that_both_have(self):
        correct = {(seed, "hard"): answers(0.8, seed) for seed in range(3)}
        correct |= {(seed, "teacher"): answers(0.8, 9 + seed) for seed in (1, 2, 5)}
        assert compared(correct)["teacher", "hard"]["seeds"] == 2

    def test_holm_counts_what_is_compared_with_one_model(self):
        recipes = [*FLOATS, *(f"{path}/{name},bits=2" for path in ("teacher", "hard") for name in ("rtn", "gpfq"))]
        correct = {(seed, path): answers(0.9, 10 * i + seed) for i, path in enumerate(recipes) for seed in range(3)}
        cells = [cell(path, seed, keys={"bits": 2}, errors=[0.1] * ("bits" in path)) for seed, path in correct]
        named = {Cell("digits", *key): answer for key, answer in correct.items()}
        rows = comparisons.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, named)
        sizes = {}
        for (family, reference), group in rows.groupby(["family", "other"]):
            assert group.p_holm.tolist() == holm(group.p.tolist())
            assert group.p_images_holm.tolist() == holm(group.p_images.tolist())
            sizes[family, reference] = len(group)
        assert sizes["control", "hard"] == 3 and sizes["quantization", "teacher"] == sizes["quantization", "hard"] == 2

    def test_calibration_errors_stand_beside_the_accuracies(self):
        cells = [cell(path, seed) for path in ("hard", "teacher", "teacher/kd") for seed in range(2)]
        for made, error in zip(cells, (0.01, 0.03, 0.2, 0.2, 0.06, 0.08), strict=True):
            made["test"] = made["test"] | {"expected_calibration_error": error}
        correct = {Cell("digits", made["seed"], made["recipe"]): answers(0.9) for made in cells}
        rows = comparisons.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, correct)
        row = rows[(rows.recipe == "teacher/kd") & (rows.family == "control")].iloc[0]
        assert row.test_expected_calibration_error_mean == pytest.approx(0.07)
        assert row.other_test_expected_calibration_error_mean == pytest.approx(0.02)

    def test_a_best_that_may_have_seen_the_validation_part_is_noted(self):
        cells = [cell(path, seed) for path in ("hard", "teacher", "teacher/kd") for seed in range(2)]
        correct = {Cell("digits", made["seed"], made["recipe"]): answers(0.9, made["seed"]) for made in cells}
        told = table.rows(cells, ALL_KINDS)
        for seen, expected in ((True, {"best network"}), (False, set())):
            rows = comparisons.rows(told.assign(validation_seen=seen), ALL_KINDS, correct)
            assert set(rows.family[rows.note.str.contains(comparisons.SEEN, regex=False, na=False)]) == expected

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
    assert row["test"] == "paired"  # with one model under all seeds it is Welch's test too
    assert row["note"] == "teacher,seed=0 is one model under all seeds" and row["design"] == "shared teacher"
    expected = stats.ttest_1samp([correct[seed, "hard"].sum() for seed in range(3)], answers(0.9, 1).sum()).pvalue
    assert row["p"] == pytest.approx(expected)
    shares = [correct[seed, "hard"].sum() for seed in range(3)], [answers(0.9, 1).sum()] * 3
    assert welch(*shares).p == pytest.approx(expected)


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
            100 * row["difference"]
            for row in records(self.rows())
            if row["family"] == "control" and "/" in row["recipe"]
        )
        dots = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"]
        assert dots == pytest.approx(expected)

    def test_a_single_seed_has_only_the_interval_over_images(self):
        figure = forest_plot.draw(self.rows(seeds=1), "digits")
        assert "single seed" in figure.get_suptitle()
        words = " ".join(text.get_text() for text in figure.legends[0].get_texts())
        assert "images" in words and "over seeds" not in words
