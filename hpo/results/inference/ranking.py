"""Which configuration is the best over shared seeds, how sure that is, and which need no further seed.

Hsu's multiple comparisons with the best ("Constrained simultaneous confidence intervals for multiple comparisons with
the best", Annals of Statistics 12, 1984) compare each configuration with the best of the others. The race follows Maron
and Moore ("Hoeffding races", NIPS 1994) and F-Race (Birattari et al., GECCO 2002): it drops what cannot be the best.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hpo.results.inference.contrasts import FINEST, Array, Contrasts, Scores, contrasts
from hpo.results.inference.max_t import ALPHA, FEWEST, critical_value
from hpo.results.intervals import Interval

RACE_ALPHA = 0.01
"""The part of `ALPHA` that the race may spend: the chance that it drops the best configuration at any of its looks."""
DRAWS = 4_000
"""Draws of the probability of being the best; its standard error is at most 0.8 points."""
GRID = 40
"""Values tried for the standard deviation between configurations."""


@dataclass(frozen=True)
class Versus:
    """A configuration against the best of the others."""

    mean: float
    """Its mean minus that of the best of the others, over the seeds that the two share."""
    interval: Interval | None
    """Simultaneous for all configurations, with 0 inside or at an end; None below three shared seeds."""
    may_be_best: bool
    least: float
    """The lower bound: it is at most so much worse than the best. Minus infinity below three shared seeds."""

    def within(self, most: float) -> Versus:
        """With an interval that ends where differences of scores do, at `-most` and `most`."""
        return replace(self, interval=self.interval.within(-most, most)) if self.interval else self


def look_alpha(wanted: int) -> float:
    """The error of each look of a race to `wanted` seeds. There is one after each seed from the second to the last but
    one; Bonferroni's inequality adds them up to `RACE_ALPHA`."""
    return RACE_ALPHA / max(1, wanted - 2)


def race(
    scores: Scores, wanted: Mapping[int, int], spared: Collection[int] = (), finest: float = FINEST
) -> dict[int, int]:
    """The configurations that the race dropped, each with the number of seeds after which it did.

    After each seed from the second on, a configuration is dropped if it is worse than another by more than chance. The
    looks are at the first seeds of all configurations, so the same records always give the same answer. A look waits
    until all that are still in the race have the seed.

    Args:
        scores: by configuration and index of the seed, from 0.
        wanted: seeds that each configuration was planned for.
        spared: configurations that are never dropped.
        finest: the least standard deviation of a difference of two scores.
    """
    dropped: dict[int, int] = {}
    most = max(wanted.values(), default=0)
    for seeds in range(2, most):
        racing = [one for one in scores if one not in dropped and wanted[one] >= seeds]
        if len(racing) < 2 or not all(set(range(seeds)) <= scores[one].keys() for one in racing):
            break
        known = {one: {at: value for at, value in own.items() if at < seeds} for one, own in scores.items()}
        upper = _bounds(contrasts(known, finest), look_alpha(most))[1]
        order = list(known)
        dropped |= {one: seeds for one in racing if upper[order.index(one)] < 0 and one not in spared}
    return dropped


def against_the_best(scores: Scores, alpha: float, finest: float = FINEST) -> dict[int, Versus]:
    """Each configuration against the best of the others with which it shares at least two seeds. A single one is the
    best.

    Args:
        scores: by configuration and index of the seed.
        alpha: chance that any of the statements is wrong.
    """
    if len(scores) < 2:
        return {one: Versus(0.0, None, True, 0.0) for one in scores}
    gaps = contrasts(scores, finest)
    lower, upper = _bounds(gaps, alpha)
    order = list(scores)
    found = {}
    for at, one in enumerate(order):
        others = [other for other in range(len(order)) if other != at and gaps.shared[at, other] > 1]
        if not others:
            continue
        best = max(others, key=lambda other: (gaps.shared[at, other], -gaps.means[at, other]))
        mean = float(gaps.means[at, best])
        enough = gaps.shared[at, best] >= FEWEST
        interval = Interval(mean, float(min(mean, lower[at], 0)), float(max(mean, upper[at], 0))) if enough else None
        found[one] = Versus(mean, interval, bool(upper[at] > 0), float(lower[at]) if enough else -np.inf)
    return found


