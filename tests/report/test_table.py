import json
from pathlib import Path

import pytest

from kdq.errors import UserError
from kdq.provenance.files import write_json
from kdq.report import docs, metrics
from kdq.report.figures import layer_errors
from kdq.report.tables import cells as table
from kdq.report.tables import layers, summary
from kdq.report.tables.schema import Schema, count, number, text, truth
from tests.report.cells import KINDS, budgeted, cell, records, study

PAGE = Path(__file__).parents[2] / "docs" / "table.md"


def row_of(recipe, cells):
    return next(row for row in rows_of(cells) if row["recipe"] == recipe)


def rows_of(cells, *more):
    return records(table.rows(cells, KINDS, *more))


def summary_of(cells):
    return records(summary.summarize(table.rows(cells, KINDS)))


def test_a_row_says_how_the_model_was_made():
    row = row_of("teacher/kd/gpfq,bits=2", study())
    expected = {
        "kind": "quantize",
        "root": "teacher",
        "network": "teacher/kd",
        "method": "kd",
        "method_name": "kd",
        "quantizer": "gpfq",
        "bits": 2,
        "levels": "2^b",
        "mean_relative_layer_error": 0.05,
        "file_bytes": 250,
    }
    assert {column: row[column] for column in expected} == expected


def test_a_float_model_has_32_bits_and_no_quantizer():
    row = row_of("teacher", study())
    assert (row["bits"], row["quantizer"], row["levels"], row["mean_relative_layer_error"]) == (32, "none", None, None)
    assert row["test_agreement_parent"] is None


def test_bits_of_a_budget_are_their_mean_and_the_quantizer_says_so(tmp_path):
    rows = table.rows([*study((0,)), budgeted(widths=(2, 8, 3, 2))], KINDS)
    assert rows.bits[rows.quantizer == "gpfq,budget"].tolist() == [3.75]
    assert rows.bits[rows.quantizer == "gpfq"].tolist() == [2, 4, 2, 4]
    table.SCHEMA.write(tmp_path / "table.csv", rows)
    text = (tmp_path / "table.csv").read_text()
    assert ",3.750000,2^b," in text and ",gpfq,4,2^b," in text
    assert table.SCHEMA.read(tmp_path / "table.csv").bits.equals(rows.bits)


def test_bits_of_a_budget_may_differ_from_seed_to_seed():
    cells = [cell("teacher"), cell("teacher", 1), budgeted(), budgeted(seed=1, widths=(2, 2, 3, 8))]
    rows = {row["recipe"]: row for row in summary_of(cells)}
    assert rows["teacher/gpfq,budget=4"]["bits"] == (16 / 4 + 15 / 4) / 2


def test_the_archive_is_of_quantized_models():
    rows = {row["recipe"]: row for row in summary_of(study((0,)))}
    assert rows["teacher"]["entropy_bytes_mean"] is None
    assert rows["teacher/rtn,bits=2"]["entropy_bytes_mean"] == 8000 * 2 // 32 * 3 // 4


def test_what_follows_dkd_inherits_its_weights_and_other_rows_have_none():
    cells = [cell("teacher/dkd,alpha=2", keys={"alpha": 2.0, "beta": 8.0}), cell("teacher/kd")]
    cells.append(cell("teacher/dkd,alpha=2/rtn,bits=4", keys={"bits": 4}, errors=[0.1]))
    weights = {row["recipe"]: (row["alpha"], row["beta"]) for row in rows_of(cells)}
    assert weights == {
        "teacher/dkd,alpha=2": (2.0, 8.0),
        "teacher/dkd,alpha=2/rtn,bits=4": (2.0, 8.0),
        "teacher/kd": (None, None),
    }


