"""The scalars of an activation and the kernel of a network that has them: closed forms against random numbers."""

from math import exp, pi, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdq.models.random_head import RandomHead
from kdq.retrain.methods.ntklc import ternary
from kdq.retrain.random_features.activation_match import match_relu
from kdq.retrain.random_features.conjugate_kernel import Scalars, Steps, coefficients, of_relu, of_steps
from tests.retrain.least_variance import least_tau_squared

TAUS = st.floats(0.2, 3)
LEVELS = st.floats(-4, 4)


@st.composite
def steps(draw) -> Steps:
    thresholds = sorted(draw(st.lists(st.floats(-3, 3), max_size=5)))
    count = len(thresholds) + 1
    return Steps(tuple(draw(st.lists(LEVELS, min_size=count, max_size=count))), tuple(thresholds))


def by_quadrature(activation, tau: float) -> Scalars:
    """The scalars by their definitions with all derivatives moved to the Gaussian density, on a fine grid of xi."""
    xi = np.linspace(-9, 9, 1_800_001)
    weight = np.exp(-(xi**2) / 2) / sqrt(2 * pi) * (xi[1] - xi[0])
    values = activation(tau * xi)
    mean = weight @ values
    centred = values - mean
    d1, d2 = weight @ (xi * values) / tau, weight @ ((xi**2 - 1) * values) / tau**2
    d3 = weight @ ((xi**2 - 1) * centred**2) / tau**2
    return Scalars(mean, d1, d2, d3, weight @ centred**2)


def agree(found: Scalars, expected: Scalars, tolerance: float) -> None:
    for name, value in vars(expected).items():
        assert getattr(found, name) == pytest.approx(value, abs=tolerance), name


class TestScalars:
    @pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
    def test_of_relu(self, tau):
        agree(of_relu(tau), by_quadrature(lambda u: np.maximum(u, 0), tau), 1e-6)

    @pytest.mark.parametrize("tau", [0.5, 1.5])
    @pytest.mark.parametrize(
        "activation",
        [Steps((2.0,), ()), Steps((-1.0, 1.0), (0.0,)), Steps((2, 0, -1, 0, 2), (-2, -0.7, 0.4, 1.7))],
        ids=["constant", "sign", "five steps"],
    )
    def test_of_steps(self, activation, tau):
        def values(u):
            return np.asarray(activation.levels, float)[np.searchsorted(activation.thresholds, u)]

        agree(of_steps(activation, tau), by_quadrature(values, tau), 1e-4)

    def test_of_the_sign(self):
        """Mean 0, variance 1, d1 = 2 phi(0) / tau; its square is constant, and it is odd."""
        agree(of_steps(Steps((-1.0, 1.0), (0.0,)), 2.0), Scalars(0, 1 / sqrt(2 * pi), 0, 0, 1), 1e-15)

    def test_of_an_interval(self):
        """1 within +-tau: d1 is 0 by symmetry, d2 = -2 phi(1) / tau^2."""
        found = of_steps(Steps((0.0, 1.0, 0.0), (-3.0, 3.0)), 3.0)
        assert found.d1 == pytest.approx(0) and found.d2 == pytest.approx(-2 * exp(-0.5) / sqrt(2 * pi) / 9)

    @given(steps(), TAUS, st.floats(-3, 3))
    def test_an_offset_changes_the_mean_alone(self, activation, tau, offset):
        moved = Steps(tuple(level + offset for level in activation.levels), activation.thresholds)
        plain = of_steps(activation, tau)
        agree(of_steps(moved, tau), Scalars(plain.mean + offset, *list(vars(plain).values())[1:]), 1e-9)

    @given(steps(), TAUS, st.floats(0.1, 3))
    def test_units_of_its_argument_and_its_value(self, activation, tau, factor):
        """Of factor sig(u / factor) at factor tau."""
        scaled = Steps(*(tuple(factor * value for value in values) for values in vars(activation).values()))
        plain = of_steps(activation, tau)
        expected = Scalars(factor * plain.mean, plain.d1, plain.d2 / factor, plain.d3, factor**2 * plain.tau_squared)
        agree(of_steps(scaled, factor * tau), expected, 1e-6 * (1 + max(map(abs, vars(expected).values()))))

    @given(steps(), TAUS)
    def test_mirrored(self, activation, tau):
        mirrored = Steps(activation.levels[::-1], tuple(-threshold for threshold in activation.thresholds[::-1]))
        plain = of_steps(activation, tau)
        agree(of_steps(mirrored, tau), Scalars(plain.mean, -plain.d1, plain.d2, plain.d3, plain.tau_squared), 1e-9)

    @given(steps(), TAUS)
    def test_no_variance_is_less_than_that_of_the_first_two_hermite_polynomials(self, activation, tau):
        found = of_steps(activation, tau)
        assert least_tau_squared(found, tau) <= found.tau_squared + 1e-9

    @given(TAUS)
    def test_relu_is_close_to_the_least(self, tau):
        """Of its variance these polynomials are 97%: few levels can't come as close."""
        relu = of_relu(tau)
        assert least_tau_squared(relu, tau) / relu.tau_squared == pytest.approx((pi / 2 + 0.5) / (pi - 1))


