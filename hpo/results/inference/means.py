"""Intervals of the mean scores of all configurations at once, so that they hold for whichever is chosen by its mean."""

from __future__ import annotations

import math

import numpy as np

from hpo.results.inference.contrasts import FINEST, Scores, moderated, pooled_variance, table_of
from hpo.results.inference.max_t import ALPHA, FEWEST, critical_value
from hpo.results.intervals import Interval


def mean_intervals(scores: Scores, alpha: float = ALPHA, finest: float = FINEST) -> dict[int, Interval]:
    """The mean of each configuration with at least `FEWEST` seeds, with its interval; the intervals hold together.

    The expected score over new seeds varies by the configuration's noise and by what a seed does to all configurations.
    The variance of both is pooled over the configurations as far as they are alike, with Satterthwaite's degrees of
    freedom (Biometrics Bulletin 2, 1946). The means correlate as far as seeds act on all configurations alike.

    Args:
        scores: by configuration and seed.
        alpha: chance that any of the intervals misses its mean.
        finest: the least standard deviation of a difference of two scores.
    """
    groups = {one: np.array(list(own.values())) for one, own in scores.items() if len(own) >= FEWEST}
    if not groups:
        return {}
    table, present = table_of(scores)
    count, seeds = len(groups), max(map(len, groups.values()))
    freedoms = [len(values) - 1 for values in groups.values()]
    variances = [max(float(values.var(ddof=1)), finest**2 / 2) for values in groups.values()]
    pooled = float(np.dot(variances, freedoms)) / sum(freedoms)
    noise, noise_freedom = pooled_variance(table, present)
    noise = min(noise, pooled)
    shared = count * pooled - (count - 1) * noise  # the mean square between seeds
    spread = (shared / count) ** 2 / (seeds - 1)
    spread += ((count - 1) * noise / count) ** 2 / noise_freedom if noise_freedom else 0.0
    alike = math.floor(4 * max(0.0, (shared - noise) / (shared + (count - 1) * noise))) / 4
    alike = min(alike, 0.75)
    correlation = np.full((len(scores),) * 2, alike)
    np.fill_diagonal(correlation, 1.0)  # a correlation that is too small makes intervals wider
    found = {}
    moved = moderated(variances, freedoms, pooled, pooled**2 / spread)
    for (one, values), (variance, freedom) in zip(groups.items(), moved, strict=True):
        mean = float(values.mean())
        half = critical_value(correlation, freedom, alpha) * float(np.sqrt(variance / len(values)))
        found[one] = Interval(mean, mean - half, mean + half)
    return found
