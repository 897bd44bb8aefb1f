"""Which order wins at which bits: chosen on the validation part, told by the test part, by size of network."""

import numpy as np
import pytest

from kdq.evaluate.significance import Outcome, holm
from kdq.recipe.path import Cell
from kdq.report.figures import sequences as sequences_plot
from kdq.report.tables import cells as table
from kdq.report.tables import comparisons, sequences
from tests.report.cells import KINDS, cell, records

IMAGES = 200
ALL_KINDS = {**KINDS, "hard": "root"}
# recipe: (validation, test), both shares of 1; file bytes; epochs; of the teacher's networks the parameters are 90
STUDENTS = {
    "hard": (0.93, 0.92, 4000, 25),
    "teacher/kd": (0.95, 0.94, 4000, 15),
    **{
        f"{stem}{end}": (validation, test, 125 * bits, epochs)
        for bits, lost in ((2, 0.3), (4, 0.02))
        for stem, end, validation, test, epochs in (
            (f"hard/gpfq,bits={bits}", "", 0.93 - lost, 0.92 - lost, 25),
            (f"teacher/kd/gpfq,bits={bits}", "", 0.95 - lost, 0.94 - lost, 15),
            (f"teacher/kd/gpfq,bits={bits}", "/qat", 0.95 - lost / 8, 0.93 - lost / 8, 25),
            (f"teacher/gpfq,bits={bits}/kd/gpfq,bits={bits}", "", 0.94 - lost, 0.95 - lost / 9, 25),
        )
    },
}
TEACHERS = {
    "teacher": (0.97, 0.96, 9000, 30),
    **{f"teacher/gpfq,bits={bits}": (0.96 - 0.4 / bits, 0.95 - 0.4 / bits, 281 * bits, 30) for bits in (2, 4)},
}


def answers(share, seed):
    return np.random.default_rng(seed).random(IMAGES) < share


def study(seeds=3):
    """Cells and answers of all models, under each seed."""
    cells, correct = [], {}
    for index, (recipe, (validation, test, size, _)) in enumerate({**STUDENTS, **TEACHERS}.items()):
        bits = [int(part.split(",")[0][0]) for part in recipe.split("bits=")[1:]]
        for seed in range(seeds):
            keys, errors = ({"bits": bits[-1]}, [0.1]) if bits else ({}, ())
            found = correct[Cell("digits", seed, recipe)] = answers(test, 100 * index + seed)
            part = {"top1": validation, "cross_entropy": 1 - validation}
            made = cell(recipe, seed, float(found.mean()), keys, size, errors, validation=part)
            made["parameters"] = 90 if recipe in TEACHERS else 40
            if recipe in TEACHERS:
                made |= {"macs": 2500, "bit_operations": made["bit_operations"] * 5 // 2}
            cells.append(made)
    return cells, correct


def frame(seeds=3):
    cells, correct = study(seeds)
    epochs = {recipe: values[3] for recipe, values in {**STUDENTS, **TEACHERS}.items()}
    return sequences.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, epochs, correct)


def rows(seeds=3):
    return records(frame(seeds))


def of(question, found):
    return [row for row in found if row["question"] == question]


