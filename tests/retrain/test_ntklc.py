"""NTK-LC: what is replaced and what stays, what the file holds and how large it is, and that it learns."""

import copy
from math import log2, sqrt

import pytest
import torch
from torch import nn

from kdq import models
from kdq.data.batches import Batch, to_float
from kdq.errors import UserError
from kdq.evaluate.stage import evaluate
from kdq.models import file as model_file
from kdq.models import registry
from kdq.models.model import Model
from kdq.models.packing import packed_size_bytes
from kdq.quantize.methods import rtn
from kdq.quantize.stage import quantize_stage
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.report.tables import cells as table
from kdq.report.tables import layers as layer_table
from kdq.retrain.methods import ntklc
from kdq.retrain.stage import load, retrain
from kdq.train.stage import save
from tests.report.cells import records

CPU = torch.device("cpu")
HEADER = {"dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
SMALL = {"neurons": 60, "last_neurons": 30, "zeros": 0.5}
KINDS = {"hard": "root", "rtn": "quantize", "ntklc": "retrain"}


@pytest.fixture
def run(few, files, all_keys, tmp_path):
    """Retrain the model in one of the files; gives what was trained and the lines of its log."""

    def run(parent="float", **changes):
        keys = all_keys("ntklc", **{"epochs": 2, "learning_rate": 1.0, **SMALL, **changes})
        lines = []
        places = {"checkpoint": tmp_path / "checkpoint.pt", "identity": str(keys), "log": lines.append}
        path = files[parent]
        return retrain(few, path, path, "kdq.retrain.methods.ntklc", keys, seed=0, threads=1, **places), lines

    return run


@pytest.fixture
def saved(run, tmp_path):
    """The model file of what was trained, and the trained itself."""

    def saved(parent="float", recipe="hard/ntklc", **changes):
        trained, _ = run(parent, **changes)
        path = tmp_path / "model.safetensors"
        save(path, tmp_path / "history.csv", trained, recipe=recipe, **HEADER)
        return path, trained

    return saved


def make(few, parent: Model, seed=0, **keys) -> tuple[ntklc.NTKLC, ntklc.Readout]:
    method = ntklc.NTKLC(ntklc.Parameters(**{**SMALL, **keys}), log=lambda line: None)
    torch.manual_seed(seed)
    return method, method.task(parent, parent, few, seed=seed, device=CPU)


class TestWeights:
    @pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95])
    def test_are_zero_or_of_one_magnitude_and_their_variance_is_1(self, zeros):
        torch.manual_seed(0)
        weights = ntklc.ternary((400, 500), zeros)
        assert (weights == 0).double().mean().item() == pytest.approx(zeros, abs=0.005)
        assert (weights > 0).double().mean().item() == pytest.approx((1 - zeros) / 2, abs=0.005)
        assert set(weights.abs().unique().tolist()) <= {0.0, torch.tensor((1 - zeros) ** -0.5).item()}
        assert weights.double().square().mean().item() == pytest.approx(1, abs=0.03)

    def test_entropy(self):
        assert ntklc.entropy_bits(torch.tensor([0, 0, 1, -1])) == 1.5
        assert ntklc.entropy_bits(torch.zeros(5)) == 0
        torch.manual_seed(0)
        found = ntklc.entropy_bits(ntklc.ternary((400, 500), 0.95))
        assert found == pytest.approx(-0.95 * log2(0.95) - 0.05 * log2(0.05) + 0.05, abs=0.01)


