"""Contrastive representation distillation: its loss, its draw of negatives, its memory, and that it goes on."""

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import kdq
from kdq.data.batches import Batch, TrainingBatches, to_float
from kdq.distill import losses
from kdq.distill.keys import Distilling
from kdq.distill.method import Outputs
from kdq.distill.methods import crd
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages
from kdq.train import checkpoint as checkpoints
from kdq.train.stage import save
from kdq.train.task import Classification
from tests.distill.samples import killed_at

LABELS = torch.tensor([0, 1, 2, 0, 1, 0, 2, 2, 0, 1, 1, 0])  # 5, 4 and 3 images of a class
HEADER = {"recipe": "teacher/crd", "dataset": "digits", "seed": 0, "keys": {}, "provenance": {}}


def densities(seed: int, rows=5, count=7):
    generator = torch.Generator().manual_seed(seed)
    values = 4 * torch.randn(rows, count + 1, generator=generator, dtype=torch.float64) - 3
    return values[:, 0], values[:, 1:]


class TestNCE:
    @given(st.integers(0, 10**6), st.floats(1e-3, 3))
    def test_is_the_formula(self, seed, noise):
        positive, negatives = densities(seed)
        expected = 0.0
        for row in range(len(positive)):
            model = math.exp(positive[row])
            expected -= math.log(model / (model + noise))
            for log_density in negatives[row].tolist():
                expected -= math.log(noise / (math.exp(log_density) + noise))
        assert losses.nce(positive, negatives, noise).item() == pytest.approx(expected / len(positive), rel=1e-9)

    def test_by_hand(self):
        """P+ = 3/4 and two P- of 1/4 against a noise of 1/4: -log 3/4 - 2 log 1/2 = log 16/3."""
        quarter = torch.tensor(0.25, dtype=torch.float64).log()
        loss = losses.nce((3 * quarter.exp()).log().view(1), quarter.expand(1, 2), 0.25)
        assert loss.item() == pytest.approx(math.log(16 / 3), rel=1e-12)

    @given(st.integers(1, 20), st.floats(1e-3, 3))
    def test_nothing_learnt_is_a_coin_a_pair(self, count, noise):
        level = torch.tensor(noise, dtype=torch.float64).log()
        loss = losses.nce(level.expand(3), level.expand(3, count), noise)
        assert loss.item() == pytest.approx((1 + count) * math.log(2))

    @given(st.integers(0, 10**6), st.floats(1e-3, 3))
    def test_gradient_is_the_posterior_of_the_other_answer(self, seed, noise):
        positive, negatives = (scores.requires_grad_() for scores in densities(seed))
        of_positive, of_negatives = torch.autograd.grad(losses.nce(positive, negatives, noise), [positive, negatives])
        rows = len(positive)
        torch.testing.assert_close(of_positive, -noise / (positive.exp() + noise) / rows)
        torch.testing.assert_close(of_negatives, negatives.exp() / (negatives.exp() + noise) / rows)

    def test_an_impossible_negative_counts_nothing(self):
        positive, negatives = densities(0)
        masked = torch.cat([negatives, torch.full((5, 3), -math.inf, dtype=torch.float64)], 1).requires_grad_()
        loss = losses.nce(positive, masked, 0.3)
        torch.testing.assert_close(loss, losses.nce(positive, negatives, 0.3))
        (gradient,) = torch.autograd.grad(loss, masked)
        assert (gradient[:, 7:] == 0).all()

    @given(st.integers(0, 10**6))
    def test_mean_over_the_batch_sum_over_the_negatives(self, seed):
        positive, negatives = densities(seed)
        whole = losses.nce(positive, negatives, 0.3)
        torch.testing.assert_close(losses.nce(positive.repeat(3), negatives.repeat(3, 1), 0.3), whole)
        alone = losses.nce(positive, negatives[:, :0], 0.3)
        torch.testing.assert_close(losses.nce(positive, negatives.repeat(1, 2), 0.3) - alone, 2 * (whole - alone))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
    def test_finite_at_the_edge(self, dtype):
        edge = torch.tensor([1e4, -1e4, 0.0])
        for scale in (1, -1):
            positive, negatives = (
                (scale * edge).to(dtype).requires_grad_(),
                edge.expand(3, 3).to(dtype).requires_grad_(),
            )
            loss = losses.nce(positive, negatives, 0.3)
            loss.backward()
            assert loss.dtype == torch.float32 and loss.isfinite()
            assert positive.grad.isfinite().all() and negatives.grad.isfinite().all()


