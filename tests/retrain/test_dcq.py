"""DCQ: sections that make up the network, each moved by its own error alone, and statistics after stitching."""

import itertools
from dataclasses import replace
from functools import reduce

import pytest
import torch

from kdq import models
from kdq.errors import UserError
from kdq.models import registry
from kdq.models.model import Model
from kdq.retrain.methods import dcq
from kdq.retrain.sections import sections
from kdq.train.stage import save
from tests.distill.samples import batches, killed_at

HEADER = {"recipe": "hard/rtn,bits=2/dcq", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
CPU = torch.device("cpu")


@pytest.fixture
def make(build, quantized, few):
    """The task of a parent that is its teacher, rounded; ``epochs`` are 4."""

    def make(bits=2, teacher=None, **keys):
        network = build().eval()
        method = dcq.DCQ(dcq.Parameters(**keys), 4)
        teacher = teacher or network
        model = Model(teacher, getattr(teacher, "architecture", {"architecture": "transformers"}))
        return method.task(quantized(network, bits=bits, scale=1.0), model, few, seed=0, device=CPU).train()

    return make


class TestSections:
    @pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50"])
    @pytest.mark.parametrize("count", [1, 3, 4, 8])
    def test_one_after_the_other_are_the_network(self, build, architecture, count):
        network, images = build(architecture, stem="imagenet").eval(), torch.rand(2, 1, 32, 32)
        found = sections(network, count)
        assert len(found) == count
        assert torch.equal(reduce(lambda x, section: section(x), found, images), network(images))

    @pytest.mark.parametrize(("architecture", "blocks"), [("wrn16-2", 6), ("mobilenetv2", 17)])
    def test_of_other_networks_too(self, architecture, blocks):
        arguments = {"classes": 10, "channels": 1, "stem": "cifar", "width": 0.25, "mean": [0.3], "std": [0.4]}
        network, images = registry.build(architecture, **arguments).eval(), torch.rand(2, 1, 8, 8)
        for count in (3, blocks):
            parts = sections(network, count)
            torch.testing.assert_close(reduce(lambda x, section: section(x), parts, images), network(images))
        with pytest.raises(UserError, match=f"expected 1 to {blocks}, the blocks"):
            sections(network, blocks + 1)

    def test_of_resnet18_four_end_where_its_stages_end(self, build):
        network, images = build().eval(), torch.rand(2, 1, 8, 8)
        x, features = images, network(images, taps=("layer1", "layer2", "layer3"))[1]
        for section, expected in zip(sections(network, 4), features.values(), strict=False):
            x = section(x)
            assert torch.equal(x, expected)

    @pytest.mark.parametrize("count", [9, 10**9])
    def test_no_more_than_blocks(self, build, count):
        with pytest.raises(UserError, match=f"sections: found {count}, expected 1 to 8"):
            sections(build(), count)


class TestErrors:
    def test_none_where_network_and_teacher_agree(self, make):
        """At 8 bits nearly so; in eval mode, where BatchNorm does not look at the batch."""
        batch = next(batches())
        for inputs in ("teacher", "student"):
            terms = make(bits=8, inputs=inputs).eval()(batch).terms
            assert list(terms) == ["section_1", "section_2", "section_3", "cross_entropy", "distillation"]
            assert all(0 < terms[f"section_{number}"] < 1e-3 for number in (1, 2, 3))
            assert make(bits=2, inputs=inputs).eval()(batch).terms["section_1"] > 1e-2

    def test_is_the_squared_distance_over_the_squared_size(self):
        target = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        assert dcq.relative_error(target, target) == 0
        torch.testing.assert_close(dcq.relative_error(1.5 * target, target), torch.tensor(0.25))
        torch.testing.assert_close(dcq.relative_error(7 * target, 5 * target), torch.tensor(0.16))
        assert dcq.relative_error(torch.zeros(2, 3), torch.zeros(2, 3)) == 0

    @pytest.mark.parametrize("inputs", ["teacher", "student"])
    def test_each_section_is_moved_by_its_own_alone(self, make, inputs):
        task = make(inputs=inputs)
        terms = task(next(batches())).terms
        losses = [terms["section_1"], terms["section_2"], terms["section_3"]]
        losses.append(terms["cross_entropy"] + terms["distillation"])
        layers = [task.network.layer1, task.network.layer2, task.network.layer3, task.network.layer4]
        for place, layer in enumerate(layers):
            for other, loss in enumerate(losses):
                found = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True, allow_unused=True)
                assert all((gradient is not None) == (place == other) for gradient in found)

    def test_with_the_teachers_inputs_a_section_does_not_see_those_before_it(self, make):
        batch, task = next(batches()), make(inputs="teacher")
        before = task(batch).terms
        with torch.no_grad():
            task.network.conv1.parametrizations.weight.original.mul_(0)
        after = task(batch).terms
        assert after["section_1"] != before["section_1"]
        assert all(torch.equal(after[name], before[name]) for name in list(before)[1:])

    def test_joint_epochs_train_all_by_the_last_sections_losses(self, make):
        task = make(joint=0.5)
        batch = next(batches())
        terms = task(replace(batch, epoch=3)).terms
        assert [terms[f"section_{number}"].item() for number in (1, 2, 3)] == [0, 0, 0]
        sum(terms.values()).backward()
        assert task.network.conv1.parametrizations.weight.original.grad.abs().max() > 0
        assert task(replace(batch, epoch=2)).terms["section_1"] > 0


