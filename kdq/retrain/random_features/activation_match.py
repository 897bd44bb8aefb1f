"""Activations of few levels with the scalars of ReLU: equations of arXiv:2403.00258, algorithm 1, and their solver.

Two levels give a hidden layer the very d1^2, d2^2 and d3 of ReLU. The last layer is to have its tau^2 too, and behind
such layers there is no activation that has all four: their outputs are larger than those of ReLU (tau is 1.45 times as
large after one layer, 1.99 times after two), and the least variance that an activation with the d1 and d2 of ReLU can
have on such inputs (``conjugate_kernel.least_tau_squared``) exceeds that of ReLU, in the third layer 0.259 to 0.0396.
The published code takes the least sum of squared mismatches, 0.0709 there, and so does this one. It costs the kernel's
coefficients, which depend on d1, d2 and d3 alone: 0.39 to 0.64 of ReLU's are left. Without tau^2 they are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.optimize import least_squares

from kdq.retrain.random_features.conjugate_kernel import Scalars, Steps, of_relu, of_steps

STARTS = 10  # of the solver; the best of its minima is taken


@dataclass(frozen=True)
class Match:
    """An activation found for a layer: ``target`` the scalars of ReLU in its network, ``found`` the steps' in theirs.

    ``residual`` is the sum of the squared mismatches of d1^2, d2^2, d3 and, where it was asked for, of tau^2.
    """

    steps: Steps
    target: Scalars
    found: Scalars
    residual: float


def match_relu(layers: int, *, last_tau: bool) -> list[Match]:
    """The activations of a network of so many layers that stand for ReLU, on inputs of mean squared norm 1.

    The scalars of a layer are taken at the tau of the layer before, in either network its own. With ``last_tau`` the
    last layer has three levels and is to match tau^2 too, as published; without it is one as the others.
    """
    matches, tau, tau_of_relu = [], 1.0, 1.0
    for layer in range(layers):
        target = of_relu(tau_of_relu)
        with_tau = last_tau and layer == layers - 1
        match = _fit(*(THREE_LEVELS if with_tau else TWO_LEVELS), target, tau, with_tau)
        matches.append(match)
        tau, tau_of_relu = sqrt(match.found.tau_squared), sqrt(target.tau_squared)
    return matches


def _two_levels(x: np.ndarray) -> Steps:
    """0 between two thresholds, b outside."""
    first, width, level = x
    return Steps((level, 0.0, level), (first, first + np.exp(width)))


def _three_levels(x: np.ndarray) -> Steps:
    """b2 in the middle, b1 far outside, 0 between, where both parts have the same width."""
    first, width, middle, outer, inner = x
    thresholds = np.cumsum([first, *np.exp([width, middle, width])])
    return Steps((outer, 0.0, inner, 0.0, outer), tuple(thresholds))


# a family of activations with bounds of its unknowns: the first threshold, logarithms of distances, levels
TWO_LEVELS = _two_levels, [(-6, 6), (-6, 2), (-20, 20)]
THREE_LEVELS = _three_levels, [(-6, 6), (-6, 2), (-6, 2), (-20, 20), (-20, 20)]


def _fit(family: Callable, bounds: list[tuple], target: Scalars, tau: float, with_tau: bool) -> Match:
    """The member of ``family``, its thresholds in units of ``tau``, with the least mismatch; the same every time."""

    def member(x) -> Steps:
        steps = family(x)
        return Steps(steps.levels, tuple(tau * threshold for threshold in steps.thresholds))

    def mismatch(x) -> np.ndarray:
        found = of_steps(member(x), tau)
        pairs = [(found.d1**2, target.d1**2), (found.d2**2, target.d2**2), (found.d3, target.d3)]
        pairs += [(found.tau_squared, target.tau_squared)] if with_tau else []
        return np.array([one - other for one, other in pairs])

    low, high = np.transpose(bounds)
    starts = np.random.default_rng(0).normal(size=(STARTS, len(bounds))).clip(low, high)
    rough = (least_squares(mismatch, start, bounds=(low, high), max_nfev=100) for start in starts)
    nearest = min(rough, key=lambda result: result.cost)
    exact = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
    best = least_squares(mismatch, nearest.x, bounds=(low, high), **exact)
    steps = _upright(member(best.x), tau)
    return Match(steps, target, of_steps(steps, tau), float(2 * best.cost))


def _upright(steps: Steps, tau: float) -> Steps:
    """Of the four alike (negated, mirrored) the one with a positive first level and a positive d1."""
    if steps.levels[0] < 0:
        steps = Steps(tuple(-level for level in steps.levels), steps.thresholds)
    if of_steps(steps, tau).d1 < 0:
        steps = Steps(steps.levels[::-1], tuple(-threshold for threshold in reversed(steps.thresholds)))
    return Steps(tuple(float(level) + 0.0 for level in steps.levels), tuple(map(float, steps.thresholds)))
