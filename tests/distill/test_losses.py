"""The losses of distillation: laws, the published implementations' values, and numbers at the edge."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from kdq.distill import losses
from kdq.distill.divergence import kl, soft_cross_entropy
from kdq.distill.methods.dkd import dkd_terms

TEMPERATURES = st.floats(0.5, 20)


def logits(seed: int, rows: int = 6, classes: int = 5, scale: float = 3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)


def labels(seed: int, rows: int = 6, classes: int = 5):
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def gradient(loss, student):
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student), student)[0]


class TestPublishedValues:
    CASES = {
        "kd_T1": lambda s, t, y: losses.kd(s, t, 1),
        "kd_T4": lambda s, t, y: losses.kd(s, t, 4),
        "dkd_alpha1_beta8_T4": lambda s, t, y: losses.dkd(s, t, y, 1, 8, 4),
        "dkd_alpha2_beta10_T4": lambda s, t, y: losses.dkd(s, t, y, 2, 10, 4),
        "dkd_alpha0.5_beta4_T1": lambda s, t, y: losses.dkd(s, t, y, 0.5, 4, 1),
    }

    @pytest.mark.parametrize("name", CASES)
    def test_value_and_gradient(self, golden, name):
        student, teacher, target = golden["student_logits"], golden["teacher_logits"], golden["labels"]

        def loss(student):
            return self.CASES[name](student, teacher, target)

        torch.testing.assert_close(loss(student), golden[name].squeeze(), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradient(loss, student), golden[f"{name}_grad"], rtol=1e-9, atol=1e-9)


class TestSignatures:
    def test_names_of_the_arguments_stay(self):
        assert list(inspect.signature(losses.kd).parameters) == ["student_logits", "teacher_logits", "temperature"]
        assert list(inspect.signature(losses.dkd).parameters) == [
            *("student_logits", "teacher_logits", "labels", "alpha", "beta", "temperature")
        ]


class TestLaws:
    @given(st.integers(0, 10**6), TEMPERATURES)
    def test_equal_logits_cost_nothing(self, seed, temperature):
        z, y = logits(seed), labels(seed)
        assert losses.kd(z, z, temperature).abs() < 1e-12
        assert losses.dkd(z, z, y, 1, 8, temperature).abs() < 1e-12
        assert gradient(lambda s: losses.kd(s, z, temperature), z).abs().max() < 1e-12

    @given(st.integers(0, 10**6), TEMPERATURES)
    def test_never_negative(self, seed, temperature):
        s, t, y = logits(seed), logits(seed + 1), labels(seed)
        assert kl(s, t, temperature).min() > 0
        tckd, nckd = dkd_terms(s, t, y, temperature)
        assert tckd.min() >= 0 and nckd.min() >= 0

    @given(st.integers(0, 10**6), TEMPERATURES)
    def test_soft_labels_less_the_teachers_entropy_are_the_divergence(self, seed, temperature):
        s, t = logits(seed), logits(seed + 1)
        entropy = torch.distributions.Categorical(logits=t / temperature).entropy()
        torch.testing.assert_close(soft_cross_entropy(s, t, temperature) - entropy, kl(s, t, temperature))
        difference = losses.kd_soft_labels(s, t, temperature) - temperature**2 * entropy.mean()
        torch.testing.assert_close(difference, losses.kd(s, t, temperature), rtol=1e-9, atol=1e-9)

    @given(st.integers(0, 10**6), TEMPERATURES)
    def test_both_forms_have_one_gradient(self, seed, temperature):
        s, t = logits(seed), logits(seed + 1)
        divergence = gradient(lambda s: losses.kd(s, t, temperature), s)
        torch.testing.assert_close(gradient(lambda s: losses.kd_soft_labels(s, t, temperature), s), divergence)
        closed_form = temperature * ((s / temperature).softmax(1) - (t / temperature).softmax(1)) / len(s)
        torch.testing.assert_close(divergence, closed_form)

    @given(st.integers(0, 10**6), TEMPERATURES)
    def test_divergence_is_the_targets_part_and_the_others(self, seed, temperature):
        s, t, y = logits(seed), logits(seed + 1), labels(seed)
        tckd, nckd = dkd_terms(s, t, y, temperature)
        of_label = (t / temperature).softmax(1).gather(1, y[:, None]).squeeze(1)
        torch.testing.assert_close(tckd + (1 - of_label) * nckd, kl(s, t, temperature))

    @given(st.integers(0, 10**6), st.integers(2, 4))
    def test_mean_over_the_batch(self, seed, times):
        s, t, y = logits(seed), logits(seed + 1), labels(seed)
        ss, tt, yy = s.repeat(times, 1), t.repeat(times, 1), y.repeat(times)
        torch.testing.assert_close(losses.kd(ss, tt, 4), losses.kd(s, t, 4))
        torch.testing.assert_close(losses.kd_soft_labels(ss, tt, 4), losses.kd_soft_labels(s, t, 4))
        torch.testing.assert_close(losses.dkd(ss, tt, yy, 1, 8, 4), losses.dkd(s, t, y, 1, 8, 4))

    @given(st.integers(0, 10**6))
    def test_order_of_the_batch_does_not_matter(self, seed):
        s, t, y = logits(seed), logits(seed + 1), labels(seed)
        turned = torch.arange(5, -1, -1)
        torch.testing.assert_close(losses.kd(s[turned], t[turned], 4), losses.kd(s, t, 4))
        torch.testing.assert_close(losses.dkd(s[turned], t[turned], y[turned], 1, 8, 4), losses.dkd(s, t, y, 1, 8, 4))

    def test_a_class_that_nobody_believes_in_changes_nothing(self):
        """So the sum runs over classes: a mean over them would shrink."""
        s, t, y = logits(0), logits(1), labels(0)
        never = torch.full((6, 1), -1e6, dtype=torch.float64)
        wider, wider_teacher = torch.cat([s, never], 1), torch.cat([t, never], 1)
        torch.testing.assert_close(losses.kd(wider, wider_teacher, 4), losses.kd(s, t, 4))
        torch.testing.assert_close(losses.kd_soft_labels(wider, wider_teacher, 4), losses.kd_soft_labels(s, t, 4))
        torch.testing.assert_close(losses.dkd(wider, wider_teacher, y, 1, 8, 4), losses.dkd(s, t, y, 1, 8, 4))

    @given(st.integers(0, 10**6), st.floats(-50, 50))
    def test_a_shift_of_the_logits_changes_nothing(self, seed, shift):
        s, t, y = logits(seed), logits(seed + 1), labels(seed)
        torch.testing.assert_close(losses.kd(s + shift, t - 2 * shift, 4), losses.kd(s, t, 4))
        torch.testing.assert_close(losses.dkd(s + shift, t - shift, y, 1, 8, 4), losses.dkd(s, t, y, 1, 8, 4))

    @given(st.integers(0, 10**6), TEMPERATURES)
    def test_temperature_scales_logits_and_loss(self, seed, temperature):
        s, t, y = logits(seed), logits(seed + 1), labels(seed)
        scaled = s * temperature, t * temperature
        torch.testing.assert_close(losses.kd(*scaled, temperature), temperature**2 * losses.kd(s, t, 1))
        torch.testing.assert_close(
            losses.dkd(*scaled, y, 1, 8, temperature), temperature**2 * losses.dkd(s, t, y, 1, 8, 1)
        )

    def test_parts_are_weighted_apart(self):
        s, t, y = logits(0), logits(1), labels(0)
        parts = losses.dkd(s, t, y, 1, 0, 4), losses.dkd(s, t, y, 0, 1, 4)
        torch.testing.assert_close(losses.dkd(s, t, y, 2, 5, 4), 2 * parts[0] + 5 * parts[1])

    def test_others_ignore_the_label(self):
        """NCKD looks at the ratios among the other classes alone, TCKD at the label's share alone."""
        s, t, y = logits(0), logits(1), labels(0)
        raised = s + 7 * F.one_hot(y, 5)
        torch.testing.assert_close(dkd_terms(raised, t, y, 4)[1], dkd_terms(s, t, y, 4)[1])
        assert not torch.allclose(dkd_terms(raised, t, y, 4)[0], dkd_terms(s, t, y, 4)[0])