class TestTask:
    def test_the_embeddings_of_the_training_part_are_centred_and_of_mean_square_norm_1(self, few, files):
        parent = load(files["float"], CPU)
        _, task = make(few, parent)
        head = task.network.fc
        centred = (ntklc.embeddings(task.network, few.train.images, CPU) - head.mean) / head.scale
        assert centred.mean(0).abs().max() < 1e-5
        assert centred.square().sum(1).mean().item() == pytest.approx(1, abs=1e-5)

    @pytest.mark.parametrize("head", ["compressed", "dense"])
    def test_a_head_is_what_its_equation_says(self, few, files, head):
        method, task = make(few, load(files["float"], CPU), head=head)
        network, images = task.network, to_float(few.test.images)
        with torch.no_grad():
            x = (network(images, taps=("embedding",))[1]["embedding"] - network.fc.mean) / network.fc.scale
            for layer, match in zip(network.fc.layers, method.matches, strict=True):
                u = x @ layer.weight.mT
                if head == "dense":
                    x = u.clamp(min=0) - match.target.mean
                else:
                    (first, second), level = match.steps.thresholds[:2], match.steps.levels[0]
                    if len(match.steps.levels) == 3:
                        x = level * ((u <= first) | (u > second)).float() - match.matched.mean
                    else:
                        third, last = match.steps.thresholds[2:]
                        outer, inner = (u <= first) | (u > last), (u > second) & (u <= third)
                        x = level * outer + match.steps.levels[2] * inner - match.matched.mean
                x = x / sqrt(len(layer.weight))
            torch.testing.assert_close(network(images), x @ network.fc.classifier.weight.mT, rtol=1e-4, atol=1e-4)

    def test_only_the_classifier_is_trained(self, few, files):
        _, task = make(few, load(files["rtn"], CPU))
        before = copy.deepcopy(task.state_dict())
        optimizer = torch.optim.SGD(task.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1)
        task.train()
        for _ in range(2):
            images = to_float(few.train.images[:32])
            optimizer.zero_grad()
            sum(task(Batch(images, few.train.labels[:32], torch.arange(32), 1)).terms.values()).backward()
            optimizer.step()
        changed = [name for name, value in task.state_dict().items() if not torch.equal(value, before[name])]
        assert changed == ["network.fc.classifier.weight"]

    def test_the_seed_draws_the_weights(self, few, files):
        weights = [make(few, load(files["float"], CPU), seed)[1].network.fc.layers[1].weight for seed in (0, 0, 1)]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])

    def test_autocast_moves_no_step(self, few, files):
        _, task = make(few, load(files["float"], CPU))
        embedding = torch.randn(8, task.network.fc.mean.numel())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = task.network.fc.features(embedding.bfloat16())
        assert torch.equal(found, task.network.fc.features(embedding.bfloat16().float()))

    @pytest.mark.parametrize(("zeros", "layers"), [(0.5, []), (0.8, ["layer 1", "layer 2", "layer 3"])])
    def test_too_few_weights_per_neuron_are_told(self, few, files, zeros, layers):
        parent, lines = load(files["float"], CPU), []
        method = ntklc.NTKLC(ntklc.Parameters(**{**SMALL, "zeros": zeros}), log=lines.append)
        method.task(parent, parent, few, seed=0, device=CPU)
        told = [line for line in lines if "the theory is not tested at this size" in line]
        assert [line.partition(":")[0] for line in told] == layers

    def test_another_network_is_refused(self, few):
        with pytest.raises(UserError, match="ntklc: found a parent that is no network of this package .Linear"):
            make(few, Model(nn.Linear(2, 2), {}))


@pytest.mark.parametrize("architecture", ["wrn10-1", "mobilenetv2"])
def test_of_other_networks_too(few, tmp_path, architecture):
    arguments = {"classes": 10, "channels": 1, "stem": "cifar", "width": 0.25, "mean": [0.3], "std": [0.4]}
    network = registry.build(architecture, **arguments).eval()
    parent = Model(network, network.architecture)
    method, task = make(few, parent)
    trained = method.model(task, parent)
    assert sorted(trained.codes) == [f"{network.classifier_name}.layers.{index}" for index in range(3)]
    save(tmp_path / "model", tmp_path / "history", trained, recipe="hard/ntklc", **HEADER)
    images = to_float(few.test.images)
    torch.testing.assert_close(models.load(tmp_path / "model")(images), task.network(images))


class TestFile:
    @pytest.mark.parametrize("keys", [{}, {"last_activation": "exact"}, {"head": "dense"}], ids=str)
    @pytest.mark.parametrize("parent", ["float", "rtn"])
    def test_holds_the_network(self, saved, few, parent, keys):
        path, trained = saved(parent, **keys)
        loaded, images = models.load(path), to_float(few.test.images)
        state = trained.network.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
        with torch.no_grad():
            torch.testing.assert_close(loaded(images), trained.network(images), rtol=1e-4, atol=1e-4)

    def test_the_trunk_is_the_parents(self, saved, files):
        for parent in ("float", "rtn"):
            path, _ = saved(parent)
            before, now = model_file.read(files[parent]), model_file.read(path)
            trunk = {name: value for name, value in before.floats.items() if not name.startswith("fc.")}
            assert all(torch.equal(value, now.floats[name]) for name, value in trunk.items())
            codes = {name for name in before.codes if name != "fc"}
            assert all(torch.equal(before.codes[name].codes, now.codes[name].codes) for name in codes)
            assert now.codes.keys() - codes == {f"fc.layers.{index}" for index in range(3)}

    def test_two_bits_a_random_weight_and_all_else_counted_too(self, saved, files):
        sizes = [saved(neurons=neurons)[0].stat().st_size for neurons in (400, 800)]
        inputs = model_file.read(files["float"]).floats["fc.weight"].shape[1]
        weights = [neurons * (inputs + neurons + 30) for neurons in (400, 800)]
        expected = packed_size_bytes(weights[1] - weights[0], 2)
        assert sizes[1] - sizes[0] == pytest.approx(expected, abs=64)
        assert sizes[0] - files["float"].stat().st_size == pytest.approx(packed_size_bytes(weights[0], 2), rel=0.25)

    def test_says_how_far_the_activations_are_from_those_of_relu(self, saved, run):
        path, _ = saved()
        layers = model_file.read(path).header["layers"]
        residuals = [layers[f"fc.layers.{index}"]["activation_residual"] for index in range(3)]
        assert residuals == [0, 0, pytest.approx(0.070878, abs=1e-6)]
        assert layers["fc.layers.0"]["entropy_bits"] == pytest.approx(1.5, abs=0.02)
        lines = run()[1]
        assert any("activation 3: residual 0.0709, tau 0.5018, of ReLU 0.1990" in line for line in lines)
        assert any("kernel coefficient a1: 0.006105, of ReLU 0.015625" in line for line in lines)

    def test_an_activation_that_is_none_is_one_line(self, saved):
        path, trained = saved()
        for change in ({"widths": [60, 60]}, {"activations": [{}] * 3}, {"more": 1}):
            architecture = {**trained.architecture, "head": {**trained.architecture["head"], **change}}
            model_file.save(path, trained.network, architecture, trained.codes, recipe="hard/ntklc", **HEADER)
            with pytest.raises(UserError, match="do not fit its architecture") as caught:
                models.load(path)
            assert "\n" not in str(caught.value)

    def test_again_replaces_the_head(self, few, saved):
        path, _ = saved()
        again, task = make(few, load(path, CPU), neurons=20)
        found = again.model(task, load(path, CPU))
        assert found.architecture["head"]["widths"] == [20, 20, 30]
        assert {name: tuple(codes.codes.shape)[0] for name, codes in found.codes.items()} == {
            "fc.layers.0": 20,
            "fc.layers.1": 20,
            "fc.layers.2": 30,
        }


