"""What a layer costs alone: against a network in which that layer is replaced by hand, and what must not change."""

import pytest
import torch

from kdq.errors import UserError
from kdq.quantize.bits.sensitivity import BITS, Reference, log_probabilities, measure
from kdq.quantize.bits.sensitivity_table import COLUMNS, Measurement, by_layer, read, write
from kdq.quantize.execution.network import quantize
from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import quantizer_of
from tests.quantize.small import ORDER, network, part, silent


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
        {"order": "greedy"},
        {"batchnorm": "reestimate"},
        {"bias": "correct"},
    ],
)
def test_what_is_done_afterwards_does_not_matter(table, keys):
    assert keys.keys() <= set(Quantizing.after_measurement)
    assert by_layer(measured(**keys)) == table


def test_the_scale_does_matter(table):
    assert by_layer(measured(scale=1.0)) != table


def test_a_layer_that_runs_twice_is_measured_on_the_inputs_of_both_calls():
    class Twice(type(network())):
        def forward(self, x):
            y = self.wide(self.bn(self.stem(x)))
            return self.fc((self.grouped(self.grouped(y)) + self.shortcut(y[:, :6]).mean()).mean((2, 3)))

    torch.manual_seed(0)
    rows = by_layer(measured(model=Twice().eval()))
    assert list(rows) == ORDER and all(row.relative_error > 0 for row in rows["grouped"].values())


class TestFile:
    def test_what_is_written_is_read(self, tmp_path, table):
        rows = [row for rows in table.values() for row in rows.values()]
        write(tmp_path / "sensitivity.csv", rows)
        assert read(tmp_path / "sensitivity.csv") == rows

    @pytest.mark.parametrize(
        "text",
        ["", "\0", "layer,bits\nfc,4\n", *(f"{','.join(COLUMNS)}\n{row}\n" for row in ("fc,1,1,x,0,0,0,0", "fc,1"))],
    )
    def test_another_file_is_one_line(self, tmp_path, text):
        path = tmp_path / "sensitivity.csv"
        path.write_text(text)
        with pytest.raises(UserError, match="sensitivity.csv: (no table|an empty table)") as error:
            read(path)
        assert "\n" not in str(error.value)

    def test_a_missing_file_is_one_line(self, tmp_path):
        with pytest.raises(UserError, match="no table of measurements"):
            read(tmp_path / "sensitivity.csv")

    def test_a_row_as_a_line_of_a_log(self):
        row = Measurement("fc", 60, 5, 4, 0.0125, -0.001, 0.25, 0.07)
        expected = "fc alone at 4 bits: KL 0.0125 nats, loss -0.001 nats, accuracy -0.2500, relative error 0.0700"
        assert str(row) == expected