class TestTeacher:
    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            (
                {"architecture": "resnet34"},
                "teacher: found one of architecture resnet34, expected the parent's",
            ),
            ({"width": 0.125}, "found one of width 0.125, expected the parent's, 0.0625; teacher=float"),
        ],
    )
    def test_of_another_architecture_is_refused(self, make, build, changes, match):
        with pytest.raises(UserError, match=match):
            make(teacher=build(**changes))

    def test_that_has_no_sections_is_refused(self, make):
        with pytest.raises(UserError, match="the teacher is a network of transformers without sections"):
            make(teacher=torch.nn.Linear(2, 2))


class TestStitched:
    def test_statistics_are_those_of_the_stitched_network_on_the_last_images(self, make):
        first, second = itertools.islice(batches(), 2)
        task = make(images=len(second.images) + 4)
        task(first)
        task(second)
        images = torch.cat([first.images[-4:], second.images])
        task.before_validation({"network": task.network})
        inputs = []
        task.network.layer4[1].bn2.register_forward_hook(lambda module, given, output: inputs.append(given[0]))
        first = task.network.bn1.running_mean
        normalised = (images - task.network.mean) / task.network.std
        torch.testing.assert_close(first, task.network.conv1(normalised).mean((0, 2, 3)))
        task.network.train()(images)
        torch.testing.assert_close(task.network.layer4[1].bn2.running_mean, inputs[0].mean((0, 2, 3)))

    def test_images_of_an_epoch_before_do_not_count(self, make):
        """A run that goes on from a checkpoint has not seen them."""
        first, second = itertools.islice(batches(), 2)
        measured = []
        for given in ([first, replace(second, epoch=2)], [replace(second, epoch=2)]):
            task = make(images=10_000, sections=2)
            for batch in given:
                task(batch)
            task.before_validation({"network": task.network})
            measured.append(task.network.bn1.running_mean)
        assert measured[0].equal(measured[1])

    @pytest.mark.parametrize("keys", [{"inputs": "student"}, {"sections": 1}, {"joint": 1.0}])
    def test_where_the_inputs_are_its_own_they_stay(self, make, keys):
        task = make(**keys)
        task(next(batches()))
        before = task.network.bn1.running_mean.clone()
        task.before_validation({"network": task.network})
        assert torch.equal(task.network.bn1.running_mean, before)


class TestTraining:
    @pytest.mark.parametrize("inputs", ["teacher", "student"])
    def test_sections_come_closer_and_the_network_recovers(self, run, files, few, accuracy, inputs):
        trained = run("dcq", epochs=6, learning_rate=0.05, inputs=inputs)
        first, last = trained.history[0], trained.history[-1]
        assert all(last[f"loss_section_{number}"] < 0.9 * first[f"loss_section_{number}"] for number in (1, 2, 3))
        of_teacher, of_parent = (accuracy(models.load(files[name]), few.validation) for name in ("float", "rtn"))
        assert max(row["validation_accuracy"] for row in trained.history) > max(of_teacher - 0.1, of_parent + 0.3)

    @pytest.mark.parametrize("step", [8, 19])
    def test_killed_it_ends_with_the_same_bytes(self, run, tmp_path, step):
        """In the epochs of sections, and in those of joint training."""
        changes = {"epochs": 4, "joint": 0.5, "averaging": 0.5}
        contents = []
        for name in ("whole", "killed"):
            if name == "killed":
                with killed_at(step):
                    run("dcq", name, **changes)
                torch.manual_seed(99)
            save(tmp_path / name, tmp_path / "history.csv", run("dcq", name, **changes), **HEADER)
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1]
