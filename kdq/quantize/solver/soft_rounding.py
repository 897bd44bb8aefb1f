"""Soft rounding: every weight between its two codes, and drawn to one of them, while a descent decides which.

Nagel, Amjad, van Baalen, Louizos, Blankevoort: Up or down? Adaptive rounding for post-training quantization (2020,
arXiv:2004.10568). In steps, every weight w is rounded down and h in [0, 1] added again:

    q = floor(w) + h(v),    h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1)

v descends, by Adam, on an error plus a regularization, sum 1 - |2 h - 1|^beta, that draws every h to 0 or 1; beta falls
from 20, where only an h close to an end is drawn, to 2.
"""

import torch
from torch import Tensor

WARM_UP = 0.2  # the share of the iterations without the regularization
FIRST_BETA, LAST_BETA = 20.0, 2.0
STRETCH, SHIFT = 1.2, -0.1


class SoftRounding:
    """The h of weights, of any shape, from their ``remainder`` above the lower code; 0 unless a weight is ``free``."""

    def __init__(self, remainder: Tensor, free: Tensor):
        self.free = free
        # Off the ends, where the clip has no slope.
        self.variable = ((remainder.clamp(0.01, 0.99) - SHIFT) / STRETCH).logit()
        self.mean, self.square = torch.zeros_like(self.variable), torch.zeros_like(self.variable)

    def up(self) -> Tensor:
        """Return h."""
        self.sigmoid = self.variable.sigmoid()
        return (STRETCH * self.sigmoid + SHIFT).clamp_(0, 1).mul_(self.free)

    def decided(self) -> Tensor:
        """Return which weights to round up."""
        return (self.variable >= 0) & self.free

    def descend(self, up, slope, iteration: int, iterations: int, learning_rate, regularization) -> None:
        """Take one step of Adam, down the error's ``slope`` and the regularization's with respect to h.

        ``up`` is h, as :meth:`up` has just returned it; ``slope`` is overwritten; ``iteration`` counts from 0.
        """
        progress = (iteration / iterations - WARM_UP) / (1 - WARM_UP)
        if progress >= 0:
            beta = FIRST_BETA + (LAST_BETA - FIRST_BETA) * progress
            slope -= regularization * pull(up, beta)
        gradient = slope.mul_((up > 0) & (up < 1)).mul_(self.sigmoid - self.sigmoid.square())
        # Adam by hand: the first step of torch.optim's imports a compiler, which takes seconds.
        self.mean.lerp_(gradient, 1 - 0.9)
        self.square.lerp_(gradient.square(), 1 - 0.999)
        deviation = (self.square / (1 - 0.999 ** (iteration + 1))).sqrt_().add_(1e-8)
        self.variable -= learning_rate / (1 - 0.9 ** (iteration + 1)) * self.mean / deviation


def pull(up: Tensor, beta: float) -> Tensor:
    """Return the slope of sum |2 h - 1|^beta with respect to h = ``up``."""
    centred = 2 * up - 1
    return 2 * beta * centred.sign() * centred.abs() ** (beta - 1)
