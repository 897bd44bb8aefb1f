"""Knowledge review: the context loss, the fusions, and a student that learns from them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kdq.data.batches import Batch
from kdq.distill import losses
from kdq.distill.keys import Distilling
from kdq.distill.method import Outputs
from kdq.distill.methods import reviewkd
from kdq.distill.stage import distill
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.models.networks import resnet
from kdq.train import checkpoint as checkpoints
from tests.distill.samples import killed_at

LABELS = torch.arange(20) % 10
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def maps(seed: int, *shapes, dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


class TestContextLoss:
    def test_published_value_and_gradients(self, golden):
        student = [golden[f"adapted_feature_{i}"].clone().requires_grad_() for i in range(3)]
        teacher = [golden[f"teacher_feature_{i}"][:, : student[i].shape[1]] for i in range(3)]
        loss = losses.hcl(student, teacher)
        torch.testing.assert_close(loss, golden["hcl"].squeeze(), rtol=1e-9, atol=1e-9)
        gradient = torch.autograd.grad(loss, student[0])[0]
        torch.testing.assert_close(gradient, golden["hcl_grad"], rtol=1e-9, atol=1e-9)

    @given(st.integers(0, 10**6), SIZES)
    def test_is_the_formula_on_any_map(self, seed, size):
        """Also where windows overlap, and on maps that are not square."""
        student, teacher = maps(seed, (2, 3, *size), (2, 3, *size))
        expected, weight, total = F.mse_loss(student, teacher), 1.0, 1.0
        for level in (4, 2, 1):
            if level < min(size):
                weight, total = weight / 2, total + weight / 2
                pooled = (F.adaptive_avg_pool2d(side, level) for side in (student, teacher))
                expected = expected + weight * F.mse_loss(*pooled)
        torch.testing.assert_close(losses.hcl([student], [teacher]), expected / total)

    @given(st.integers(0, 10**6), SIZES)
    def test_nothing_where_the_features_agree(self, seed, size):
        (feature,) = maps(seed, (2, 3, *size))
        student = feature.clone().requires_grad_()
        loss = losses.hcl([student], [feature])
        assert loss == 0 and (torch.autograd.grad(loss, student)[0] == 0).all()

    @given(st.floats(-5, 5), SIZES)
    def test_a_constant_offset_is_seen_at_every_level(self, offset, size):
        teacher = maps(0, (2, 3, *size), (2, 5, 4, 4))
        loss = losses.hcl([feature + offset for feature in teacher], teacher)
        assert loss.item() == pytest.approx(2 * offset**2, abs=1e-12)

    def test_a_pattern_finer_than_every_grid_is_seen_by_the_whole_map_alone(self):
        """A chessboard of +-1 on 8 x 8, of which each window's mean is 0: 1 of the weights 1 + 1/2 + 1/4 + 1/8."""
        board = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8))
        assert losses.hcl([board.expand(2, 3, 8, 8)], [torch.zeros(2, 3, 8, 8)]).item() == pytest.approx(8 / 15)

    @given(st.integers(0, 10**6), st.floats(0.1, 10))
    def test_quadratic_and_blind_to_the_order_of_images_and_channels(self, seed, scale):
        shapes = (4, 3, 6, 6), (4, 5, 1, 1)
        student, teacher = maps(seed, *shapes), maps(seed + 1, *shapes)
        loss = losses.hcl(student, teacher)
        scaled = losses.hcl([scale * one for one in student], [scale * one for one in teacher])
        torch.testing.assert_close(scaled, scale**2 * loss)
        torch.testing.assert_close(
            losses.hcl([one.flip(0, 1) for one in student], [one.flip(0, 1) for one in teacher]), loss
        )

    def test_a_pair_is_not_left_out(self):
        with pytest.raises(ValueError):
            losses.hcl(maps(0, (2, 3, 4, 4)), maps(0, (2, 3, 4, 4), (2, 3, 2, 2)))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_half_precision_is_widened(self, dtype):
        """Also at 60,000, whose square is out of reach of half precision."""
        large = torch.full((2, 3, 5, 5), 6e4).to(dtype).requires_grad_()
        loss = losses.hcl([large], [-large.detach()])
        (gradient,) = torch.autograd.grad(loss, large)
        assert loss.dtype == torch.float32 and loss.isfinite() and gradient.isfinite().all()
        half = [feature.to(dtype) for feature in maps(0, (2, 3, 5, 5), (2, 3, 5, 5))]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under = losses.hcl(half[:1], half[1:])
        assert torch.equal(under, losses.hcl([half[0].float()], [half[1].float()]))