class TestDownstream:
    def row(self, path, few, recipe) -> tuple[dict, list[dict]]:
        metrics, _ = evaluate(model_file.read(path), path, few, None, CPU)
        metrics["recipe"] = recipe
        return records(table.rows([metrics], KINDS))[0], records(layer_table.rows([metrics]))

    def test_the_table_tells_the_bits_of_the_trunk(self, saved, few):
        path, trained = saved()
        row, layers = self.row(path, few, "hard/ntklc")
        assert (row["bits"], row["levels"], row["quantizer_name"]) == (32, None, "ntklc")
        assert row["quantized_weights"] == sum(codes.codes.numel() for codes in trained.codes.values())
        assert row["nominal_bits"] == pytest.approx(log2(3)) and row["mean_relative_layer_error"] is None
        assert [layer["levels"] for layer in layers] == ["ternary"] * 3
        path, _ = saved("rtn", "hard/rtn,bits=2/ntklc")
        row, layers = self.row(path, few, "hard/rtn,bits=2/ntklc")
        assert (row["bits"], row["levels"], row["network"]) == (2, "2^b", "hard")
        assert row["mean_relative_layer_error"] is None and len(layers) == 23

    def test_it_can_be_quantized(self, saved, few):
        """The random layers and the readout are linear layers as any other."""
        path, _ = saved()
        file = model_file.read(path)
        network = model_file.to_network(file, path)
        keys = rtn.Parameters(bits=8, images=32)
        codes = quantize_stage(network, few, rtn.RTN(keys), seed=0, device=CPU, log=lambda line: None)
        assert {"fc.layers.0", "fc.layers.2", "fc.classifier"} <= codes.keys()
        header = {**HEADER, "recipe": "hard/ntklc/rtn,bits=8"}
        model_file.save(path, network, file.header["architecture"], codes, **header)
        state = network.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in models.load(path).state_dict().items())


class TestKeys:
    @pytest.fixture
    def resolve(self, home):
        grammar = Grammar(find_stages(home / "kdq"), {"teacher": {}, "student": {}, "retrain": {}}, {})
        return lambda recipe: grammar.resolve(grammar.parse(recipe).last)

    def test_a_float_network_may_be_the_parent(self, resolve):
        assert resolve("hard/ntklc")["neurons"] == resolve("hard/rtn/ntklc")["neurons"] == 400

    def test_of_a_dense_head_are_fewer(self, resolve):
        assert not {"zeros", "last_activation"} & resolve("hard/ntklc,head=dense").keys()
        with pytest.raises(UserError, match=r"zeros: found 0.9: head=dense does not read this key"):
            resolve("hard/ntklc,head=dense,zeros=0.9")

    def test_there_is_no_teacher(self, resolve):
        with pytest.raises(UserError, match="teacher: found 'root': NTK-LC learns from the labels alone"):
            resolve("hard/ntklc,teacher=root")


@pytest.mark.parametrize(
    ("keys", "learning_rate"), [({"head": "dense"}, 30.0), ({}, 20.0), ({"last_activation": "exact"}, 20.0)], ids=str
)
def test_digits_are_learnt(run, keys, learning_rate):
    """From random features of a network that has learned a little."""
    history = run(epochs=20, learning_rate=learning_rate, **{"neurons": 1000, "last_neurons": 1500, **keys})[0].history
    assert history[-1]["loss_cross_entropy"] < 0.9 * history[0]["loss_cross_entropy"]
    assert max(row["validation_accuracy"] for row in history) > 0.3
