"""Activations of few levels with the scalars of ReLU: equations of arXiv:2403.00258, algorithm 1, and their solver.

Two levels give a hidden layer exactly the d1^2, d2^2 and d3 of ReLU. The last layer should match its tau^2 too, and
after such layers no activation has all four: their outputs are larger than those of ReLU (tau is 1.45 times as large
after one layer, 1.99 times after two), and the least variance of an activation with the d1 and d2 of ReLU on such
inputs, (d1 tau)^2 + (d2 tau^2)^2 / 2, exceeds that of ReLU, in the third layer 0.259 to 0.0396. The published code
minimises the sum of squared mismatches, 0.0709 there, and so does this module. The price is paid in the kernel's
coefficients, which depend on d1, d2 and d3 alone: they are 0.39 to 0.64 of ReLU's. Without tau^2 they are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.optimize import least_squares

from kdq.retrain.random_features.conjugate_kernel import Scalars, Steps, of_relu, of_steps

STARTS = 10  # of the solver; the best of its minima is used


@dataclass(frozen=True)
class Match:
    """The activation of a layer: ``target`` are the scalars of ReLU in its network, ``matched`` those of ``steps``.

    ``residual`` is the sum of the squared mismatches of d1^2, d2^2, d3 and, if it is matched, of tau^2.
    """

    steps: Steps
    target: Scalars
    matched: Scalars
    residual: float


def match_relu(layers: int, *, last_tau: bool) -> list[Match]:
    """Return the activations that replace ReLU in a network of ``layers`` layers, on inputs of mean squared norm 1.

    In either network the scalars of a layer are taken at the tau of the layer before. With ``last_tau`` the last layer
    has three levels and matches tau^2 too, as published; without, it is like the others.
    """
    matches, tau, tau_of_relu = [], 1.0, 1.0
    for layer in range(layers):
        target = of_relu(tau_of_relu)
        with_tau = last_tau and layer == layers - 1
        match = _fit(*(THREE_LEVELS if with_tau else TWO_LEVELS), target, tau, with_tau)
        matches.append(match)
        tau, tau_of_relu = sqrt(match.matched.tau_squared), sqrt(target.tau_squared)
    return matches


def _two_levels(x: np.ndarray) -> Steps:
    """0 between two thresholds, b outside."""
    first, width, level = x
    return Steps((level, 0.0, level), (first, first + np.exp(width)))


def _three_levels(x: np.ndarray) -> Steps:
    """b2 in the middle, b1 far outside, 0 in the two intervals between, which have the same width."""
    first, width, middle, outer, inner = x
    thresholds = np.cumsum([first, *np.exp([width, middle, width])])
    return Steps((outer, 0.0, inner, 0.0, outer), tuple(thresholds))


# a family of activations and the bounds of its unknowns: first threshold, logarithms of widths, levels
TWO_LEVELS = _two_levels, [(-6, 6), (-6, 2), (-20, 20)]
THREE_LEVELS = _three_levels, [(-6, 6), (-6, 2), (-6, 2), (-20, 20), (-20, 20)]


def _fit(family: Callable, bounds: list[tuple], target: Scalars, tau: float, with_tau: bool) -> Match:
    """Return the member of ``family`` with the least mismatch, thresholds in units of ``tau``; deterministic."""

    def member(x) -> Steps:
        steps = family(x)
        return Steps(steps.levels, tuple(tau * threshold for threshold in steps.thresholds))

    def mismatch(x) -> np.ndarray:
        scalars = of_steps(member(x), tau)
        pairs = [(scalars.d1**2, target.d1**2), (scalars.d2**2, target.d2**2), (scalars.d3, target.d3)]
        pairs += [(scalars.tau_squared, target.tau_squared)] if with_tau else []
        return np.array([value - wanted for value, wanted in pairs])

    low, high = np.transpose(bounds)
    starts = np.random.default_rng(0).normal(size=(STARTS, len(bounds))).clip(low, high)
    rough = (least_squares(mismatch, start, bounds=(low, high), max_nfev=100) for start in starts)
    nearest = min(rough, key=lambda result: result.cost)
    exact = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
    best = least_squares(mismatch, nearest.x, bounds=(low, high), **exact)
    steps = _upright(member(best.x), tau)
    return Match(steps, target, of_steps(steps, tau), float(2 * best.cost))


def _upright(steps: Steps, tau: float) -> Steps:
    """Return the one of four equivalent activations (negated, mirrored) with positive first level and positive d1."""
    if steps.levels[0] < 0:
        steps = Steps(tuple(-level for level in steps.levels), steps.thresholds)
    if of_steps(steps, tau).d1 < 0:
        steps = Steps(steps.levels[::-1], tuple(-threshold for threshold in reversed(steps.thresholds)))
    return Steps(tuple(float(level) + 0.0 for level in steps.levels), tuple(map(float, steps.thresholds)))
