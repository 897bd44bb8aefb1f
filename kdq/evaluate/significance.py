"""Is a difference between two models real? Tests over seeds and over test images: pure functions of numpy arrays."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, stats

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Outcome:
    """An interval of the difference and a two-sided p-value; None where the data do not define them."""

    low: float | None = None
    high: float | None = None
    p: float | None = None


def welch(values, others) -> Outcome:
    """Welch's t test of mean(values) - mean(others): independent runs (S,), of unequal variance, two at least.

    A side without spread (one model under every seed) is a fixed number, and the other alone gives the degrees of
    freedom. Nothing is defined where neither side has spread. Source: Welch, Biometrika 34 (1947) 28.
    """
    values, others = np.asarray(values), np.asarray(others)
    if len(values) < 2 or len(others) < 2 or not (np.ptp(values) or np.ptp(others)):
        return Outcome()
    squared = values.var(ddof=1) / len(values), others.var(ddof=1) / len(others)
    freedom = sum(squared) ** 2 / (squared[0] ** 2 / (len(values) - 1) + squared[1] ** 2 / (len(others) - 1))
    return _student(values.mean() - others.mean(), sum(squared) ** 0.5, freedom)


def paired(values, others) -> Outcome:
    """The paired t test of mean(values - others): runs (S,), each pair under one seed, two at least."""
    differences = np.asarray(values) - np.asarray(others)
    if len(differences) < 2 or not np.ptp(differences):
        return Outcome()
    return _student(differences.mean(), stats.sem(differences), len(differences) - 1)


def _student(difference: float, error: float, freedom: float) -> Outcome:
    half = stats.t.isf((1 - LEVEL) / 2, freedom) * error
    p = 2 * stats.t.sf(abs(difference) / error, freedom)
    return Outcome(float(difference - half), float(difference + half), float(p))


def bootstrap_images(correct, others) -> Outcome:
    """The paired bootstrap over images of the mean difference of correctness, both boolean (S, M): S seeds, M images.

    An image is drawn with all its seeds and with both models' answers. Such a mean is a sum of M draws from 2 S + 1
    values, so its distribution is the M-th convolution power of theirs, taken here by FFT: what resampling tends to
    with ever more resamples, without their number, their seed or their noise. The interval has the percentiles of
    that distribution, the p-value is its share at least as far from its mean as the observed difference is from 0.
    Where hardly any image tells the models apart this p is too small: 4 images against none give 0.07, an exact sign
    test 0.125. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 and 16.
    """
    differences = np.asarray(correct, dtype=np.int64).sum(0) - np.asarray(others, dtype=np.int64).sum(0)
    seeds, images = np.shape(correct)
    shares = np.bincount(differences + seeds, minlength=2 * seeds + 1) / images
    sums = np.arange(-seeds * images, seeds * images + 1)
    length = fft.next_fast_len(len(sums), real=True)
    mass = fft.irfft(fft.rfft(shares, length) ** images, length)[: len(sums)].clip(min=0)
    # both tails summed from their ends: swapping the models mirrors every number
    from_below, from_above = mass.cumsum(), mass[::-1].cumsum()
    tail = (1 - LEVEL) / 2
    low, high = sums[np.searchsorted(from_below, tail)], -sums[np.searchsorted(from_above, tail)]
    observed = int(differences.sum())
    p = mass[abs(sums - observed) >= abs(observed)].sum() if observed else 1.0
    return Outcome(float(low / (seeds * images)), float(high / (seeds * images)), min(1.0, float(p)))


def holm(p_values: list[float | None]) -> list[float | None]:
    """Each p-value corrected for all that are not None by Holm's step-down method.

    The family's chance of any false alarm stays below the level that a corrected p-value is held against, however
    its tests depend on one another. Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65.

    >>> holm([0.03, None, 0.01, 0.04])
    [0.06, None, 0.03, 0.06]
    """
    order = sorted((index for index, p in enumerate(p_values) if p is not None), key=lambda index: p_values[index])
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