def _bounds(gaps: Contrasts, alpha: float) -> tuple[Array, Array]:
    """Lower and upper bound of each configuration minus the best of the others (Hsu 1984, for unequal designs)."""
    count = len(gaps.means)
    reach = np.full((count, count), np.nan)
    for one in range(count):
        others = [other for other in range(count) if other != one and gaps.shared[one, other] > 1]
        correlation = gaps.correlation(one, others)
        for freedom in set(gaps.freedom[one, others]):
            alike = [other for other in others if gaps.freedom[one, other] == freedom]
            critical = critical_value(correlation, freedom, alpha, two_sided=False)
            reach[one, alike] = critical * gaps.errors[one, alike]
    upper = np.nanmin(np.where(np.isnan(reach), np.inf, gaps.means + reach), axis=1)
    best = np.flatnonzero(upper > 0)
    low = np.where(np.isnan(reach), np.inf, gaps.means - reach)
    lower = np.array([min((low[one, other] for other in best if other != one), default=0.0) for one in range(count)])
    return lower, upper


def gains(scores: Scores, reference: int, alpha: float = ALPHA, finest: float = FINEST) -> dict[int, Interval | float]:
    """Each configuration minus the reference: Dunnett's simultaneous intervals, so that they hold for whichever is
    chosen among them; a mean alone where the two share two seeds, nothing where they share fewer.

    Args:
        scores: by configuration and index of the seed.
        reference: the configuration that the others are compared with.
    """
    gaps = contrasts(scores, finest)
    order = list(scores)
    at = order.index(reference)
    others = [other for other in range(len(order)) if other != at and gaps.shared[at, other] > 1]
    correlation = gaps.correlation(at, others)
    found: dict[int, Interval | float] = {}
    for other in others:
        mean = float(gaps.means[other, at])
        found[order[other]] = mean
        if gaps.shared[at, other] >= FEWEST:
            half = critical_value(correlation, gaps.freedom[at, other], alpha) * float(gaps.errors[at, other])
            found[order[other]] = Interval(mean, mean - half, mean + half)
    return found


def chances(scores: Scores, finest: float = FINEST) -> dict[int, float]:
    """The probability of each configuration that its expected score is the highest of all.

    Drawn from the posterior of the two-way layout, with the expected scores normal around a common mean with a standard
    deviation of their own, which has a flat prior (Gelman et al., "Bayesian Data Analysis", 2013, section 5.4). Without
    that, the highest of several equal configurations would look much better than the others. The seed of the draws is
    fixed.

    Args:
        scores: by configuration and index of the seed; those that share fewer than two seeds with the one that leads
            are left out.
        finest: the least standard deviation of a difference of two scores.
    """
    order = list(scores)
    if len(order) < 2:
        return dict.fromkeys(order, 1.0)
    gaps = contrasts(scores, finest)
    leader = max(range(len(order)), key=lambda at: (len(scores[order[at]]), np.mean(list(scores[order[at]].values()))))
    known = [at for at in range(len(order)) if at == leader or gaps.shared[at, leader] > 1]
    means = np.nan_to_num(gaps.means[known, leader])
    squares = np.nan_to_num(gaps.errors[np.ix_(known, known)]) ** 2
    centre = np.eye(len(known)) - 1 / len(known)
    values, vectors = np.linalg.eigh(-0.5 * centre @ squares @ centre)  # as in classical scaling (Torgerson 1952)
    axes = np.argsort(np.linalg.norm(centre @ vectors, axis=0))[1:]  # without that of the common mean
    drawn = _draws((means @ centre) @ vectors[:, axes], np.maximum(values[axes], 0), float(np.nanmin(gaps.freedom)))
    wins = np.bincount((drawn @ vectors[:, axes].T).argmax(axis=1), minlength=len(known)) / DRAWS
    return {order[at]: float(share) for at, share in zip(known, wins, strict=True)}


def _draws(means: Array, variances: Array, freedom: float) -> Array:
    """Draws of independent expected values, (`DRAWS`, m), that were measured as `means` with estimated `variances`."""
    random = np.random.default_rng(0)
    noise = variances * (freedom / random.chisquare(freedom, (DRAWS, 1)))
    most = 3 * np.sqrt((means**2).mean() + variances.mean())
    grid = np.linspace(0, most, GRID + 1)[1:] ** 2  # variances between configurations
    total = noise[:, None, :] + grid[:, None]
    fit = -0.5 * (np.log(total) + means**2 / total).sum(axis=2)
    weights = np.exp(fit - fit.max(axis=1, keepdims=True)).cumsum(axis=1)
    chosen = (weights < random.random((DRAWS, 1)) * weights[:, -1:]).sum(axis=1)
    between = grid[chosen][:, None]
    kept = between / (between + noise)
    drawn: Array = kept * means + np.sqrt(kept * noise) * random.standard_normal(noise.shape)
    return drawn
