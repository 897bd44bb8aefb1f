"""Metrics against cases worked by hand, and their laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdq.evaluate.metrics import agreement, cross_entropy, expected_calibration_error, top_k_accuracy


def certain(*rows) -> torch.Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


def random(seed, rows=30, classes=8):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, generator=generator)
    return logits, torch.randint(0, classes, (rows,), generator=generator)


class TestTopK:
    LOGITS = torch.tensor([[3.0, 2, 1, 0], [0, 1, 2, 3], [1, 3, 2, 0], [0, 3, 1, 2]])
    LABELS = torch.tensor([0, 2, 0, 0])

    @pytest.mark.parametrize(("k", "share"), [(1, 0.25), (2, 0.5), (3, 0.75), (4, 1), (9, 1)])
    def test_by_hand(self, k, share):
        assert top_k_accuracy(self.LOGITS, self.LABELS, k) == share

    @given(st.integers(0, 10**6))
    def test_grows_with_k(self, seed):
        logits, labels = random(seed)
        shares = [top_k_accuracy(logits, labels, k) for k in range(1, 9)]
        assert shares == sorted(shares) and shares[-1] == 1

    def test_top_1_is_the_largest(self):
        logits, labels = random(0, 200)
        assert top_k_accuracy(logits, labels, 1) == (logits.argmax(1) == labels).double().mean().item()


class TestCrossEntropy:
    def test_by_hand(self):
        logits = certain([0.5, 0.25, 0.25], [0.1, 0.8, 0.1])
        assert cross_entropy(logits, torch.tensor([0, 2])) == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)

    def test_no_idea_is_the_log_of_the_classes(self):
        assert cross_entropy(torch.zeros(5, 10), torch.arange(5)) == pytest.approx(math.log(10))

    def test_in_float64(self):
        logits = torch.tensor([[20.0, 0.0]])
        assert cross_entropy(logits, torch.tensor([0])) == pytest.approx(math.log1p(math.exp(-20)), rel=1e-9)


class TestCalibration:
    def test_perfect(self):
        """At confidence 3/4 three of four are right, at 1/2 one of two: no error."""
        logits = certain(*[[0.75, 0.25]] * 4)
        assert expected_calibration_error(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
        both = certain(*[[0.75, 0.25, 0.0]] * 4, *[[0.5, 0.3, 0.2]] * 2)
        assert expected_calibration_error(both, torch.tensor([0, 0, 0, 1, 0, 1])) == pytest.approx(0, abs=1e-12)

    def test_by_hand(self):
        """Bins weigh by their images: (4 |1/2 - 3/4| + 1 |1 - 1/2|) / 5."""
        logits = certain(*[[0.75, 0.25, 0.0]] * 4, [0.5, 0.3, 0.2])
        error = expected_calibration_error(logits, torch.tensor([0, 0, 1, 1, 0]))
        assert error == pytest.approx((4 * 0.25 + 0.5) / 5)

    def test_errors_of_one_bin_cancel_and_of_two_do_not(self):
        logits = certain([0.7, 0.3], [0.72, 0.28], [0.9, 0.1])
        labels = torch.tensor([0, 1, 0])
        found = [expected_calibration_error(logits, labels, bins) for bins in (1, 5)]
        gaps = (1 - 0.7, 0 - 0.72, 1 - 0.9)
        assert found[0] == pytest.approx(abs(sum(gaps)) / 3)
        assert found[1] == pytest.approx((abs(gaps[0] + gaps[1]) + gaps[2]) / 3)

    def test_a_bin_has_its_upper_end(self):
        """Confidence 1/2 of two bins lies in the lower, as in the paper; 1 lies in the last."""
        logits = certain([0.5, 0.3, 0.2], [1.0, 0.0, 0.0])
        assert expected_calibration_error(logits, torch.tensor([0, 1]), 2) == pytest.approx((0.5 + 1) / 2)

    def test_sure_and_right_or_wrong(self):
        logits = 1e4 * torch.eye(4)
        assert expected_calibration_error(logits, torch.arange(4)) == 0
        assert expected_calibration_error(logits, torch.arange(4).roll(1)) == 1

    @given(st.integers(0, 10**6))
    def test_never_below_the_gap_of_the_means(self, seed):
        """More bins show more: one bin's error is a lower bound, 1 an upper."""
        logits, labels = random(seed)
        one, many = (expected_calibration_error(logits, labels, bins) for bins in (1, 15))
        assert 0 <= one <= many + 1e-12 and many <= 1


class TestAgreement:
    def test_with_itself_is_1(self):
        predictions = torch.arange(7)
        assert agreement(predictions, predictions) == 1

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
    def test_counts_and_is_symmetric(self, pairs):
        first, second = (torch.tensor(side) for side in zip(*pairs, strict=True))
        expected = sum(a == b for a, b in pairs) / len(pairs)
        assert agreement(first, second) == agreement(second, first) == pytest.approx(expected)