class TestNegatives:
    def draw(self, count, seed=0, own=LABELS[:4]):
        generator = torch.Generator().manual_seed(seed)
        return crd.draw_negatives(LABELS, own, count, 5, generator)

    @given(st.integers(1, 7), st.integers(0, 10**6))
    def test_so_many_different_ones_of_other_classes(self, count, seed):
        candidates, drawn = self.draw(count, seed)
        assert drawn.shape == (4, len(candidates)) and len(candidates) == count + 5
        for label, row in zip(LABELS[:4], drawn, strict=True):
            negatives = candidates[row]
            assert len(negatives) == len(set(negatives.tolist())) == count
            assert (LABELS[negatives] != label).all()

    def test_each_set_is_as_likely_as_another(self):
        """All sets of 2 of the 7 images of other classes, 21, in 4200 draws: 200 each, chi-square of 20 degrees."""
        counts: dict = {}
        generator = torch.Generator().manual_seed(0)
        for _ in range(4200):
            candidates, drawn = crd.draw_negatives(LABELS, LABELS[:1], 2, 5, generator)
            chosen = tuple(sorted(candidates[drawn[0]].tolist()))
            counts[chosen] = counts.get(chosen, 0) + 1
        assert len(counts) == 21
        assert sum((found - 200) ** 2 / 200 for found in counts.values()) < 45  # exceeded once in a thousand

    def test_the_generator_makes_the_draw(self):
        first, again, other = self.draw(3), self.draw(3), self.draw(3, seed=1)
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
        assert not torch.equal(first[0], other[0])


def outputs(seed: int, width: int, rows=4, classes=3) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator)
    return Outputs(logits, {"embedding": torch.randn(rows, width, generator=generator)})


def batch(indices, epoch=1) -> Batch:
    indices = torch.tensor(indices)
    return Batch(torch.zeros(len(indices), 1, 8, 8), LABELS[indices], indices, epoch)


@pytest.fixture
def method():
    """A method for twelve images, a student's embedding of 6 and a teacher's of 10."""

    def method(options=None, **keys) -> crd.CRD:
        torch.manual_seed(0)
        method = crd.CRD(crd.Parameters(**{"dimensions": 8, "negatives": 3, **keys}), options)
        method.build(outputs(0, 6, rows=2), outputs(1, 10, rows=2), LABELS)
        return method

    return method


