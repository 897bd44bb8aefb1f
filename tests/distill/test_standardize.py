"""Logit standardization, an option of every method that compares logits."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kdq
from kdq.data.batches import Batch
from kdq.distill import losses
from kdq.distill.method import Outputs
from kdq.distill.methods import dkd, dml, kd, mixup, ntk
from kdq.distill.standardize import compared
from kdq.recipe.grammar import Grammar
from kdq.recipe.stages import find_stages

SEEDS = st.integers(0, 10**6)
METHODS = {
    "kd": lambda **keys: kd.KD(kd.Parameters(**keys)),
    "kd with soft labels": lambda **keys: kd.KD(kd.Parameters(loss="ce", **keys)),
    "dkd": lambda **keys: dkd.DKD(dkd.Parameters(**keys)),
    "mixup": lambda **keys: mixup.Mixup(mixup.Parameters(**keys)),
    "dml": lambda **keys: dml.DML(dml.Parameters(**keys)),
    "ntk": lambda **keys: ntk.NTK(ntk.Parameters(**keys)),
}


def logits(seed: int, dtype=torch.float64):
    return 3 * torch.randn(6, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class TestLaws:
    @given(SEEDS)
    def test_rows_have_mean_0_and_deviation_1(self, seed):
        found = losses.standardize(logits(seed))
        torch.testing.assert_close(found.mean(1), torch.zeros(6, dtype=torch.float64))
        torch.testing.assert_close(found.std(1), torch.ones(6, dtype=torch.float64))

    @given(SEEDS, st.floats(-50, 50), st.floats(0.1, 100))
    def test_shift_and_scale_of_each_row_drop_out(self, seed, shift, scale):
        z = logits(seed)
        moved = torch.cat([scale * z[:1] + shift, z[1:]])
        torch.testing.assert_close(losses.standardize(moved), losses.standardize(z), rtol=1e-5, atol=1e-6)

    @given(SEEDS)
    def test_twice_is_once(self, seed):
        once = losses.standardize(logits(seed))
        torch.testing.assert_close(losses.standardize(once), once, rtol=1e-6, atol=1e-6)

    @given(SEEDS)
    def test_the_order_of_classes_stays(self, seed):
        z = logits(seed)
        assert torch.equal(losses.standardize(z).argsort(1), z.argsort(1))


class TestAtTheEdge:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
    @pytest.mark.parametrize("scale", [0, 1e-4, 1, 1e4])
    def test_value_and_gradient_are_finite(self, dtype, scale):
        for plain in (torch.ones(3, 10), torch.eye(10), -torch.eye(10), torch.randn(4, 10)):
            z = (scale * plain).to(dtype).requires_grad_()
            found = losses.standardize(z)
            found.square().sum().backward()
            assert found.dtype == torch.float32
            assert found.isfinite().all() and z.grad.isfinite().all()


def of_logits(terms: dict) -> set[str]:
    return {term for term in terms if not term.endswith("cross_entropy")}


class TestMethods:
    BATCH = Batch(torch.zeros(6, 1, 8, 8), torch.arange(6), torch.arange(6), 20)

    @pytest.mark.parametrize("name", METHODS)
    def test_the_match_is_that_of_standardized_logits(self, name):
        s, t = logits(0), logits(1)
        found = METHODS[name](standardize=True).losses(self.BATCH, Outputs(s), Outputs(t))
        plain = Outputs(losses.standardize(s)), Outputs(losses.standardize(t))
        expected = METHODS[name]().losses(self.BATCH, *plain)
        for term in of_logits(found):
            torch.testing.assert_close(found[term], expected[term])

    @pytest.mark.parametrize("name", METHODS)
    def test_a_scale_of_the_students_own_costs_nothing(self, name):
        t = logits(1)
        terms = METHODS[name](standardize=True).losses(self.BATCH, Outputs(5 * t + 2), Outputs(t))
        entropy = METHODS[name](standardize=True).losses(self.BATCH, Outputs(t), Outputs(t))
        for term in of_logits(terms):
            torch.testing.assert_close(terms[term], entropy[term], rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("name", ["kd", "dkd"])
    def test_the_labels_see_the_logits_as_they_are(self, name):
        outputs = Outputs(logits(0)), Outputs(logits(1))
        terms = [METHODS[name](standardize=choice).losses(self.BATCH, *outputs) for choice in (False, True)]
        assert torch.equal(terms[0]["cross_entropy"], terms[1]["cross_entropy"])

    def test_without_it_nothing_is_touched(self):
        s, t = logits(0), logits(1)
        assert compared(False, s, t) == (s, t)

    @pytest.mark.parametrize("stage", ["kd", "dkd", "mixup", "dml", "ntk"])
    def test_a_key_of_every_method_that_compares_logits(self, stage):
        stages = find_stages(Path(kdq.__file__).parent)
        recipe = Grammar(stages, {"teacher": {}, "student": {}}, {}).parse(f"teacher/{stage},standardize=true")
        assert recipe.last.keys["standardize"] is True
        assert stages[stage].keys().standardize is False