class TestCoefficients:
    def test_of_no_layer_is_the_linear_kernel(self):
        assert coefficients([]) == (1, 0, 0)

    def test_of_linear_layers(self):
        linear = Scalars(0.0, 0.5, 0.0, 2 * 0.25, 0.25)  # of u / 2
        assert coefficients([linear] * 3) == (0.5**6, 0, 0)

    def test_signs_do_not_matter(self):
        layers = [of_relu(1.0), of_relu(0.6)]
        flipped = [Scalars(layer.mean, -layer.d1, -layer.d2, -layer.d3, layer.tau_squared) for layer in layers]
        assert coefficients(flipped) == coefficients(layers)


def kernel_by_its_parts(head: RandomHead, inputs: torch.Tensor) -> np.ndarray:
    """The kernel of different inputs, regressed on <x, y>, on psi_x psi_y and on <x, y>^2, psi = |x|^2 - its mean.

    A constant is left out of the result: the fourth moment of the weights adds one, which a readout can't see.
    """
    features = head.features(inputs).double()
    kernel, linear = features @ features.mT, (inputs @ inputs.mT).double()
    psi = linear.diagonal() - linear.diagonal().mean()
    parts = [linear, psi[:, None] * psi, linear**2, torch.ones_like(linear)]
    pairs = torch.triu_indices(*kernel.shape, 1)
    columns = np.stack([part[*pairs].numpy() for part in parts], 1)
    return np.linalg.lstsq(columns, kernel[*pairs].numpy(), rcond=None)[0][:3]


class TestKernel:
    """Of wide random layers on Gaussian data of 64 dimensions, where the norms vary by an eighth."""

    @pytest.fixture
    def inputs(self):
        inputs = torch.randn(600, 64, generator=torch.Generator().manual_seed(0))
        return inputs / inputs.square().sum(1).mean().sqrt()

    def head(self, activations, weight) -> RandomHead:
        torch.manual_seed(1)
        head = RandomHead(64, 2, widths=[4096, 4096, 4096][: len(activations)], activations=activations)
        for layer in head.layers:
            layer.weight.copy_(weight(layer.weight.shape))
        return head.eval()

    @pytest.mark.parametrize("layers", [1, 2])
    @pytest.mark.parametrize("kind", ["dense", "compressed"])
    @torch.no_grad()
    def test_is_what_the_coefficients_say(self, inputs, layers, kind):
        """Both kinds of head, whose coefficients are the same: those of ReLU."""
        matches = match_relu(layers, last_tau=False)
        if kind == "dense":
            head = self.head([{"mean": match.target.mean} for match in matches], torch.randn)
        else:
            head = self.head(
                [vars(match.steps) | {"mean": match.matched.mean} for match in matches],
                lambda shape: ternary(shape, 0.5),
            )
        expected = coefficients([match.target for match in matches])
        found = kernel_by_its_parts(head, inputs)
        assert found[0] == pytest.approx(expected[0], rel=0.05)
        assert found == pytest.approx(expected, rel=0.2)
        norms = head.features(inputs).square().sum(1)
        scalars = matches[-1].target if kind == "dense" else matches[-1].matched
        assert norms.mean().item() == pytest.approx(scalars.tau_squared, rel=0.03)

    def test_of_the_published_last_activation_is_not_that_of_relu(self, inputs):
        published = match_relu(2, last_tau=True)
        head = self.head(
            [vars(match.steps) | {"mean": match.matched.mean} for match in published], lambda shape: ternary(shape, 0.5)
        )
        with torch.no_grad():
            found = kernel_by_its_parts(head, inputs)
        assert found[0] == pytest.approx(coefficients([match.matched for match in published])[0], rel=0.1)
        assert found[0] < 0.8 * coefficients([match.target for match in published])[0]