class TestFusion:
    def test_is_the_formula(self):
        """Narrowed, weighted against the residual above at each place, brought to the teacher's size, widened."""
        torch.manual_seed(0)
        fusion = reviewkd.Fusion(3, 4, 6, fuses=True).double()
        feature, above = maps(0, (2, 3, 4, 4), (2, 4, 2, 2))
        output, residual = fusion(feature, above, torch.Size((8, 8)))
        narrowed = F.conv2d(feature, fusion.narrow[0].weight)
        mean, variance = narrowed.mean((0, 2, 3), keepdim=True), narrowed.var((0, 2, 3), unbiased=False, keepdim=True)
        narrowed = (narrowed - mean) / (variance + 1e-5).sqrt()
        expected = torch.empty_like(narrowed)
        weight, bias = fusion.attention.weight[:, :, 0, 0], fusion.attention.bias
        for row in range(4):
            for column in range(4):
                own, other = narrowed[:, :, row, column], above[:, :, row // 2, column // 2]
                attention = (torch.cat([own, other], 1) @ weight.T + bias).sigmoid()
                expected[:, :, row, column] = own * attention[:, :1] + other * attention[:, 1:]
        expected = expected.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(residual, expected)
        torch.testing.assert_close(output, fusion.widen(residual))
        assert output.shape == (2, 6, 8, 8)

    def test_the_top_has_nothing_to_fuse(self):
        fusion = reviewkd.Fusion(3, 4, 6, fuses=False)
        (feature,) = maps(0, (2, 3, 1, 1), dtype=torch.float32)
        output, residual = fusion(feature, None, torch.Size((1, 1)))
        assert fusion.attention is None
        assert torch.equal(residual, fusion.narrow(feature)) and output.shape == (2, 6, 1, 1)


def batch(epoch=1, rows=8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.rand(rows, 1, 8, 8, generator=generator), LABELS[:rows], torch.arange(rows), epoch)


def both_maps(task, images) -> list[list[torch.Tensor]]:
    """The student's maps after a stage's last activation, the teacher's before it, and both embeddings, of a task."""
    layers = ("layer1", "layer2", "layer3", "layer4")
    both = []
    for network, maps in ((task.network, layers), (task.teacher.network, [f"{name}.preactivation" for name in layers])):
        features = network(images, taps=(*maps, "embedding"))[1]
        both.append([features[tap] for tap in maps] + [features["embedding"][:, :, None, None]])
    return both


@pytest.fixture
def make(build):
    """A student of one eighth width that learns from a teacher by the method."""

    def make(options=None, teacher=None, size=8, epochs=40, **keys) -> Distillation:
        teacher = teacher or build("resnet50", seed=1)
        method = reviewkd.ReviewKD(reviewkd.Parameters(**{"warmup": 0.0, **keys}), options, epochs)
        return Distillation(build(), Teacher(teacher), method, torch.rand(2, 1, size, size), LABELS, seed=0)

    return make


class TestMethod:
    def test_widths_are_those_of_the_features(self):
        """ResNet-18 from ResNet-50 as published: 64 to 512 against 256 to 2048, 512 in the middle."""
        arguments = {"classes": 10, "channels": 3, "stem": "cifar", "width": 1.0, "mean": [0.5] * 3, "std": [0.2] * 3}
        method = reviewkd.ReviewKD(reviewkd.Parameters())
        networks = [resnet.build(architecture, **arguments).eval() for architecture in ("resnet18", "resnet50")]
        with torch.no_grad():
            sides = [
                Outputs.of(network, torch.rand(2, 3, 8, 8), taps)
                for network, taps in zip(networks, method.taps(*networks), strict=True)
            ]
        method.build(*sides, LABELS)
        narrow = [tuple(fusion.narrow[0].weight.shape[:2]) for fusion in method.fusions]
        widen = [tuple(fusion.widen[0].weight.shape[:2]) for fusion in method.fusions]
        assert narrow == [(512, 64), (512, 128), (512, 256), (512, 512), (512, 512)]
        assert widen == [(256, 512), (512, 512), (1024, 512), (2048, 512), (2048, 512)]
        assert [fusion.attention is not None for fusion in method.fusions] == [True] * 4 + [False]

    def test_no_middle_wider_than_512(self):
        def outputs(width):
            maps = {f"layer{index}": torch.zeros(2, width, 1, 1) for index in range(1, 5)}
            return Outputs(torch.zeros(2, 10), {**maps, "embedding": torch.zeros(2, width)})

        method = reviewkd.ReviewKD(reviewkd.Parameters())
        method.build(outputs(600), outputs(700), LABELS)
        assert {fusion.narrow[0].out_channels for fusion in method.fusions} == {512}

    @pytest.mark.parametrize(("of_student", "of_teacher"), [("cifar", "imagenet"), ("imagenet", "cifar")])
    def test_maps_take_the_teachers_shape(self, build, of_student, of_teacher):
        student, teacher = build(stem=of_student), build("resnet50", seed=1, stem=of_teacher)
        method = reviewkd.ReviewKD(reviewkd.Parameters())
        images = torch.rand(4, 1, 32, 24)
        task = Distillation(student, Teacher(teacher), method, images[:2], LABELS, seed=0)
        sides = both_maps(task, images)
        shapes = [feature.shape for feature in sides[1]]
        assert [feature.shape for feature in method.review(*sides)] == shapes
        assert shapes[-1] == (4, 128, 1, 1) and sides[0][0].shape[2:] != shapes[0][2:]

    @pytest.mark.parametrize(("warmup", "epoch", "growth"), [(0.5, 5, 0.25), (0.5, 40, 1), (0.0, 1, 1), (0.025, 1, 1)])
    def test_grows_in_its_share_of_40_epochs_and_weights_its_terms(self, make, warmup, epoch, growth):
        task = make(warmup=warmup, weight=5.0, label_weight=0.7)
        terms = task(batch(epoch)).terms
        student = Outputs.of(task.network, batch().images)
        maps, targets = both_maps(task, batch().images)
        whole = losses.hcl(task.method.review(maps, targets), targets)
        torch.testing.assert_close(terms["review"], growth * 5.0 * whole)
        torch.testing.assert_close(terms["cross_entropy"], 0.7 * F.cross_entropy(student.logits, batch().labels))

    def test_gradient_reaches_student_and_fusions_but_not_the_teacher(self, make):
        task = make(label_weight=0.0)
        for parameter in task.teacher.network.parameters():
            parameter.requires_grad_(True)  # even then
        teacher = copy.deepcopy(task.teacher.network.state_dict())
        task.train()
        sum(task(batch()).terms.values()).backward()
        assert all(parameter.grad is None for parameter in task.teacher.network.parameters())
        assert all(torch.equal(value, teacher[key]) for key, value in task.teacher.network.state_dict().items())
        assert all(parameter.grad.abs().sum() > 0 for parameter in task.method.parameters())
        assert task.network.conv1.weight.grad.abs().sum() > 0
        assert not any("fusions" in key for key in task.network.state_dict())

    def test_mixes_images_and_smooths_labels(self, make):
        """Options that it can do with: the features of mixed images are compared as any others."""
        task = make(Distilling(mixup=1.0, label_smoothing=0.1))
        terms = task(batch()).terms
        assert all(term.isfinite() for term in terms.values())
        assert terms["review"] != make()(batch()).terms["review"]

    def test_terms_are_float32_under_autocast(self, make):
        task = make()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step = task(batch())
        assert all(term.dtype == torch.float32 and term.dim() == 0 for term in step.terms.values())


class TestStage:
    @pytest.fixture
    def run(self, few, build, training_keys, tmp_path):
        def run(name, **changes):
            own = reviewkd.Parameters(warmup=0.0).model_dump()
            keys = {**own, **training_keys(**{"learning_rate": 0.05, **changes})}
            places = {"checkpoint": tmp_path / name, "identity": "run", "log": print}
            return distill(few, build(seed=1), "kdq.distill.methods.reviewkd", keys, seed=0, threads=1, **places)

        return run

    def test_killed_in_an_epoch_and_started_again_the_same_weights(self, run, tmp_path):
        whole = run("whole").network.state_dict()
        with killed_at(8):  # five steps an epoch
            run("killed")
        assert checkpoints.load(tmp_path / "killed", "run", print)["epoch"] == 1
        torch.manual_seed(99)  # another process
        assert all(torch.equal(value, whole[key]) for key, value in run("killed").network.state_dict().items())

    def test_digits_are_learnt(self, run):
        history = run("run", epochs=12, width=0.125, schedule="onecycle").history
        assert history[-1]["loss_review"] < 0.5 * history[0]["loss_review"]
        assert history[-1]["loss_cross_entropy"] < 0.8 * history[0]["loss_cross_entropy"]
        assert history[-1]["validation_accuracy"] > 0.3
