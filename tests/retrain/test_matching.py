"""Activations of few levels that stand for ReLU: solutions are solutions, and where there is none it is shown."""

from dataclasses import astuple
from math import sqrt

import numpy as np
import pytest
from scipy.optimize import minimize

from kdq.retrain.random_features.activation_match import match_relu
from kdq.retrain.random_features.conjugate_kernel import Steps, coefficients, of_relu, of_steps
from tests.retrain.least_variance import least_tau_squared

EXACT = match_relu(3, last_tau=False)
PUBLISHED = match_relu(3, last_tau=True)


def mismatches(match) -> list[float]:
    found, target = match.matched, match.target
    return [found.d1**2 - target.d1**2, found.d2**2 - target.d2**2, found.d3 - target.d3]


def test_two_levels_have_three_scalars_of_relu_in_every_layer():
    tau_of_relu = tau = 1.0
    for match in EXACT:
        assert match.target == of_relu(tau_of_relu) and match.matched == of_steps(match.steps, tau)
        assert mismatches(match) == pytest.approx([0, 0, 0], abs=1e-12) and match.residual < 1e-24
        outside, inside, again = match.steps.levels
        assert outside == again > 0 and inside == 0 and match.steps.thresholds[0] < match.steps.thresholds[1]
        tau_of_relu, tau = sqrt(match.target.tau_squared), sqrt(match.matched.tau_squared)
    assert coefficients([m.matched for m in EXACT]) == pytest.approx(coefficients([m.target for m in EXACT]), rel=1e-10)


def test_the_layers_before_the_last_are_the_same_in_both():
    assert PUBLISHED[:-1] == EXACT[:-1]


def test_the_solver_gives_the_same_every_time():
    assert match_relu(3, last_tau=True) == PUBLISHED


def test_no_activation_at_all_has_four_scalars_of_relu_behind_such_layers():
    """Its variance would be less than that of its first two Hermite coefficients."""
    for layer in (1, 2):
        tau = sqrt(EXACT[layer - 1].matched.tau_squared)
        target = EXACT[layer].target
        assert least_tau_squared(target, tau) > 2 * target.tau_squared


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_nor_one_of_levels_0_and_b_in_the_first_layer(share):
    """There d2, d3 and tau fix b and the probability of b, and with that d1 is at most that of the upper tail."""
    relu = of_relu(1.0)
    level = sqrt((relu.d3 / relu.d2) ** 2 + 4 * relu.tau_squared)
    probability = (1 - relu.d3 / relu.d2 / level) / 2
    assert (level, probability) == (pytest.approx(2.0696, abs=1e-4), pytest.approx(0.0872, abs=1e-4))
    z = 1.3580  # exceeded with that probability
    tail = of_steps(Steps((0.0, level), (z,)), 1.0)
    assert tail.mean / level == pytest.approx(probability, abs=1e-4)
    assert tail.d1 == pytest.approx(0.328, abs=1e-3) and tail.d1 < relu.d1
    # any other set of that probability has less: here a part of it is taken from the tail to elsewhere
    xi = np.linspace(-8, 8, 400_001)
    density = np.exp(-(xi**2) / 2) / sqrt(2 * np.pi) * (xi[1] - xi[0])
    order = np.argsort(-np.where(xi > z, xi + (share * 9) * np.sin(5 * xi), -9 + share * np.cos(3 * xi)))
    chosen = order[np.cumsum(density[order]) < probability]
    assert abs(level * density[chosen] @ xi[chosen]) <= tail.d1 + 1e-3


class TestPublishedLastLayer:
    """Levels 0, b1 and b2 and four thresholds, fitted to d1^2, d2^2, d3 and tau^2 at once."""

    last, tau = PUBLISHED[-1], sqrt(PUBLISHED[-2].matched.tau_squared)

    def objective(self, x) -> float:
        """The published one, of four thresholds and two levels."""
        *thresholds, outer, inner = x
        found = of_steps(Steps((outer, 0.0, inner, 0.0, outer), tuple(thresholds)), self.tau)
        pairs = zip(astuple(found)[1:], astuple(self.last.target)[1:], strict=True)
        powers = (2, 2, 1, 1)
        return sum((one**power - other**power) ** 2 for (one, other), power in zip(pairs, powers, strict=True))

    def test_is_of_its_family(self):
        outer, zero, _, other, again = self.last.steps.levels
        r1, r2, r3, r4 = self.last.steps.thresholds
        assert zero == other == 0 and outer == again > 0
        assert r1 < r2 < r3 < r4 and r2 - r1 == pytest.approx(r4 - r3)

    def test_says_what_is_left(self):
        x = [*self.last.steps.thresholds, self.last.steps.levels[0], self.last.steps.levels[2]]
        assert self.last.residual == pytest.approx(self.objective(x), rel=1e-9)
        assert self.last.residual == pytest.approx(0.070878, abs=1e-6)

    def test_is_not_beaten_by_the_published_way_to_solve(self):
        """SLSQP under the constraints of the thresholds, from random starts."""
        order = [{"type": "ineq", "fun": lambda x, i=i: x[i + 1] - x[i]} for i in range(3)]
        order.append({"type": "eq", "fun": lambda x: x[3] - x[2] - x[1] + x[0]})
        generator, found = np.random.default_rng(5), []
        for _ in range(12):
            start = generator.normal(size=6)
            start[:4] = np.sort(start[:4])
            result = minimize(self.objective, start, method="SLSQP", constraints=order, options={"ftol": 1e-30})
            valid = np.isfinite(result.fun) and all(np.diff(result.x[:4]) > -1e-9)
            found += [result.fun] if valid else []
        assert min(found) == pytest.approx(self.last.residual, rel=1e-4)

    def test_costs_the_kernel_half_of_its_coefficients(self):
        found, target = (coefficients([getattr(m, side) for m in PUBLISHED]) for side in ("matched", "target"))
        shares = [one / other for one, other in zip(found, target, strict=True)]
        assert shares == pytest.approx([0.391, 0.645, 0.527], abs=0.001)
