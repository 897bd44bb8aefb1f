"""Which order wins at which bits: chosen on the validation part, told by the test part, by size of network."""

import numpy as np
import pytest

from kdq.evaluate.significance import holm
from kdq.recipe.path import Cell
from kdq.report.figures import sequences as sequences_plot
from kdq.report.tables import cells as table
from kdq.report.tables import sequences
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
        found = {(row["bits"], row["other_sequence"]): row["verdict"] for row in of("order", rows())}
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
    def test_at_equal_bits_and_at_equal_bytes(self):
        """A teacher of 562 bytes at 2 bits allows a student of 4 bits, one of 1124 bytes no float student of 4000."""
        found = {(row["question"], row["bits"]): (row["sequence"], row["other"]) for row in rows()}
        assert found["teacher at equal bits", 2] == ("teacher/gpfq", "teacher/kd/gpfq,bits=2/qat")
        assert found["teacher at equal bits", 4] == ("teacher/gpfq", "teacher/kd/gpfq,bits=4/qat")
        assert found["teacher at equal bytes", 2] == ("teacher/gpfq", "teacher/kd/gpfq,bits=4/qat")
        assert found["teacher at equal bytes", 4] == ("teacher/gpfq", "teacher/kd/gpfq,bits=4/qat")

    def test_a_root_that_nothing_is_distilled_from_is_no_teacher(self):
        assert all(row["recipe"].split("/")[0] != "hard" for row in rows())


class TestFigure:
    def test_a_panel_for_each_number_of_bits_with_its_star(self):
        figure = sequences_plot.draw(frame(), "digits")
        panels = {panel.get_title(): panel for panel in figure.axes}
        assert list(panels) == ["2 bits", "4 bits", "teacher / student, equal bits", "teacher / student, equal bytes"]
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
        assert "one seed, no verdict" in words and "over seeds" not in words

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