class TestMethod:
    def test_steps_are_the_published_formula_image_by_image(self, method):
        """Three steps against a restatement in loops: densities exp(cosine / T) / Z, and banks that follow."""
        method = method(temperature=0.2, bank_momentum=0.3, weight=0.5)
        student_bank, teacher_bank = method.student_bank.clone(), method.teacher_bank.clone()
        partitions = None
        for step, indices in enumerate(([0, 1, 2, 3], [4, 5, 6, 7], [3, 8, 1, 10])):
            student, teacher = outputs(2 * step, 6), outputs(2 * step + 1, 10)
            embedded = [
                F.normalize(embedder(side.features["embedding"]), dim=1)
                for embedder, side in ((method.student_embedder, student), (method.teacher_embedder, teacher))
            ]
            generator = torch.Generator()
            generator.set_state(method._generator.get_state())
            candidates, drawn = crd.draw_negatives(LABELS, LABELS[indices], 3, 5, generator)
            found = method.losses(batch(indices), student, teacher)

            scores = []  # of each direction: for each image its own pair, then those with negatives
            for embedding, bank in zip(embedded, (teacher_bank, student_bank), strict=True):
                rows = []
                for row, index in enumerate(indices):
                    partners = [index, *candidates[drawn[row]].tolist()]
                    rows.append([math.exp(embedding[row].detach() @ bank[partner] / 0.2) for partner in partners])
                scores.append(torch.tensor(rows, dtype=torch.float64))
            if partitions is None:
                partitions = [direction.mean() * len(LABELS) for direction in scores]
            noise, expected = 3 / len(LABELS), 0.0
            for direction, partition in zip(scores, partitions, strict=True):
                model = direction / partition
                right = torch.cat([(model / (model + noise))[:, :1], (noise / (model + noise))[:, 1:]], 1)
                expected -= right.log().sum(1).mean().item()
            assert found["contrast"].item() == pytest.approx(0.5 * expected, rel=1e-5)

            for embedding, bank in zip(embedded, (student_bank, teacher_bank), strict=True):
                for row, index in enumerate(indices):
                    moved = 0.3 * bank[index] + 0.7 * embedding[row].detach()
                    bank[index] = moved / moved.norm()
            torch.testing.assert_close(method.student_bank, student_bank)
            torch.testing.assert_close(method.teacher_bank, teacher_bank)

    def test_weights_its_terms(self, method):
        student, teacher = outputs(0, 6), outputs(1, 10)
        terms = method(label_weight=0.7, kd_weight=0.5, kd_temperature=2.0).losses(
            batch([0, 1, 2, 3]), student, teacher
        )
        torch.testing.assert_close(terms["cross_entropy"], 0.7 * F.cross_entropy(student.logits, LABELS[:4]))
        torch.testing.assert_close(terms["distillation"], 0.5 * losses.kd(student.logits, teacher.logits, 2.0))
        without = method(label_weight=0.7).losses(batch([0, 1, 2, 3]), student, teacher)
        assert list(without) == ["cross_entropy", "contrast"]
        torch.testing.assert_close(without["contrast"], terms["contrast"])
        doubled = method(weight=1.6).losses(batch([0, 1, 2, 3]), student, teacher)
        torch.testing.assert_close(doubled["contrast"], 2 * terms["contrast"])

    def test_smooths_labels(self, method):
        student = outputs(0, 6)
        smoothed = method(Distilling(label_smoothing=0.1)).losses(batch([0, 1, 2, 3]), student, outputs(1, 10))
        expected = F.cross_entropy(student.logits, LABELS[:4], label_smoothing=0.1)
        torch.testing.assert_close(smoothed["cross_entropy"], expected)

    @pytest.mark.parametrize("negatives", [7, 8, 16384])
    def test_no_more_negatives_than_every_image_has(self, method, negatives):
        """The largest class has five of twelve images."""
        assert method(negatives=negatives).count == 7

    def test_computes_in_float32_under_autocast(self, method):
        student, teacher = outputs(0, 6), outputs(1, 10)
        plain = method().losses(batch([0, 1, 2, 3]), student, teacher)["contrast"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under = method().losses(batch([0, 1, 2, 3]), student, teacher)["contrast"]
        assert torch.equal(under, plain)

    def test_one_class_has_no_negatives(self):
        method = crd.CRD(crd.Parameters())
        with pytest.raises(UserError, match="crd: found training images of 1 class, expected at least 2"):
            method.build(outputs(0, 6, rows=2), outputs(1, 10, rows=2), torch.zeros(5, dtype=torch.int64))

    def test_refuses_mixup(self):
        grammar = Grammar(find_stages(Path(kdq.__file__).parent), {"teacher": {}, "student": {}}, {})
        with pytest.raises(UserError, match="mixup: found .*: CRD compares"):
            grammar.parse("teacher/crd,mixup=1")


@pytest.fixture
def make(few, build):
    """A student that learns from a teacher by the method, and the batches to train it on."""

    def make(teacher=None, **keys) -> tuple[Distillation, TrainingBatches]:
        teacher, student = teacher or build(seed=1, width=0.125), build()
        method = crd.CRD(crd.Parameters(**{"dimensions": 16, "negatives": 50, **keys}))
        task = Distillation(student, Teacher(teacher), method, to_float(few.train.images[:2]), few.train.labels, seed=0)
        augmented = {"batch_size": 32, "crop": 0, "flip": False, "cutout": 0, "fill": few.mean}
        return task, TrainingBatches(few.train.images, few.train.labels, **augmented)

    return make


@pytest.fixture(scope="module")
def taught(digits, build):
    """A teacher that knows the digits: the embeddings of one that knows nothing tell no images apart."""
    teacher = build(seed=1, width=0.125)
    augmented = {"batch_size": 64, "crop": 1, "flip": False, "cutout": 0, "fill": digits.mean}
    batches = TrainingBatches(digits.train.images, digits.train.labels, **augmented)
    train(Classification(teacher), batches, epochs=6, learning_rate=0.1)
    return teacher


def train(task, batches, epochs=1, learning_rate=0.05, seed=0) -> list[dict]:
    optimizer = torch.optim.SGD(task.parameters(), lr=learning_rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    history = []
    task.train()
    for epoch in range(1, epochs + 1):
        for each in batches.epoch(epoch, generator):
            terms = task(each).terms
            optimizer.zero_grad()
            sum(terms.values()).backward()
            optimizer.step()
        history.append({name: term.item() for name, term in terms.items()})
    return history


class TestTraining:
    def test_both_embedders_learn_and_the_teacher_does_not(self, make):
        task, batches = make()
        for parameter in task.teacher.network.parameters():
            parameter.requires_grad_(True)  # even then
        teacher = copy.deepcopy(task.teacher.network.state_dict())
        sum(task(next(batches.epoch(1, torch.Generator()))).terms.values()).backward()
        assert all(parameter.grad is None for parameter in task.teacher.network.parameters())
        assert all(parameter.grad.abs().sum() > 0 for parameter in task.method.parameters())
        assert all(parameter.grad is not None for parameter in task.network.parameters())
        train(task, batches)
        assert all(torch.equal(value, teacher[key]) for key, value in task.teacher.network.state_dict().items())

    def test_banks_are_in_the_checkpoint_but_neither_trained_nor_saved(self, make):
        task, _ = make()
        banks = {"student_bank", "teacher_bank"}
        assert banks < set(task.method.state_dict()) and not banks & set(dict(task.method.named_parameters()))
        assert {name.split(".")[0] for name, _ in task.method.named_parameters()} == {
            "student_embedder",
            "teacher_embedder",
        }
        assert not any("bank" in key or "embedder" in key for key in task.network.state_dict())
        assert not any(bank.requires_grad for bank in task.method.buffers())

    def test_the_checkpoint_continues_negatives_banks_and_partition(self, make):
        (task, batches), (other, _) = make(), make()
        train(task, batches)
        other.load_state_dict(task.state_dict())
        assert train(task, batches, seed=1) == train(other, batches, seed=1)
        assert torch.equal(task.method.student_bank, other.method.student_bank)

    def test_an_image_finds_itself_among_the_teachers(self, make, taught, few):
        """With no labels at all, the student's embedding of an image comes close to the teacher's of that image."""
        task, batches = make(taught, label_weight=0.0)
        history = train(task, batches, epochs=12)
        assert history[-1]["contrast"] < 0.6 * history[0]["contrast"]
        task.eval()
        with torch.no_grad():
            _, features = task.network(to_float(few.train.images), taps=("embedding",))
            embedding = F.normalize(task.method.student_embedder(features["embedding"]), dim=1)
        cosines = embedding @ task.method.teacher_bank.T
        others = few.train.labels[:, None] != few.train.labels
        closer = (others & (cosines > cosines.diag()[:, None])).sum() / others.sum()
        assert closer < 0.1  # by chance one half


class TestStage:
    @pytest.fixture
    def run(self, few, build, training_keys, tmp_path):
        def run(name, log=print, **changes) -> bytes:
            own = crd.Parameters(dimensions=16, negatives=40, kd_weight=0.5).model_dump()
            keys = training_keys(**{"epochs": 4, "averaging": 0.8, "learning_rate": 0.05, **changes})
            folder = tmp_path / name
            places = {"checkpoint": folder / "checkpoint.pt", "identity": "run", "log": log}
            trained = distill(
                few, build(seed=1), "kdq.distill.methods.crd", {**own, **keys}, seed=0, threads=1, **places
            )
            save(folder / "model.safetensors", folder / "history.csv", trained, **HEADER)
            return (folder / "model.safetensors").read_bytes()

        return run

    def test_killed_in_an_epoch_and_started_again_the_same_bytes(self, run, tmp_path):
        whole = run("whole")
        with killed_at(13):  # five steps an epoch
            run("killed")
        assert checkpoints.load(tmp_path / "killed/checkpoint.pt", "run", print)["epoch"] == 2
        torch.manual_seed(99)  # another process
        lines = []
        assert run("killed", log=lines.append) == whole
        assert any("going on after epoch 2" in line for line in lines)

    def test_digits_are_learnt(self, few, taught, training_keys, tmp_path):
        keys = training_keys(epochs=12, width=0.125, schedule="onecycle", learning_rate=0.05)
        places = {"checkpoint": tmp_path / "checkpoint.pt", "identity": "run", "log": print}
        own = crd.Parameters().model_dump()
        trained = distill(few, taught, "kdq.distill.methods.crd", {**own, **keys}, seed=0, threads=1, **places)
        first, last = trained.history[0], trained.history[-1]
        assert last["loss_cross_entropy"] < 0.8 * first["loss_cross_entropy"]
        assert last["loss_contrast"] < first["loss_contrast"]
        assert last["validation_accuracy"] > 0.3
