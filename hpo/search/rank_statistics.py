"""How well early values predict the order of final values: pure statistics of unpruned trials.

Larger values are better. All intervals are 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

REPEATS = 2_000
"""Bootstrap resamples of an interval."""
TAIL = 0.025


@dataclass(frozen=True)
class RankStatistic:
    """A statistic and its interval; NaN if there are too few trials."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.value != self.value:
            return "–"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def kendall_tau(early: ArrayLike, late: ArrayLike) -> float:
    """Kendall's tau-b, which corrects for ties; NaN for fewer than two items, or if one side has only equal values."""
    early = np.asarray(early, dtype=float)
    return float(taus(early, late, np.ones((1, len(early))))[0])


def taus(early: ArrayLike, late: ArrayLike, weights: Array) -> Array:
    """Tau-b for every row of `weights`, which say how often each item counts; see `resamples`.

    Copies of one item are neither concordant nor discordant, so an item that is drawn twice adds no agreement.
    """
    first, second = _signs(early), _signs(late)
    agreement, one, other = (_pairs(weights, matrix) for matrix in (first * second, abs(first), abs(second)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(agreement / np.sqrt(one * other))


def resamples(count: int, repeats: int = REPEATS, seed: int = 0) -> Array:
    """How often each of `count` items occurs in each of `repeats` bootstrap resamples, (repeats, count)."""
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))  # its stream never changes
    return np.asarray(random.multinomial(count, np.full(count, 1 / count), size=repeats), dtype=float)


def interval(value: float, resampled: Array) -> RankStatistic:
    """The value with the percentile interval of its bootstrap resamples, without those that are NaN."""
    sound = resampled[np.isfinite(resampled)]
    if not len(sound):
        return RankStatistic(value, float("nan"), float("nan"))
    low, high = np.percentile(sound, [100 * TAIL, 100 * (1 - TAIL)])
    return RankStatistic(value, float(low), float(high))


def tau(early: ArrayLike, late: ArrayLike) -> RankStatistic:
    """Kendall's tau-b with its bootstrap interval over the items."""
    count = len(np.asarray(early))
    if count < 2:
        return RankStatistic(float("nan"), float("nan"), float("nan"))
    return interval(kendall_tau(early, late), taus(early, late, resamples(count)))


def winner_weights(late: ArrayLike) -> Array:
    """The chance that each item is the best of a bootstrap resample: about 0.63, 0.23, 0.09, ... from the top.

    With these weights a figure is about "the best of so many trials", not only about the trial that was best by chance.
    Ties go to the earlier item.
    """
    values = np.asarray(late, dtype=float)
    count = len(values)
    steps = ((count - np.arange(count + 1)) / max(count, 1)) ** count  # chance that none of the best k is drawn
    weights: Array = np.empty(count)
    weights[np.argsort(-values, kind="stable")] = steps[:-1] - steps[1:]
    return weights


def winner_share(holds: Sequence[bool] | NDArray[np.bool_], late: ArrayLike) -> RankStatistic:
    """The estimated chance that something holds for the winner, e.g. that it survives a rung.

    The share is weighted by `winner_weights`. Its interval is Jeffreys' for Kish's effective sample size of these
    weights, which is 2 to 3: a single study says little about winners.
    """
    weights = winner_weights(late)
    if not len(weights):
        return RankStatistic(float("nan"), 0.0, 1.0)
    share = float(weights @ np.asarray(holds, dtype=float))
    return jeffreys(min(share, 1.0), 1 / float(weights @ weights))


def jeffreys(share: float, count: float) -> RankStatistic:
    """Jeffreys' interval of a share of `count` trials (Brown, Cai & DasGupta, Stat. Sci. 16, 2001). It starts at 0
    for a share of 0 and ends at 1 for a share of 1.

    Raises:
        ValueError: `count` is 0, or the share is outside 0 to 1.
    """
    from scipy.stats import beta  # takes half a second, and only an audit needs it

    if count <= 0 or not 0 <= share <= 1:
        raise ValueError(f"no interval of a share of {share} among {count}")
    hits = share * count
    low, high = beta.ppf([TAIL, 1 - TAIL], hits + 0.5, count - hits + 0.5)
    return RankStatistic(share, 0.0 if share == 0 else float(low), 1.0 if share == 1 else float(high))


def _signs(values: ArrayLike) -> Array:
    values = np.asarray(values, dtype=float)
    return np.asarray(np.sign(values[:, None] - values[None, :]))


def _pairs(weights: Array, matrix: Array) -> Array:
    """The weighted sum over all ordered pairs, for every row of weights."""
    return np.asarray(((weights @ matrix) * weights).sum(axis=1))