class TestOrders:
    def test_at_each_number_of_bits_the_best_by_validation_against_each_other_one(self):
        found = [(row["bits"], row["sequence"], row["other_sequence"]) for row in of("order", rows())]
        winner = "teacher/kd/gpfq/qat"
        others = ["hard/gpfq", "teacher/gpfq/kd/gpfq", "teacher/kd/gpfq"]
        assert found == [(bits, winner, other) for bits in (2, 4) for other in others]

    def test_a_better_test_accuracy_does_not_choose(self):
        """At 2 bits the other order is better on the test part, and the difference says so."""
        found = {(row["bits"], row["other_sequence"]): row for row in of("order", rows())}
        row = found[2, "teacher/gpfq/kd/gpfq"]
        assert row["difference"] < 0
        assert row["difference"] == pytest.approx(row["test_top1_mean"] - row["other_test_top1_mean"])

    def test_a_large_difference_is_decided_and_a_small_one_is_not(self):
        found = {(row["bits"], row["other_sequence"]): row["verdict"] for row in of("order", rows(5))}
        assert found[2, "hard/gpfq"] == "better" and found[4, "hard/gpfq"] == "undecided"
        assert {row["verdict"] for row in of("order", rows(1))} == {None}

    def test_holm_counts_all_that_are_held_against_one_winner(self):
        for bits in (2, 4):
            group = [row for row in of("order", rows()) if row["bits"] == bits]
            assert [row["p_images_holm"] for row in group] == holm([row["p_images"] for row in group])

    def test_epochs_and_sizes_stand_beside(self):
        row = of("order", rows())[0]
        assert (row["epochs"], row["other_epochs"], row["parameters"]) == (25, 25, 40)
        assert (row["file_bytes_mean"], row["recipe"]) == (250, "teacher/kd/gpfq,bits=2/qat")

    def test_a_model_whose_layers_differ_in_bits_takes_no_part(self):
        cells, correct = study()
        for made in cells:
            if made["recipe"] == "teacher/kd/gpfq,bits=2/qat":
                made["nominal_bits"] = 1.9
        epochs = dict.fromkeys([*STUDENTS, *TEACHERS], 1)
        found = records(sequences.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, epochs, correct))
        at_two_bits = {row["sequence"] for row in of("order", found) if row["bits"] == 2}
        assert at_two_bits == {"teacher/kd/gpfq"}

    def test_budgets_that_are_met_to_less_than_a_tenth_are_one_number_of_bits(self):
        cells, correct = study()
        made = table.rows(cells, ALL_KINDS)
        made.loc[made.recipe == "hard/gpfq,bits=2", ["bits", "nominal_bits"]] = 2.04
        found = records(sequences.rows(made, ALL_KINDS, dict.fromkeys([*STUDENTS, *TEACHERS], 1), correct))
        (row,) = [row for row in of("order", found) if row["other"] == "hard/gpfq,bits=2"]
        assert row["recipe"] == "teacher/kd/gpfq,bits=2/qat"
        assert (row["bits"], row["other_bits"]) == (2, pytest.approx(2.04))

    def test_models_of_other_activations_take_no_part(self):
        """The same models with 8-bit activations, better on validation, are compared among themselves."""
        cells, correct = study()
        epochs = {recipe: values[3] for recipe, values in {**STUDENTS, **TEACHERS}.items()}
        for made in [made for made in cells if made["layers"] and made["keys"]["bits"] == 2]:
            recipe = made["recipe"].replace("gpfq,bits", "gpfq,activations=8,bits")
            better = made["validation"] | {"top1": made["validation"]["top1"] + 0.01}
            correct[Cell("digits", made["seed"], recipe)] = correct[Cell("digits", made["seed"], made["recipe"])]
            cells.append(made | {"recipe": recipe, "validation": better, "activation_bits": 8})
            epochs[recipe] = epochs[made["recipe"]]
        kinds = ALL_KINDS
        told = sequences.rows(table.rows(cells, kinds), kinds, epochs, correct)
        before = frame()
        columns = ["question", "bits", "recipe", "other", "difference"]
        records_of = lambda rows: {tuple(row) for row in rows[columns].astype(str).to_numpy()}  # noqa: E731
        assert records_of(told[told.activation_bits == 32]) == records_of(before)
        eight = told[told.activation_bits == 8]
        assert len(eight) == (before.bits == 2).sum()
        assert all("activations=8" in recipe for recipe in [*eight.recipe, *eight.other])
        panels = [panel.get_title() for panel in sequences_plot.draw(told, "digits").axes]
        assert panels[:3] == ["2 bits, A8", "2 bits", "4 bits"]


