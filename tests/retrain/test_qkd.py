"""QKD: three phases, no gradient from one network to the other, one loop that can be resumed in any of them."""

import pytest
import torch
import torch.nn.functional as F

from kdq.distill.losses import kd
from kdq.errors import UserError
from kdq.models.model import Model
from kdq.recipe.stages import check, find_stages
from kdq.retrain.methods import qkd
from kdq.train.stage import save
from tests.distill.samples import batches, killed_at

HEADER = {"recipe": "hard/rtn,bits=2/qkd", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}
TERMS = ["cross_entropy", "distillation", "teacher_cross_entropy", "teacher_distillation"]


@pytest.fixture
def make(build, quantized, few):
    """The task; the phases of its 4 epochs: alone in 1, together in 2 and 3, tutored in 4."""

    def make(epochs=4, **keys):
        method = qkd.QKD(qkd.Parameters(**{"self_studying": 0.25, **keys}), epochs)
        teacher = build(seed=1).eval()
        model = Model(teacher, teacher.architecture)
        return method.task(quantized(build(), bits=2), model, few, seed=0, device=torch.device("cpu")).train()

    return make


def at_epoch(epoch):
    batch = next(batches())
    return type(batch)(batch.images, batch.labels, batch.indices, epoch)


def gradients(term, network):
    return torch.autograd.grad(term, list(network.parameters()), retain_graph=True, allow_unused=True)


class TestPhases:
    @pytest.mark.parametrize(
        ("epochs", "expected"), [(200, (30, 130)), (10, (2, 6)), (20, (3, 13)), (2, (0, 1)), (1, (0, 1))]
    )
    def test_the_published_shares(self, epochs, expected):
        task = qkd.Studying(torch.nn.Identity(), torch.nn.Identity(), qkd.Parameters(), epochs)
        assert task.ends == expected
        phases = [task.phase(epoch) for epoch in range(1, epochs + 1)]
        lengths = [phases.count(phase) for phase in (qkd.SELF_STUDYING, qkd.CO_STUDYING, qkd.TUTORING)]
        assert lengths == [expected[0], expected[1] - expected[0], epochs - expected[1]]

    def test_a_sum_above_one_is_refused(self, home):
        with pytest.raises(UserError, match="co_studying: found 0.5 beside self_studying=0.6, expected a sum of at"):
            check(find_stages(home / "kdq")["qkd"].keys, {"self_studying": 0.6}, "recipe")

    def test_alone_the_teacher_is_left_alone(self, make):
        task = make()
        before = {name: value.clone() for name, value in task.teacher.state_dict().items()}
        step = task(at_epoch(1))
        assert list(step.terms) == TERMS and [step.terms[name].item() for name in TERMS[1:]] == [0, 0, 0]
        sum(step.terms.values()).backward()
        assert all(parameter.grad is None for parameter in task.teacher.parameters())
        assert all(torch.equal(value, before[name]) for name, value in task.teacher.state_dict().items())

    def test_together_each_is_moved_by_its_own_terms_only(self, make):
        task = make(label_weight=0.5, distillation_weight=2.0, temperature=3.0)
        batch = at_epoch(2)
        step = task(batch)
        own = {task.network: TERMS[:2], task.teacher: TERMS[2:]}
        for network, names in own.items():
            for name in TERMS:
                alone = gradients(step.terms[name], network)
                assert all(gradient is None for gradient in alone) == (name not in names)
        task.network.train(), task.teacher.train()
        student, teacher = task.network(batch.images), task.teacher(batch.images)
        expected = [
            0.5 * F.cross_entropy(student, batch.labels),
            2 * kd(student, teacher, 3.0),
            0.5 * F.cross_entropy(teacher, batch.labels),
            2 * kd(teacher, student, 3.0),
        ]
        torch.testing.assert_close([step.terms[name] for name in TERMS], expected)

    def test_tutored_by_a_teacher_that_stays_as_it_is(self, make):
        task = make()
        before = {name: value.clone() for name, value in task.teacher.state_dict().items()}
        batch = at_epoch(4)
        step = task(batch)
        assert [step.terms[name].item() for name in TERMS[2:]] == [0, 0]
        torch.testing.assert_close(
            step.terms["distillation"], kd(step.logits, task.teacher.eval()(batch.images), 2.0), rtol=1e-4, atol=1e-5
        )
        sum(step.terms.values()).backward()
        assert all(parameter.grad is None for parameter in task.teacher.parameters())
        assert all(torch.equal(value, before[name]) for name, value in task.teacher.state_dict().items())


class TestTraining:
    def test_the_teacher_changes_in_its_phase_and_only_the_student_is_saved(self, run, files):
        trained = run("qkd", epochs=4, self_studying=0.25, learning_rate=0.02)
        teacher = [row["teacher_validation_accuracy"] for row in trained.history]
        losses = [(row["loss_distillation"], row["loss_teacher_cross_entropy"]) for row in trained.history]
        assert [(first > 0, second > 0) for first, second in losses] == [
            *((False, False), (True, True)),
            *((True, True), (True, False)),
        ]
        assert teacher[2] == teacher[3] and len(set(teacher)) > 1
        assert trained.codes.keys() and trained.network.architecture == trained.architecture

    @pytest.mark.parametrize("step", [4, 9, 14, 19])
    def test_killed_in_any_phase_it_ends_with_the_same_bytes(self, run, tmp_path, step):
        changes = {"epochs": 4, "self_studying": 0.25, "schedule": "onecycle"}
        contents = []
        for name in ("whole", "killed"):
            if name == "killed":
                with killed_at(step):
                    run("qkd", name, **changes)
                torch.manual_seed(99)
            save(tmp_path / name, tmp_path / "history.csv", run("qkd", name, **changes), **HEADER)
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1]