def test_dkd_is_marked_as_chosen_on_validation_whatever_the_test_says():
    grid = ["teacher/dkd,alpha=1", "teacher/dkd,alpha=2"]
    cells = [cell("teacher", dataset=dataset) for dataset in ("digits", "cifar10")]
    # over both seeds the first is the better one on validation; on test it is the worse one
    for recipe, alpha, tops, test in ((grid[0], 1.0, (0.9, 0.7), 0.1), (grid[1], 2.0, (0.8, 0.7), 0.99)):
        for seed, top1 in enumerate(tops):
            keys = {"alpha": alpha, "beta": 8.0}
            cells.append(cell(recipe, seed, test, keys, validation={"top1": top1}))
            cells.append(cell(recipe, seed, test, keys, dataset="cifar10", validation={"top1": -top1}))
    cells.append(cell("teacher/dkd,alpha=1/rtn,bits=4", keys={"bits": 4}, errors=[0.1]))
    marks = {(row["dataset"], row["recipe"]): row["chosen"] for row in rows_of(cells, grid)}
    assert (marks["digits", grid[0]], marks["digits", grid[1]]) == (True, False)
    assert (marks["cifar10", grid[0]], marks["cifar10", grid[1]]) == (False, True)
    assert marks["digits", "teacher"] is None and marks["digits", "teacher/dkd,alpha=1/rtn,bits=4"] is None


def test_what_descends_from_an_imported_root_is_marked_as_chosen_on_images_that_it_may_have_seen(tmp_path):
    shared = ("teacher,seed=0", "teacher,seed=0/kd/rtn,bits=4")
    imported = [cell(recipe, 1, keys={"source": "hub"}) if "/" not in recipe else cell(recipe, 1) for recipe in shared]
    trained = [cell("hard", 1, keys={"epochs": 1}), cell("hard/kd", 1)]
    frame = table.rows([*imported, *trained], KINDS | {"hard": "root"})
    marks = {**dict.fromkeys(shared, True), "hard": False, "hard/kd": False}
    assert dict(zip(frame.recipe, frame.validation_seen, strict=True)) == marks
    summary.SCHEMA.write(tmp_path / "summary.csv", summary.summarize(frame))
    again = summary.SCHEMA.read(tmp_path / "summary.csv")
    assert dict(zip(again.recipe, again.validation_seen, strict=True)) == marks


class TestSchema:
    """A small table: its columns give back what was written, and refuse in one line what is not of their type."""

    SCHEMA = Schema(
        "small",
        "one row per case",
        {
            "name": text("name"),
            "seed": count("seed"),
            "loss": number("loss", optional=True),
            "chosen": truth("chosen", optional=True),
        },
    )
    ROWS = [
        {"name": "a", "seed": 1, "loss": 0.25, "chosen": True},
        {"name": "nan", "seed": 2, "loss": None, "chosen": False},
        {"name": 'with, "quotes"', "seed": 10**17, "loss": -1e-9, "chosen": None},
    ]

    def test_types_survive_the_file(self, tmp_path):
        path = tmp_path / "small.csv"
        self.SCHEMA.write(path, self.SCHEMA.frame(self.ROWS))
        assert path.read_text().splitlines()[:3] == ["name,seed,loss,chosen", "a,1,0.250000,true", "nan,2,,false"]
        read = self.SCHEMA.read(path)
        assert read.dtypes.map(str).tolist() == ["str", "Int64", "float64", "boolean"]
        assert records(read) == [*self.ROWS[:2], self.ROWS[2] | {"loss": 0.0}]

    def test_a_table_without_rows(self, tmp_path):
        self.SCHEMA.write(tmp_path / "small.csv", self.SCHEMA.frame([]))
        assert self.SCHEMA.read(tmp_path / "small.csv").empty

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("name,seed,loss,chosen\na,1.5,,\n", "column 'seed', row 2: found '1.5', expected a whole number"),
            ("name,seed,loss,chosen\na,1,,\nb,,,\n", "column 'seed', row 3: found '', expected a whole number"),
            ("name,seed,loss,chosen\na,1,inf,\n", "column 'loss', row 2: found 'inf', expected a number"),
            ("name,seed,loss,chosen\na,1,,yes\n", "column 'chosen', row 2: found 'yes', expected true or false"),
            ("name,seed,loss,chosen\n,1,,\n", "column 'name', row 2: found '', expected text"),
            ("name,seed,loss,chosen\na,1\n", "row 2: found 2 fields, expected 4"),
            ("name,seed,los,chosen\n", "unknown column 'los'; did you mean 'loss'?"),
            ("name,seed,loss\n", "column 'chosen': missing, expected those of small.csv"),
            ("name,seed,loss,chosen,name\n", "row 1: found 5 fields, expected 4"),
            ("", "not readable as a table of this workflow"),
        ],
    )
    def test_what_is_no_such_table_is_refused(self, tmp_path, content, message):
        path = tmp_path / "small.csv"
        path.write_text(content)
        with pytest.raises(UserError) as error:
            self.SCHEMA.read(path)
        assert str(error.value).startswith(f"{path}: {message}")


