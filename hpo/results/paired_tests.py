"""Student's t for a few repeated trainings: intervals of means, and tests of differences that are paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.results.intervals import Interval

ALPHA = 0.05
"""Tests reject below this p-value, two-sided; intervals cover 1 - ALPHA."""
FINEST = 1e-4
"""The least standard deviation of a difference of two trainings: one image in ten thousand. With a few seeds it may
seem smaller, because accuracies are rounded to shares of a thousand images."""


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values with its t-interval.

    Raises:
        ValueError: fewer than two values, which have no spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs two values or more, got {len(values)}")
    from scipy.special import stdtrit

    mean = statistics.fmean(values)
    half = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Difference:
    """How two configurations differ over the seeds that both were trained with."""

    mean: float
    variance: float
    """Variance of the difference with one seed."""
    freedom: float
    """Degrees of freedom of `variance`."""
    seeds: int

    @property
    def interval(self) -> Interval:
        """The mean with its 95 % interval."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 1 - ALPHA / 2)) * math.sqrt(self.variance / self.seeds)
        return Interval(self.mean, self.mean - half, self.mean + half)

    @property
    def p(self) -> float:
        """The two-sided p-value of the hypothesis that there is no difference."""
        from scipy.special import stdtr

        return 2 * float(stdtr(self.freedom, -abs(self.mean) / math.sqrt(self.variance / self.seeds)))


def differences(reference: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> tuple[Difference | None, ...]:
    """`reference` minus each of the others, over the seeds that the two share; None if they share fewer than two.

    Paired t-tests with moderated variances: each variance is moved towards the common one, as far as the variances are
    alike (Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray
    experiments", 2004: limma's `eBayes`). Three seeds of two configurations say little about the variance between
    trainings; the other configurations add to that. A configuration with a much greater variance keeps its own, and
    does not change that of the others.

    Limits: with three seeds and equal variances, the test tells about 6 % of equal configurations apart. If one
    configuration has ten times the standard deviation of the others, its variance is moved too far towards theirs, and
    the test tells it apart in about 15 % of cases. Five seeds halve the excess. The number of tests is not corrected
    for.

    Args:
        reference, others: accuracies by seed.
    """
    gaps = [[reference[seed] - other[seed] for seed in sorted(reference.keys() & other.keys())] for other in others]
    tested = [gap for gap in gaps if len(gap) > 1]
    variances = [max(statistics.variance(gap), FINEST**2) for gap in tested]
    moderated = iter(_moderated(variances, [len(gap) - 1 for gap in tested]))
    return tuple(
        Difference(statistics.fmean(gap), *next(moderated), len(gap)) if len(gap) > 1 else None for gap in gaps
    )


def _moderated(variances: Sequence[float], freedoms: Sequence[int]) -> list[tuple[float, float]]:
    """Each variance, moved towards the common one, with its degrees of freedom."""
    if len(variances) < 2:
        return [(variance, float(freedom)) for variance, freedom in zip(variances, freedoms, strict=True)]
    from scipy.special import digamma, polygamma

    each = list(zip(variances, freedoms, strict=True))
    logs = [math.log(variance) - float(digamma(freedom / 2)) + math.log(freedom / 2) for variance, freedom in each]
    excess = statistics.variance(logs) - statistics.fmean(float(polygamma(1, freedom / 2)) for freedom in freedoms)
    # The greatest freedom that all of them have together: they share the reference, so two of them correlate by 0.5.
    most = 4 * sum(freedoms) / (len(freedoms) + 3)
    if excess <= 0:  # a single variance explains the scatter of all
        common = sum(variance * freedom for variance, freedom in each) / sum(freedoms)
        return [(common, max(freedom, most)) for freedom in freedoms]
    prior = 2 * _inverse_trigamma(excess)
    common = math.exp(statistics.fmean(logs) + float(digamma(prior / 2)) - math.log(prior / 2))
    return [
        ((prior * common + freedom * variance) / (prior + freedom), max(freedom, min(prior + freedom, most)))
        for variance, freedom in each
    ]


def _inverse_trigamma(value: float) -> float:
    """The x with trigamma(x) = `value` > 0, by Newton's method from below, as in Smyth's appendix."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    while True:
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-8 * x:
            return x
