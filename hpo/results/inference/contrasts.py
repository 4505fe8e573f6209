"""Differences of configurations over shared seeds, in the two-way layout configuration + seed.

The model: score = configuration + seed + noise. A seed shifts all configurations alike, so it leaves every paired
difference. The noise is normal and its variance is pooled over all configurations, because three seeds of two
configurations say little about it. Where the variances are plainly unequal, each pair keeps most of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scores = Mapping[int, Mapping[int, float]]
"""Scores by configuration and seed; larger is better."""

FINEST = 1e-4
"""The least standard deviation of a difference of two accuracies: one image in ten thousand. With a few seeds it may
seem smaller, because accuracies are rounded to shares of a thousand images."""


@dataclass(frozen=True)
class Contrasts:
    """All differences of configurations, (k, k) arrays; NaN where two share fewer than two seeds."""

    means: Array
    """[i, j]: mean of i minus mean of j over the seeds that both have."""
    errors: Array
    """Standard errors of `means`."""
    freedom: Array
    """Degrees of freedom of `errors`."""
    shared: Array
    """Number of shared seeds."""
    present: NDArray[np.bool_]
    """Which configuration has which seed, (k, seeds)."""

    def correlation(self, reference: int, others: Sequence[int]) -> Array:
        """The correlations of the differences between `reference` and each of `others`, (m, m): they have the scores of
        the reference in common. 0.5 if all have the same seeds (Dunnett 1955)."""
        with_reference = (self.present[list(others)] & self.present[reference]).astype(float)
        counts = with_reference.sum(axis=1)
        correlation = with_reference @ with_reference.T / (2 * np.sqrt(np.outer(counts, counts)))
        np.fill_diagonal(correlation, 1.0)
        return np.asarray(correlation)


def contrasts(scores: Scores, finest: float = FINEST) -> Contrasts:
    """The differences of all configurations with standard errors.

    Args:
        scores: of at least two configurations.
        finest: the least standard deviation of a difference.
    """
    table, present = table_of(scores)
    shared = present.astype(float) @ present.T
    gaps = table[:, None, :] - table[None, :, :]
    both = present[:, None, :] & present[None, :, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(both, gaps, 0.0).sum(axis=2) / np.where(shared > 1, shared, np.nan)
        own = (np.where(both, gaps - means[:, :, None], 0.0) ** 2).sum(axis=2) / (shared - 1)
    own = np.maximum(own, finest**2)
    pooled, freedom = pooled_variance(table, present)
    upper = [(i, j) for i in range(len(table)) for j in range(i) if shared[i, j] > 1]
    variances, degrees = np.full_like(own, np.nan), np.full_like(own, np.nan)
    moved = moderated(
        [own[pair] for pair in upper],
        [shared[pair] - 1 for pair in upper],
        max(2 * pooled, finest**2),
        freedom,
    )
    for (i, j), (variance, degree) in zip(upper, moved, strict=True):
        variances[i, j] = variances[j, i] = variance
        degrees[i, j] = degrees[j, i] = degree
    with np.errstate(invalid="ignore", divide="ignore"):
        return Contrasts(means, np.sqrt(variances / shared), degrees, shared, present)


def table_of(scores: Scores) -> tuple[Array, NDArray[np.bool_]]:
    """Scores as a table, (k, seeds), 0 where there is none; and where there is one."""
    seeds = sorted({seed for own in scores.values() for seed in own})
    table = np.array([[own.get(seed, math.nan) for seed in seeds] for own in scores.values()], dtype=float)
    present = np.isfinite(table)
    return np.where(present, table, 0.0), present


def pooled_variance(table: Array, present: NDArray[np.bool_]) -> tuple[float, int]:
    """The residual variance of the two-way layout (of one training), and its degrees of freedom; (0, 0) without any."""
    rows, columns = np.nonzero(present)
    design = np.zeros((len(rows), sum(present.shape)))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), present.shape[0] + columns] = 1
    values = table[rows, columns]
    fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(rows) - int(rank)
    return (float(((values - design @ fitted) ** 2).sum()) / freedom, freedom) if freedom else (0.0, 0)


def moderated(
    variances: Sequence[float], freedoms: Sequence[float], pooled: float, most: float
) -> list[tuple[float, float]]:
    """Each variance, moved towards the common one as far as they are alike, with its degrees of freedom.

    Smyth, "Linear models and empirical Bayes methods for assessing differential expression in microarray experiments"
    (2004): limma's `eBayes`. A configuration with a much greater variance keeps its own, and does not change that of
    the others.

    Args:
        variances, freedoms: each variance and its degrees of freedom, above 0.
        pooled: the common variance where a single one explains all.
        most: degrees of freedom of `pooled`, the most that any variance can have.
    """
    if len(variances) < 2:
        return [(variance, float(freedom)) for variance, freedom in zip(variances, freedoms, strict=True)]
    from scipy.special import digamma, polygamma

    v, f = np.array(variances), np.array(freedoms)
    logs = np.log(v) - digamma(f / 2) + np.log(f / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, f / 2).mean())
    if excess <= 0:
        return [(pooled, float(max(freedom, most))) for freedom in freedoms]
    prior = 2 * _inverse_trigamma(excess)
    common = math.exp(float(logs.mean()) + float(digamma(prior / 2)) - math.log(prior / 2))
    moved = (prior * common + f * v) / (prior + f)
    degrees = np.maximum(f, np.minimum(prior + f, most))
    return list(zip(moved.tolist(), degrees.tolist(), strict=True))


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