class TestTeachers:
    def test_at_equal_bits_and_at_equal_costs(self):
        """The best student of those that cost about as much, here none: then the best that costs less."""
        found = {(row["question"], row["bits"]): (row["sequence"], row["other"]) for row in rows()}
        two, four = "teacher/kd/gpfq,bits=2/qat", "teacher/kd/gpfq,bits=4/qat"
        assert found["teacher at equal bits", 2] == found["teacher at equal MACs", 2] == ("teacher/gpfq", two)
        assert found["teacher at equal bits", 4] == found["teacher at equal MACs", 4] == ("teacher/gpfq", four)
        assert found["teacher at equal bytes", 2] == found["teacher at equal bytes", 4] == ("teacher/gpfq", four)
        assert found["teacher at equal bit-operations", 4] == ("teacher/gpfq", four)

    def test_a_student_of_about_the_cost_goes_before_a_better_one_that_costs_less(self):
        """Another width in 92% of the bytes, worse on validation than the small student, is the rival."""
        cells, correct = study(5)
        epochs = {recipe: values[3] for recipe, values in {**STUDENTS, **TEACHERS}.items()}
        wide = "hard,width=2/gpfq,bits=2"
        for seed in range(5):
            found = correct[Cell("digits", seed, wide)] = answers(0.4, 5000 + seed)
            for recipe, size in (("hard,width=2", 9000), (wide, 517)):  # of 562
                keys, errors = ({"bits": 2}, [0.1]) if recipe == wide else ({}, ())
                part = {"top1": 0.5, "cross_entropy": 0.5}
                made = cell(recipe, seed, float(found.mean()), keys, size, errors, validation=part)
                cells.append(made | {"parameters": 60, "macs": 2250})
                correct[Cell("digits", seed, recipe)] = found
                epochs[recipe] = 25
        told = records(sequences.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, epochs, correct))
        told = {(row["question"], row["bits"]): row for row in told}
        for question in ("bytes", "MACs"):
            row = told[f"teacher at equal {question}", 2]
            assert row["other"] == wide and row["note"] is None and row["verdict"] == "better"
        assert told["teacher at equal MACs", 2]["other_macs_mean"] == 2250  # the least that is allowed
        assert told["teacher at equal bits", 2]["other"] == "teacher/kd/gpfq,bits=2/qat"

    def test_a_rival_that_costs_less_than_nine_tenths_gets_no_verdict(self):
        for row in rows(5):
            refused = row["question"] not in ("order", "teacher at equal bits")
            assert (row["verdict"] is None) == (row["p_holm"] is None) == (row["detectable"] is None) == refused
            assert ("no student of about its cost" in (row["note"] or "")) == refused
            assert row["low"] is not None
        shares = {row["question"]: row["note"] for row in rows() if row["bits"] == 4}
        assert shares["teacher at equal MACs"].startswith("`other` costs 40% of `recipe`, less than 90%")
        assert shares["teacher at equal bytes"].startswith("`other` costs 44% of")

    def test_refused_rows_do_not_count_for_holm(self):
        row = {"question": "a", "p": 0.02, "p_images": 0.02, "difference": 0.1, "test_images": 100, "refused": False}
        row |= {"over_seeds": Outcome(p=0.02, error=1.0, freedom=2.0), "over_images": Outcome(p=0.02, error=0.01)}
        kept, refused = comparisons.corrected([{**row}, {**row, "refused": True}], ["question"])
        assert kept["p_holm"] == kept["p_images_holm"] == 0.02 and kept["verdict"] == "better"
        assert refused.keys() == row.keys()

    def test_a_root_that_nothing_is_distilled_from_is_no_teacher(self):
        assert all(row["recipe"].split("/")[0] != "hard" for row in rows())

    def test_a_root_teacher_that_nothing_is_distilled_from_is_no_student(self):
        cells, correct = study()
        recipe, part = "teacher,epochs=6/gpfq,bits=2", {"top1": 0.99, "cross_entropy": 0.01}
        for seed in range(3):
            correct[Cell("digits", seed, recipe)] = answers(0.99, seed)
            cells.append(cell(recipe, seed, 0.99, {"bits": 2}, 562, [0.1], validation=part))
        epochs = dict.fromkeys([*STUDENTS, *TEACHERS, recipe], 1)
        found = records(sequences.rows(table.rows(cells, ALL_KINDS), ALL_KINDS, epochs, correct))
        at_two_bits = [row for row in found if row["question"].startswith("teacher") and row["bits"] == 2]
        assert at_two_bits and {row["recipe"] for row in at_two_bits} == {recipe}  # the best teacher
        assert all(not row["other"].startswith("teacher,") for row in at_two_bits)


class TestFigure:
    def test_a_panel_for_each_number_of_bits_with_its_star(self):
        figure = sequences_plot.draw(frame(), "digits")
        panels = {panel.get_title(): panel for panel in figure.axes}
        equal = [f"teacher / student, equal {what}" for what in ("bits", "bytes", "MACs", "bit-operations")]
        assert list(panels) == ["2 bits", "4 bits", *equal]
        listed = [label.get_text() for label in panels["2 bits"].get_yticklabels()]
        assert listed[-2:] == ["teacher / kd / gpfq / qat", "teacher / gpfq / kd / gpfq"]
        for bits in (2, 4):
            lines = panels[f"{bits} bits"].lines
            stars = [line for line in lines if line.get_marker() == "*"]
            assert [line.get_xdata()[0] for line in stars] == [0]
            dots = sorted(line.get_xdata()[0] for line in lines if line.get_marker() == "o")
            expected = sorted(-100 * row["difference"] for row in of("order", rows()) if row["bits"] == bits)
            assert dots == pytest.approx(expected)
        assert "3 seeds" in figure.get_suptitle() and "200 test images" in figure.get_suptitle()

    def test_a_single_seed_has_no_verdict(self):
        figure = sequences_plot.draw(frame(1), "digits")
        words = " ".join(text.get_text() for text in figure.legends[0].get_texts())
        assert "no verdict" in words and "over seeds" not in words

    @pytest.mark.parametrize(("question", "panels"), [("order", 2), ("teacher at equal bytes", 1)])
    def test_one_question_alone(self, question, panels):
        table = frame()
        assert len(sequences_plot.draw(table[table.question == question], "digits").axes) == panels

    def test_without_any_it_says_so(self):
        figure = sequences_plot.draw(sequences.SCHEMA.frame([]), "digits")
        assert figure.axes == [] and "digits: no two models of one size" in figure.texts[0].get_text()


def test_the_csv_reads_back(tmp_path):
    sequences.SCHEMA.write(tmp_path / "a.csv", frame())
    expected = [{key: pytest.approx(value, abs=1e-6) for key, value in row.items()} for row in rows()]
    assert records(sequences.SCHEMA.read(tmp_path / "a.csv")) == expected
