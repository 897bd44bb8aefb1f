"""Significance of the difference between two models, over seeds and over test images: pure functions of arrays."""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import fft, stats

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Outcome:
    """An interval of the difference and a two-sided p-value; None if the data do not define them."""

    low: float | None = None
    high: float | None = None
    p: float | None = None


def welch(values, references) -> Outcome:
    """Return Welch's t test of mean(values) - mean(references): runs (S,), two at least, of unequal variance.

    A side without spread (one model under every seed) is a fixed number, and the degrees of freedom are those of the
    other side. Undefined if neither side has spread. Source: Welch, Biometrika 34 (1947) 28.
    """
    if min(len(values), len(references)) < 2 or not (np.ptp(values) or np.ptp(references)):
        return Outcome()
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a side without spread is no defect
        return _outcome(stats.ttest_ind(values, references, equal_var=False))


def paired(values, references) -> Outcome:
    """Return the paired t test of mean(values - references): runs (S,), each pair under one seed, two at least."""
    if len(values) < 2 or not np.ptp(np.subtract(values, references)):
        return Outcome()
    return _outcome(stats.ttest_rel(values, references))


def _outcome(test) -> Outcome:
    interval = test.confidence_interval(LEVEL)
    return Outcome(float(interval.low), float(interval.high), float(test.pvalue))


def bootstrap_images(correct, reference) -> Outcome:
    """Return the paired bootstrap over images of the mean difference of correctness, boolean (S, M): S seeds, M images.

    An image is drawn with all its seeds and the answers of both models. Such a mean is a sum of M draws from 2 S + 1
    values, so its distribution is the M-th convolution power of theirs, taken here by FFT: what resampling tends to
    with ever more resamples, without their number, their seed or their noise. The interval has the percentiles of
    that distribution, the p-value is its share at least as far from its mean as the observed difference is from 0.
    If hardly any image tells the models apart this p is too small: 4 images against none give 0.07, an exact sign
    test 0.125. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13 and 16.
    """
    differences = np.asarray(correct, dtype=np.int64).sum(0) - np.asarray(reference, dtype=np.int64).sum(0)
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
    """Return each p-value corrected for all that are not None by Holm's step-down method.

    The chance of any false alarm in the family stays below the level that corrected p-values are compared with,
    however the tests depend on each other. Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65.

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