def test_any_order_of_stages():
    recipe = "teacher/gpfq,bits=4/kd/rtn,bits=3,levels=paper/qat"
    row = row_of(recipe, [cell(recipe, keys={"bits": 3}, errors=[0.1])])
    assert (row["network"], row["method"]) == ("teacher/gpfq,bits=4/kd", "kd")
    assert (row["quantizer"], row["quantizer_name"]) == ("rtn,levels=paper+qat", "rtn, searched step+qat")
    assert row["kind"] == "retrain"


@pytest.mark.parametrize(
    ("stage", "scale", "quantizer", "name"),
    [
        ("rtn,bits=3", "search", "rtn", "rtn, searched step"),
        ("rtn,bits=3,scale=minmax", "minmax", "rtn,scale=minmax", "rtn, min-max step"),
        ("rtn,bits=3", "mse", "rtn,scale=mse", "rtn, least-squares step"),  # set by the config
        ("gpfq,bits=3", "search", "gpfq", "gpfq"),
        ("gpfq,bits=3,levels=paper", 1.16, "gpfq,levels=paper,scale=1.16", "gpfq, scale 1.16"),
    ],
)
def test_a_quantizer_is_named_by_its_step(stage, scale, quantizer, name):
    row = row_of(f"teacher/{stage}", [cell(f"teacher/{stage}", keys={"bits": 3, "scale": scale}, errors=[0.1])])
    assert (row["quantizer"], row["quantizer_name"]) == (quantizer, name)


def test_the_order_of_the_cells_does_not_matter(tmp_path):
    cells = study()
    for name, order in (("a", cells), ("b", cells[::-1])):
        table.SCHEMA.write(tmp_path / name, table.rows(order, KINDS))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_read_gives_back_what_was_written(tmp_path):
    rows = table.rows(study(), KINDS)
    table.SCHEMA.write(tmp_path / "table.csv", rows)
    expected = [{key: pytest.approx(value) for key, value in row.items()} for row in records(rows)]
    assert records(table.SCHEMA.read(tmp_path / "table.csv")) == expected


class TestMetrics:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "results/digits/seed=0/hard/metrics.json"

    def test_sealed_ones_are_read(self, path):
        write_json(path, cell("hard"))
        assert metrics.read(path) == cell("hard")

    @pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps(cell("hard"))])
    def test_others_are_refused(self, path, text):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        with pytest.raises(UserError, match=f"^{path}: "):
            metrics.read(path)

    @pytest.mark.parametrize("column", table.SIZES)
    def test_a_missing_size_is_named(self, path, column):
        write_json(path, {key: value for key, value in cell("hard").items() if key != column})
        with pytest.raises(UserError, match=f"^{path}: .*{column}"):
            metrics.read(path)

    @pytest.mark.parametrize(("key", "value"), [("dataset", "cifar10"), ("seed", 1), ("recipe", "teacher")])
    def test_those_of_another_cell_are_refused(self, path, key, value):
        write_json(path, cell("hard") | {key: value})
        with pytest.raises(UserError, match=f"^{path}: {key}: found {value!r}, expected .* as in the path"):
            metrics.read(path)

    def test_a_cell_that_is_there_twice_is_refused(self):
        with pytest.raises(UserError, match="metrics of 2 files: found 1 cells"):
            table.rows([cell("hard"), cell("hard")], KINDS | {"hard": "root"})


