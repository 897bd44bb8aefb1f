"""Quantization-aware training: what it minimises, what it reads, and that it learns on the parent's bits."""

import importlib
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from kdq.distill.losses import kd
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes
from kdq.models.model import Model
from kdq.recipe.implementation import declared_class
from kdq.recipe.stages import check, find_stages
from kdq.retrain.method import Retraining
from kdq.retrain.methods import qat
from kdq.retrain.stage import float_weights, load, retrain
from kdq.train.stage import save
from tests.distill.samples import batches, killed_at
from tests.retrain.conftest import CPU

HEADER = {"recipe": "hard/rtn,bits=2/qat", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}


@pytest.fixture
def make(build, quantized, few):
    def make(**keys):
        parent, teacher = quantized(build(), bits=2), build(seed=1).eval()
        method = qat.QAT(qat.Parameters(**keys))
        model = Model(teacher, teacher.architecture)
        return method.task(parent, model, few, seed=0, device=torch.device("cpu")), teacher

    return make


class TestLosses:
    def test_labels_alone_by_default_and_no_look_at_the_teacher(self, make):
        task, _ = make()
        task.teacher = None
        batch = next(batches())
        step = task(batch)
        assert step.terms.keys() == {"cross_entropy"}
        torch.testing.assert_close(step.terms["cross_entropy"], F.cross_entropy(step.logits, batch.labels))

    def test_with_a_teacher(self, make):
        task, teacher = make(label_weight=0.0, distillation_weight=0.7, temperature=3.0)
        batch = next(batches())
        step = task(batch)
        expected = 0.7 * kd(step.logits, teacher(batch.images), 3.0)
        assert step.terms.keys() == {"distillation"}
        torch.testing.assert_close(step.terms["distillation"], expected, rtol=1e-4, atol=1e-5)

    def test_the_teacher_is_no_part_of_the_task(self, make):
        task, teacher = make(distillation_weight=1.0)
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        sum(task.train()(next(batches())).terms.values()).backward()
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
        assert not any("teacher" in name for name in task.state_dict())

    def test_nothing_to_learn_from_is_refused(self, home):
        with pytest.raises(UserError, match="label_weight: found 0 beside distillation_weight=0"):
            check(find_stages(home / "kdq")["qat"].keys, {"label_weight": 0.0}, "recipe")


@pytest.mark.parametrize("name", ["qat", "qkd", "dcq", "adaptive"])
class TestStart:
    def test_is_from_the_float_ancestors_weights_unless_asked_otherwise(self, home, few, files, name):
        module = importlib.import_module(f"kdq.retrain.methods.{name}")
        assert find_stages(home / "kdq")[name].keys().start == "float"
        floats, teacher = load(files["float"], CPU).network, load(files["float"], CPU)
        for start in (floats, None):
            parent = load(files["rtn"], CPU)
            expected = parent.network.conv1.weight.detach().clone()
            method = declared_class(module.__name__, Retraining)(module.Parameters(), floats=start)
            network = method.task(parent, teacher, few, seed=0, device=CPU).network
            weight = network.conv1.parametrizations.weight.original
            assert ((weight - expected).abs().max() < 1e-6) == (start is None)
            torch.testing.assert_close(network.conv1.weight, expected)  # the codes and steps are the parent's
            if start is not None:  # most weights are rounded to where they are
                assert (weight - start.conv1.weight).abs().lt(1e-6).double().mean() > 0.8

    def test_is_that_network_with_another_teacher_too(self, few, files, build, all_keys, tmp_path, name):
        """The stage reads two files: that of the teacher, here an untrained network, and that of the float ancestor."""
        root, root_file, read = build(seed=5), tmp_path / "root.safetensors", []
        model_file.save(root_file, root, root.architecture, Codes(), **HEADER)
        module, places = f"kdq.retrain.methods.{name}", {"checkpoint": tmp_path, "identity": "", "log": print}

        class Reached(Exception):
            pass

        def task(self, parent, teacher, *others, **settings):
            read.extend([self.floats, teacher.network])
            raise Reached

        with mock.patch.object(declared_class(module, Retraining), "task", task), pytest.raises(Reached):
            settings = {"seed": 0, "threads": 1, "ancestor": files["float"], **places}
            retrain(few, files["rtn"], root_file, module, all_keys(name), **settings)
        assert torch.equal(read[0].conv1.weight, load(files["float"], CPU).network.conv1.weight)
        assert torch.equal(read[1].conv1.weight, root.conv1.weight)


def test_weights_whose_channels_were_equalised_are_those_that_were_rounded(files, quantized, tmp_path):
    parent = quantized(load(files["float"], CPU).network, bits=8, channels="equalize", scale="mse")
    path = tmp_path / "equalised.safetensors"
    header = HEADER | {"keys": {"channels": "equalize"}}
    model_file.save(path, parent.network, parent.architecture, parent.codes, **header)
    floats = float_weights(files["float"], path, CPU)
    name, codes = next((name, codes) for name, codes in parent.codes.items() if name.endswith("conv2"))
    step = codes.step.view(-1, 1, 1, 1)
    away = [
        ((network.get_submodule(name).weight - codes.decode()).abs() / step).max().item()
        for network in (floats, load(files["float"], CPU).network)
    ]
    assert away[0] < 0.51 and away[1] > 2


class TestLearning:
    def test_wins_back_what_rounding_lost_on_the_same_bits(self, run, files, few, accuracy, tmp_path):
        trained = run("qat", epochs=8, learning_rate=0.02)
        save(tmp_path / "model.safetensors", tmp_path / "history.csv", trained, **HEADER)
        found, parent = (model_file.read(path) for path in (tmp_path / "model.safetensors", files["rtn"]))
        assert found.header["layers"].keys() == parent.header["layers"].keys()
        for layer, facts in found.header["layers"].items():
            kept = {key: facts[key] for key in ("shape", "low", "high", "storage_bits", "bits", "levels")}
            assert kept == {key: parent.header["layers"][layer][key] for key in kept} and facts == kept
        # as many bytes but for the notes of the quantizer in the header
        assert 0 <= files["rtn"].stat().st_size - (tmp_path / "model.safetensors").stat().st_size < 2500
        before, after = (accuracy(model_file.to_network(file), few.validation) for file in (parent, found))
        assert after >= before + 0.1
        assert after == max(row["validation_accuracy"] for row in trained.history)

    def test_killed_it_ends_with_the_bytes_of_the_uninterrupted_run(self, run, tmp_path):
        changes = {"epochs": 3, "averaging": 0.5, "schedule": "onecycle", "start": "float", "distillation_weight": 1.0}
        whole = run("qat", "whole", **changes)
        with killed_at(12):
            run("qat", "killed", **changes)
        lines = []
        torch.manual_seed(99)
        again = run("qat", "killed", log=lines.append, **changes)
        assert any("going on after epoch 2" in line for line in lines)
        contents = []
        for name, trained in (("whole", whole), ("again", again)):
            save(tmp_path / name, tmp_path / "history.csv", trained, **HEADER)
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1]
