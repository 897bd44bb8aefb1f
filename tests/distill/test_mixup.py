"""Function matching on mixed images."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdq.data.batches import Batch
from kdq.distill.image_mixing import mix
from kdq.distill.keys import Distilling
from kdq.distill.method import Method, Outputs
from kdq.distill.methods import kd, mixup
from kdq.distill.task import Distillation
from kdq.distill.teacher import Teacher
from kdq.recipe.vocabulary import Base

CLASSES = 10


class Spy(nn.Module):
    """A linear network that keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, CLASSES)
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return self.linear(images.flatten(1))


def batch(seed=0, rows=8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(rows, 1, 8, 8, generator=generator)
    return Batch(images, torch.randint(0, CLASSES, (rows,), generator=generator), torch.arange(rows), 1)


def method(**keys) -> mixup.Mixup:
    return mixup.Mixup(mixup.Parameters(**keys))


def outputs(seed, rows=8, scale=2.0) -> Outputs:
    return Outputs(scale * torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(seed)))


class TestView:
    def test_both_networks_see_the_very_same_tensor(self):
        plain = batch()
        task = Distillation(Spy(), Teacher(Spy()), method(), plain.images[:2], plain.labels, seed=0)
        student, teacher = task.network, task.teacher.network
        student.seen.clear()
        teacher.seen.clear()
        task(plain)
        assert len(student.seen) == len(teacher.seen) == 1
        assert student.seen[0] is teacher.seen[0]
        assert not torch.equal(student.seen[0], plain.images)

    def test_the_seed_makes_the_view(self):
        plain, views = batch(), []
        for seed in (0, 0, 1):
            views.append(method().view(plain, torch.Generator().manual_seed(seed)))
        assert torch.equal(views[0].images, views[1].images) and views[0].mixing == views[1].mixing
        assert views[0].mixing != views[2].mixing

    def test_the_view_touches_no_other_random_state(self):
        before = torch.get_rng_state()
        method().view(batch(), torch.Generator().manual_seed(0))
        assert torch.equal(torch.get_rng_state(), before)

    def test_images_and_labels_have_the_same_partner(self):
        plain = batch()
        view = method().view(plain, torch.Generator().manual_seed(0))
        for row in range(len(plain.labels)):
            mixed = view.mixing * plain.images[row] + (1 - view.mixing) * plain.images[row - 1]
            torch.testing.assert_close(view.images[row], mixed)
            assert view.partner_labels[row] == plain.labels[row - 1]
        assert torch.equal(view.labels, plain.labels)

    @given(st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 10.0]))
    def test_the_larger_part_keeps_its_label(self, seed, concentration):
        share = method(concentration=concentration).view(batch(), torch.Generator().manual_seed(seed)).mixing
        assert 0.5 <= share <= 1

    @pytest.mark.parametrize("concentration", [0.01, 1.0, 100.0])
    def test_the_share_is_a_number_at_the_ends_of_the_range(self, concentration):
        generator = torch.Generator().manual_seed(0)
        for _ in range(50):
            view = method(concentration=concentration).view(batch(rows=2), generator)
            assert 0.5 <= view.mixing <= 1 and view.images.isfinite().all()

    def test_the_share_is_beta_distributed(self):
        """At concentration 1, the larger share is uniform on [1/2, 1]: its mean is 3/4."""
        generator = torch.Generator().manual_seed(0)
        shares = [method().view(batch(rows=2), generator).mixing for _ in range(2000)]
        assert math.isclose(sum(shares) / len(shares), 0.75, abs_tol=4 * 0.25 / math.sqrt(3 * 2000))

    def test_a_whole_share_is_the_plain_image(self):
        images = batch().images
        assert torch.equal(mix(images, 1.0), images)
        assert torch.equal(mix(images, 0.0), images.roll(1, 0))


class TestLosses:
    @given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([0.0, 0.1]))
    def test_mixed_labels_are_soft_targets(self, seed, share, smoothing):
        z = outputs(seed).logits.double()
        mixed = batch(seed).with_images(None, partner_labels=batch(seed + 1).labels, mixing=share)
        soft = share * F.one_hot(mixed.labels, CLASSES) + (1 - share) * F.one_hot(mixed.partner_labels, CLASSES)
        smooth = (1 - smoothing) * soft.double() + smoothing / CLASSES
        found = Method(Base(), Distilling(label_smoothing=smoothing)).label_loss(mixed, Outputs(z))
        torch.testing.assert_close(found, F.cross_entropy(z, smooth))

    def test_without_labels_only_the_teacher_speaks(self):
        view = method().view(batch(), torch.Generator())
        assert list(method().losses(view, outputs(0), outputs(1))) == ["distillation"]

    def test_mixed_labels_are_weighted(self):
        view = method().view(batch(), torch.Generator().manual_seed(0))
        terms = method(labels="mixed", label_weight=0.25).losses(view, outputs(0), outputs(1))
        expected = 0.25 * Method(Base()).label_loss(view, outputs(0))
        assert list(terms) == ["distillation", "cross_entropy"]
        torch.testing.assert_close(terms["cross_entropy"], expected)

    @pytest.mark.parametrize("temperature", [1.0, 4.0])
    def test_the_match_is_that_of_plain_distillation(self, temperature):
        view = method().view(batch(), torch.Generator().manual_seed(0))
        keys = {"temperature": temperature, "distillation_weight": 0.5}
        terms = method(**keys).losses(view, outputs(0), outputs(1))
        expected = 0.5 * kd.kd(outputs(0).logits, outputs(1).logits, temperature)
        torch.testing.assert_close(terms["distillation"], expected)

    def test_finite_at_the_edge_of_half_precision(self):
        certain = 1e4 * F.one_hot(batch().labels, CLASSES).to(torch.bfloat16)
        view = method().view(batch(), torch.Generator().manual_seed(0))
        for sign in (1, -1):
            student = (sign * certain).clone().requires_grad_()
            terms = method(labels="mixed").losses(view, Outputs(student), Outputs(certain))
            sum(terms.values()).backward()
            assert all(term.isfinite() for term in terms.values()) and student.grad.isfinite().all()
