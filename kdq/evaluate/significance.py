"""Significance of the difference between two models, over seeds and over test images: pure functions of arrays."""

import math
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import fft, optimize, stats

LEVEL = 0.95  # of every interval
POWER = 0.8  # at which the smallest detectable difference is stated
QUANTILES = (np.arange(2000) + 0.5) / 2000  # of the chi-square distribution: an integral over it to 1e-4


@dataclass(frozen=True)
class Outcome:
    """An interval of the difference and a two-sided p-value; None if the data do not define them.

    ``error`` is the standard error of the difference and ``freedom`` its degrees of freedom.
    """

    low: float | None = None
    high: float | None = None
    p: float | None = None
    error: float | None = None
    freedom: float = math.inf

    def detectable(self, level: float) -> float | None:
        """Return the smallest true difference that the test at ``level`` finds with a probability of ``POWER``.

        The spread is taken to be the one that was observed; None if there is none.
        """
        return self.error * errors_to_detect(self.freedom, level) if self.error else None


def welch(values, references) -> Outcome:
    """Return Welch's t test of mean(values) - mean(references): runs (S,), two at least, of unequal variance.

    A side without spread (one model under every seed) is a fixed number, and the degrees of freedom are those of the
    other side. Undefined if neither side has spread. Source: Welch, Biometrika 34 (1947) 28.
    """
    if min(len(values), len(references)) < 2 or not (np.ptp(values) or np.ptp(references)):
        return Outcome()
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # a side without spread is no defect
        test = stats.ttest_ind(values, references, equal_var=False)
    return _outcome(test, math.sqrt(sum(stats.sem(runs) ** 2 for runs in (values, references))))


def paired(values, references) -> Outcome:
    """Return the paired t test of mean(values - references): runs (S,), each pair under one seed, two at least."""
    if len(values) < 2 or not np.ptp(np.subtract(values, references)):
        return Outcome()
    return _outcome(stats.ttest_rel(values, references), float(stats.sem(np.subtract(values, references))))


def _outcome(test, error: float) -> Outcome:
    interval = test.confidence_interval(LEVEL)
    return Outcome(float(interval.low), float(interval.high), float(test.pvalue), error, float(test.df))


@cache
def errors_to_detect(freedom: float, level: float) -> float:
    """Return how many standard errors a true difference has that a two-sided t test finds with probability ``POWER``.

    The test is at ``level`` with ``freedom`` degrees of freedom, infinite for a known spread. Its power is the mean,
    over the chi-square distribution of the estimated variance, of that of a normal test (scipy's non-central t has no
    value at the large differences that a few seeds need). Source: Cohen, Statistical Power Analysis (1988), ch. 2.
    """
    critical = float(stats.norm.isf(level / 2) if math.isinf(freedom) else stats.t.isf(level / 2, freedom))
    spread = np.ones(1) if math.isinf(freedom) else np.sqrt(stats.chi2.ppf(QUANTILES, freedom) / freedom)

    def power(shift: float) -> float:
        return float(np.mean(stats.norm.sf(critical * spread - shift) + stats.norm.cdf(-critical * spread - shift)))

    return float(optimize.brentq(lambda shift: power(shift) - POWER, 0, 2 * critical + 10))


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
    ends = float(low / (seeds * images)), float(high / (seeds * images))
    return Outcome(*ends, min(1.0, float(p)), float(np.std(differences)) / (seeds * math.sqrt(images)))


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