def test_summary_by_hand():
    cells = [cell("teacher", seed, top1) for seed, top1 in enumerate((0.90, 0.92, 0.97))]
    (row,) = summary_of(cells)
    assert row["seeds"] == 3 and row["note"] == "mean of 3 seeds"
    assert row["test_top1_mean"] == pytest.approx(0.93)
    # deviations -0.03, -0.01, 0.04; squares sum to 0.0026; over n - 1 = 2
    assert row["test_top1_std"] == pytest.approx(0.0013**0.5)
    assert row["test_agreement_parent_mean"] is None and row["test_agreement_parent_std"] is None


def test_a_single_seed_says_so_and_has_no_deviation():
    (row,) = summary_of([cell("teacher")])
    assert (row["seeds"], row["note"]) == (1, "single seed")
    assert all(row[f"{measure}_std"] is None for measure in summary.MEASURES)


def test_a_root_that_all_seeds_share_is_one_model_not_several():
    cells = [cell("teacher,seed=0", seed) for seed in range(3)]
    (row,) = summary_of(cells)
    assert (row["seeds"], row["note"], row["test_top1_std"]) == (1, "one model for 3 seeds", None)


def test_data_sets_are_summarized_apart():
    cells = [cell("teacher", dataset=name, top1=top1) for name, top1 in (("digits", 0.9), ("cifar10", 0.8))]
    rows = summary_of(cells)
    assert [(row["dataset"], row["test_top1_mean"]) for row in rows] == [("cifar10", 0.8), ("digits", 0.9)]


def test_the_page_is_the_one_that_the_columns_give():
    assert PAGE.read_text() == docs.documentation(), "run: make docs"


def test_the_table_of_layers_has_each_layer_of_each_quantized_cell(tmp_path):
    rows = layers.rows([*study(), cell("teacher/rtn,bits=3", keys={"bits": 3}, errors=(0.5, 0.25))])
    assert len(rows) == 2 * 8 * 4 + 2
    last = rows[rows.recipe == "teacher/rtn,bits=3"]
    assert last[["layer", "bits", "relative_error"]].values.tolist() == [["conv1", 3, 0.5], ["fc", 3, 0.25]]
    layers.SCHEMA.write(tmp_path / "layers.csv", rows)
    assert layers.SCHEMA.read(tmp_path / "layers.csv").equals(rows)


def test_a_retrained_model_has_bits_and_no_errors_of_layers():
    cells = study()
    retrained = cell("teacher/kd/gpfq,bits=2/qat,epochs=3", keys={"epochs": 3}, errors=[0.1] * 4)
    retrained["layers"] = [
        {key: value for key, value in layer.items() if key != "relative_error"} | {"bits": 2}
        for layer in retrained["layers"]
    ]
    row = row_of("teacher/kd/gpfq,bits=2/qat,epochs=3", [*cells, retrained])
    found = {column: row[column] for column in ("kind", "network", "quantizer", "quantizer_name", "bits")}
    assert found == {
        "kind": "retrain",
        "network": "teacher/kd",
        "quantizer": "gpfq+qat,epochs=3",
        "quantizer_name": "gpfq+qat",
        "bits": 2,
    }
    assert row["mean_relative_layer_error"] is None
    assert layers.rows([retrained]).relative_error.isna().all()
    figures = [layer_errors.draw(layers.rows(which), "digits") for which in (cells, [*cells, retrained])]
    assert len({len(figure.axes) for figure in figures}) == 1
