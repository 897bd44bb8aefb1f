"""The scalars of an activation that determine the conjugate kernel of a wide random network.

A layer computes x_l = sig~(W x_{l-1}) / sqrt(width), W with independent entries of mean 0 and variance 1, and
sig~ = sig - E sig(u) for u = tau xi, xi ~ N(0, 1), where tau^2 is the mean squared norm of x_{l-1}. For wide layers and
data of high dimension the kernel X_l' X_l depends on activations and weights only through the scalars below.

Source: Gu et al., "Lossless" Compression of Deep Neural Networks, NeurIPS 2022, arXiv:2403.00258, theorem 1.
"""

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from scipy.special import ndtr


@dataclass(frozen=True)
class Scalars:
    """Expectations of an activation sig over u = tau xi, xi ~ N(0, 1); derivatives may be distributions.

    ``mean`` = E sig; ``d1`` = E sig' ; ``d2`` = E sig''; ``d3`` = E (sig~^2)''; ``tau_squared`` = Var sig, the mean
    squared norm of the layer's outputs.
    """

    mean: float
    d1: float
    d2: float
    d3: float
    tau_squared: float


@dataclass(frozen=True)
class Steps:
    """A piecewise constant activation: ``levels`` (K + 1,) between ascending ``thresholds`` (K,)."""

    levels: tuple[float, ...]
    thresholds: tuple[float, ...]


def of_relu(tau: float) -> Scalars:
    """Return the scalars of max(u, 0)."""
    return Scalars(tau / sqrt(2 * pi), 1 / 2, 1 / (sqrt(2 * pi) * tau), 1 - 1 / pi, tau**2 * (1 / 2 - 1 / (2 * pi)))


def of_steps(steps: Steps, tau: float) -> Scalars:
    """Return the scalars of a piecewise constant activation: sums over its jumps.

    A jump J at tau z adds J phi(z) / tau to d1 and J z phi(z) / tau^2 to d2, as E sig' = E xi sig / tau and
    E sig'' = E (xi^2 - 1) sig / tau^2 for any sig.
    """
    levels, z = np.asarray(steps.levels), np.asarray(steps.thresholds) / tau
    density, above = np.exp(-(z**2) / 2) / sqrt(2 * pi), ndtr(-z)
    jumps, jumps_of_square = np.diff(levels), np.diff(levels**2)
    mean = levels[0] + jumps @ above
    d2 = jumps @ (z * density) / tau**2
    d3 = jumps_of_square @ (z * density) / tau**2 - 2 * mean * d2
    tau_squared = levels[0] ** 2 + jumps_of_square @ above - mean**2
    return Scalars(*map(float, (mean, jumps @ density / tau, d2, d3, tau_squared)))


def coefficients(layers: list[Scalars]) -> tuple[float, float, float]:
    """Return ``(a1, a2, a3)`` of the network's kernel: of the linear kernel, the norms, the classes' covariances.

    Up to a multiple of the identity the kernel tends to a1 X'X + V A V'; A depends on the data's classes, linearly on
    a2 and a3. The recursion over layers of theorem 1 starts from (1, 0, 0) and a fourth coefficient of 1.
    """
    a1, a2, a3, a4 = 1.0, 0.0, 0.0, 1.0
    for layer in layers:
        squared, curvature = layer.d1**2, layer.d2**2
        a1, a2, a3 = squared * a1, squared * a2 + curvature * a4**2 / 4, squared * a3 + curvature * a1**2 / 2
        a4 *= layer.d3 / 2
    return a1, a2, a3
