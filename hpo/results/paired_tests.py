"""Student's t for a handful of repeated trainings: an interval of a mean, and tests of differences paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALPHA = 0.05
"""Tests reject below this p-value, two-sided; intervals cover 1 - ALPHA."""
FINEST = 1e-4
"""No difference of two trainings comes out the same more exactly than this: an image in ten thousand. Of a few seeds
it may seem to, by the rounding of accuracies that are shares of a thousand images."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, fractions."""

    mean: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def interval(values: Sequence[float]) -> Interval:
    """The mean of independent values with its t-interval.

    Raises:
        ValueError: fewer than two values, which say nothing of their spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs two values or more, got {len(values)}")
    from scipy.special import stdtrit

    mean = statistics.fmean(values)
    half = float(stdtrit(len(values) - 1, 1 - ALPHA / 2)) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


@dataclass(frozen=True)
class Difference:
    """How two configurations differ over seeds that both were trained with."""

    mean: float
    variance: float
    """Of one seed's difference."""
    freedom: float
    """Degrees of freedom of that estimate."""
    seeds: int

    @property
    def interval(self) -> Interval:
        """Its 95 % interval."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, 1 - ALPHA / 2)) * math.sqrt(self.variance / self.seeds)
        return Interval(self.mean, self.mean - half, self.mean + half)

    @property
    def p(self) -> float:
        """The two-sided p-value that there is none."""
        from scipy.special import stdtr

        return 2 * float(stdtr(self.freedom, -abs(self.mean) / math.sqrt(self.variance / self.seeds)))


def differences(reference: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> tuple[Difference | None, ...]:
    """What `reference` has more than each of the others, accuracies by seed, over the seeds that the two share; None
    for one that shares fewer than two.

    Paired t-tests with moderated variances: those of the differences are drawn towards their common value as far as
    they are alike (Smyth, "Linear models and empirical Bayes methods for assessing differential expression in
    microarray experiments", 2004: limma's `eBayes`). Three seeds of two configurations hardly tell how much trainings
    scatter; the other configurations help. One that scatters otherwise, as a weak recipe does, keeps a variance of
    its own and lends it to nobody.

    Limits: with three seeds and configurations that scatter alike about 6 % of equal ones are told apart; one that
    scatters ten times as much as the others is drawn down by them, and about 15 % are. Five seeds halve the excess.
    The number of tests is not corrected for.
    """
    gaps = [[reference[seed] - other[seed] for seed in sorted(reference.keys() & other.keys())] for other in others]
    told = [one for one in gaps if len(one) > 1]
    variances = iter(_moderated([max(statistics.variance(one), FINEST**2) for one in told], [len(o) - 1 for o in told]))
    return tuple(
        Difference(statistics.fmean(one), *next(variances), len(one)) if len(one) > 1 else None for one in gaps
    )


def _moderated(variances: Sequence[float], freedoms: Sequence[int]) -> list[tuple[float, float]]:
    """Each variance with its degrees of freedom, after it was drawn towards the common one."""
    if len(variances) < 2:
        return [(variance, float(freedom)) for variance, freedom in zip(variances, freedoms, strict=True)]
    from scipy.special import digamma, polygamma

    each = list(zip(variances, freedoms, strict=True))
    logs = [math.log(variance) - float(digamma(freedom / 2)) + math.log(freedom / 2) for variance, freedom in each]
    excess = statistics.variance(logs) - statistics.fmean(float(polygamma(1, freedom / 2)) for freedom in freedoms)
    # What all of them tell together: they share the reference, so that two of them are correlated by a half.
    most = 4 * sum(freedoms) / (len(freedoms) + 3)
    if excess <= 0:  # no more different than one variance would make them
        common = sum(variance * freedom for variance, freedom in each) / sum(freedoms)
        return [(common, max(freedom, most)) for freedom in freedoms]
    prior = 2 * _inverse_trigamma(excess)
    common = math.exp(statistics.fmean(logs) + float(digamma(prior / 2)) - math.log(prior / 2))
    return [
        ((prior * common + freedom * variance) / (prior + freedom), max(freedom, min(prior + freedom, most)))
        for variance, freedom in each
    ]


def _inverse_trigamma(value: float) -> float:
    """By Newton's method from below, as in Smyth's appendix; `value` > 0."""
    from scipy.special import polygamma

    found = 0.5 + 1 / value
    while True:
        there = float(polygamma(1, found))
        step = there * (1 - there / value) / float(polygamma(2, found))
        found += step
        if abs(step) < 1e-8 * found:
            return found