def extreme(name: str, dtype):
    """Logits (4, 10) at the edge of what a network gives."""
    plain = torch.zeros(4, 10)
    plain[torch.arange(4), torch.tensor([0, 3, 3, 9])] = 1
    values = {"one-hot": 1e4 * plain, "opposite": -1e4 * plain, "both": 1e4 * (2 * plain - 1), "zero": 0 * plain}
    return values[name].to(dtype)


class TestAtTheEdge:
    Y = torch.tensor([0, 3, 5, 9])
    NAMES = ("one-hot", "opposite", "both", "zero")
    LOSSES = {
        "kd": lambda s, t, y: losses.kd(s, t, 1),
        "kd_soft_labels": lambda s, t, y: losses.kd_soft_labels(s, t, 4),
        "dkd": lambda s, t, y: losses.dkd(s, t, y, 1, 8, 1),
        "dkd at 4": lambda s, t, y: losses.dkd(s, t, y, 2, 10, 4),
    }

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
    @pytest.mark.parametrize("name", LOSSES)
    def test_value_and_gradient_are_finite(self, name, dtype):
        for student in self.NAMES:
            for teacher in self.NAMES:
                s = extreme(student, dtype).requires_grad_()
                loss = self.LOSSES[name](s, extreme(teacher, dtype), self.Y)
                loss.backward()
                assert loss.isfinite() and s.grad.isfinite().all(), (student, teacher)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_widened(self, dtype):
        s, t, y = logits(0, dtype=dtype), logits(1, dtype=dtype), labels(0)
        assert losses.kd(s, t, 4).dtype == torch.float32
        assert losses.dkd(s, t, y, 1, 8, 4).dtype == torch.float32
        assert torch.equal(losses.kd(s, t, 4), losses.kd(s.float(), t.float(), 4))

    def test_widened_under_autocast_too(self):
        s, t, y = logits(0, dtype=torch.float32), logits(1, dtype=torch.float32), labels(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under = losses.kd(s, t, 4), losses.dkd(s, t, y, 1, 8, 4)
        assert torch.equal(under[0], losses.kd(s, t, 4))
        assert torch.equal(under[1], losses.dkd(s, t, y, 1, 8, 4))
