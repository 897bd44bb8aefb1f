"""What a layer costs alone: against a network in which that layer is replaced by hand, and what must not change."""

import math
from dataclasses import replace

import pytest
import torch

from kdq.errors import UserError
from kdq.provenance.files import write_table
from kdq.quantize.bits.sensitivity import BITS, Reference, log_probabilities, measure
from kdq.quantize.bits.sensitivity_table import COLUMNS, FORMAT, Measurement, by_layer, read, write
from kdq.quantize.execution.network import quantize
from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import quantizer_of
from kdq.recipe.path import Cell
from tests.quantize.small import ORDER, network, part, silent

CELL = Cell("digits", 0, "hard/gpfq")


def measured(method="gpfq", model=None, **keys):
    quantizer = quantizer_of(f"kdq.quantize.methods.{method}", keys, 0)
    return measure(model or network(), part(), quantizer, seed=3, log=silent)


@pytest.fixture(scope="module")
def table():
    return by_layer(measured())


def test_a_row_a_layer_and_bits_in_the_order_of_execution(table):
    assert list(table) == ORDER
    assert all(list(rows) == list(BITS) for rows in table.values())
    for name, rows in table.items():
        weight = network().get_submodule(name).weight
        assert {(row.weights, row.steps) for row in rows.values()} == {(weight.numel(), len(weight))}


def test_the_network_is_left_as_it_was():
    model = network()
    measured(model=model)
    assert all(value.equal(network().state_dict()[name]) for name, value in model.state_dict().items())
    assert not model._forward_pre_hooks and not model.training


@pytest.mark.parametrize("method", ["gpfq", "rtn"])
def test_equals_a_network_with_that_layer_replaced(method):
    """The first layer sees the same inputs alone and in a whole quantized network: its codes are known from there."""
    whole, alone, images = network(), network(), part().images
    quantize(whole, images, quantizer_of(f"kdq.quantize.methods.{method}", {"bits": 3}, 0), seed=3, log=silent)
    alone.stem.weight.data = whole.stem.weight.data
    with torch.no_grad():
        own, other = (model(images / 255).double().softmax(1) for model in (network(), alone))
    rows, labels = torch.arange(len(images)), part().labels
    found = by_layer(measured(method))["stem"][3]
    assert found.kl == pytest.approx(float((own * (own / other).log()).sum(1).mean()), rel=1e-4)
    assert found.loss == pytest.approx(float((own / other).log()[rows, labels].mean()), rel=1e-4)
    right = [int((probabilities.argmax(1) == labels).sum()) for probabilities in (own, other)]
    assert found.accuracy == (right[0] - right[1]) / len(images)


def test_losses_of_the_same_predictions_are_zero():
    predicted = log_probabilities(network(), part().images, "cpu")
    assert Reference(predicted, part().labels).losses(predicted) == {"kl": 0, "loss": 0, "accuracy": 0}


def test_divergence_is_positive_and_falls_with_the_bits(table):
    for rows in table.values():
        assert all(row.kl > 0 for row in rows.values())
        assert rows[8].kl < 0.01 * rows[2].kl
        assert rows[8].relative_error < rows[4].relative_error < rows[2].relative_error


@pytest.mark.parametrize(
    "keys",
    [
        {"bits": 2},
        {"budget": 3.0, "cost": "loss"},
        {"order": "iterative", "pick": "most"},
        {"batchnorm": "reestimate"},
        {"bias": "correct"},
    ],
)
def test_what_is_done_afterwards_does_not_matter(table, keys):
    assert keys.keys() <= set(Quantizing.after_measurement)
    assert by_layer(measured(**keys)) == table


def test_folding_is_part_of_what_is_measured():
    measured_with = Quantizing.measurement_keys
    assert measured_with({"batchnorm": "fold", "bits": 3}) == {"batchnorm": "fold"}
    assert measured_with({"batchnorm": "reestimate"}) == measured_with({"batchnorm": "keep"}) == {}


def test_the_scale_does_matter(table):
    assert by_layer(measured(scale=1.0)) != table


def test_a_layer_that_runs_twice_is_measured_on_the_inputs_of_both_calls():
    class Twice(type(network())):
        def forward(self, x):
            y = self.wide(self.bn(self.stem(x)))
            y = self.grouped(self.grouped(y))
            return self.fc((y + self.shortcut(y[:, :6]).mean((1, 2, 3), keepdim=True)).mean((2, 3)))

    torch.manual_seed(0)
    rows = by_layer(measured(model=Twice().eval()))
    assert list(rows) == ORDER and all(row.relative_error > 0 for row in rows["grouped"].values())


class TestFile:
    ROW = Measurement("fc", 60, 5, 4, 0.0125, -0.001, 0.25, 0.07)

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / CELL.path("sensitivity.csv")

    def refused(self, path, match):
        with pytest.raises(UserError, match=f"sensitivity.csv: .*{match}") as error:
            read(path)
        assert "\n" not in str(error.value)

    def test_what_is_written_is_read(self, path, table):
        rows = [row for rows in table.values() for row in rows.values()]
        write(path, rows, CELL, keys={"images": 24})
        assert read(path) == rows

    @pytest.mark.parametrize(
        "text", ["", "\0", "layer,bits\nfc,4\n", "# 3\n", f"{','.join(COLUMNS)}\nfc,1,1,4,0,0,0,0\n"]
    )
    def test_a_file_without_a_header_is_refused(self, path, text):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        self.refused(path, "has no header")

    @pytest.mark.parametrize("row", ["", "fc,1,1,x,0,0,0,0", "fc,1", "fc,1,1,4,,0,0,0"])
    def test_a_missing_or_foreign_value_is_refused(self, path, row):
        write_table(path, f"{','.join(COLUMNS)}\n{row}\n", {"format": FORMAT, **CELL.identity})
        self.refused(path, "(no table|an empty table)")

    @pytest.mark.parametrize("column", ["kl", "loss", "accuracy", "relative_error"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_value_that_is_not_finite_is_refused(self, path, column, value):
        write(path, [self.ROW, replace(self.ROW, **{column: value})], CELL)
        self.refused(path, f"fc at 4 bits: {column}: found .*, expected a finite number")

    def test_a_scaled_column_is_noticed(self, path):
        write(path, [self.ROW], CELL)
        path.write_text(path.read_text().replace("0.0125", "0.0250"))
        self.refused(path, "corrupted")

    @pytest.mark.parametrize("cell", [replace(CELL, seed=1), replace(CELL, recipe="hard/rtn")])
    def test_the_file_of_another_cell_is_refused(self, path, cell):
        write(path, [self.ROW], cell)
        self.refused(path, "a file of another cell")

    def test_a_missing_file_is_one_line(self, path):
        self.refused(path, "not readable as a table")

    def test_a_row_as_a_line_of_a_log(self):
        expected = "fc alone at 4 bits: KL 0.0125 nats, loss -0.001 nats, accuracy -0.2500, relative error 0.0700"
        assert str(self.ROW) == expected
