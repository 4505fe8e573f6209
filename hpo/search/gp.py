"""The Gaussian-process policy: one model over configuration and epoch, improvement sought at the full horizon.

A trial contributes its values at epochs 1, 4, 16, ... and its last one, all values together as normal scores of
their ranks. Values of few epochs thus inform without deceiving: the model learns how far they agree with later
ones. Running trials count as if they would end as predicted ("kriging believer", Ginsbourger, Le Riche and
Carraro 2010), so that no two workers get the same configuration; failed ones as worse than every other. A configuration
is tried again only where none is left that has not been tried.

Trials of earlier studies join with the scores that they had among their own, and with one more feature for each
study: how far it speaks for this one is a length scale that is fitted like the others, to nothing where the two
disagree. And the more trials of its own a study has completed, the fewer of the earlier ones it is shown.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from scipy.special import erfcx, ndtri
from scipy.stats import rankdata

from hpo.ledger.transfer import Past, thinned
from hpo.search.gp_regression import Posterior, fit
from hpo.search.unit_cube import Array, UnitCube

MIN_TRIALS = 4
"""Fewer trials with a value teach nothing that even spreading does not do better."""
MAX_OBSERVATIONS, MAX_FITTED = 256, 100
"""What the posterior and the fit of its kernel see at most; they bound the time of a suggestion."""
MAX_PAST, PAST_PER_COMPLETE = 64, 8
"""Observations of earlier studies at most, and how many fewer for each trial that this study has completed."""
SEPARATION = 0.05
"""Least distance to running trials, in features; a twentieth of one parameter's range."""
CANDIDATES, NEIGHBOURS, LEADERS, ROUNDS = 400, 30, 5, 6


def propose(
    space: UnitCube,
    trials: Sequence[FrozenTrial],
    *,
    horizon: int,
    sign: float,
    rng: np.random.Generator,
    past: Sequence[Past] = (),
) -> Array | None:
    """The point of the unit cube with the greatest expected improvement at `horizon`, or None so early.

    Args:
        trials: all others of the study, in any state; intermediate values are keyed by epoch.
        horizon: epochs of a full training.
        sign: 1 where larger values are better, -1 where smaller ones are.
        past: trials of earlier studies, larger values are better.
    """
    curves = [_curve(trial, horizon, sign) for trial in trials]
    if sum(map(bool, curves)) < (1 if past else MIN_TRIALS):
        return None
    cube = space.encode([trial.params for trial in trials])
    names = list(dict.fromkeys(one.source for one in past))
    features = _with_sources(space.features(cube), len(names))
    owners = np.append(space.owners(), len(space) + np.arange(len(names) + 1))
    trial, epoch, value = observations(curves)
    scores = normal_scores(value)
    kept = thin(epoch, scores, MAX_OBSERVATIONS)
    x, y = _at(features[trial[kept]], epoch[kept], horizon), scores[kept]
    most = MAX_PAST - PAST_PER_COMPLETE * sum(max(curve, default=0) >= horizon for curve in curves)
    px, py = _past(space, past, names, max(most, 0))
    fitted = np.append(_even(len(x), MAX_FITTED - len(px) // 2), len(x) + _even(len(px), MAX_FITTED // 2))
    x, y = np.vstack([x, px]), np.append(y, py)
    posterior = Posterior(fit(x[fitted], y[fitted], owners), x, y)
    ends = _at(features, np.full(len(features), horizon), horizon)
    final, _ = posterior.predict(ends)
    best = float(final.max())
    pending = [i for i, one in enumerate(trials) if not one.state.is_finished()]
    if pending:
        x, y = np.vstack([x, ends[pending]]), np.append(y, final[pending])
        posterior = Posterior(posterior.kernel, x, y, exact=len(pending))

    tried = set(space.keys(cube))

    def improvement(points: Array, repeats: bool = False) -> Array:
        rows = _with_sources(space.features(points), len(names))
        mean, deviation = posterior.predict(_at(rows, np.full(len(rows), horizon), horizon))
        value = log_expected_improvement(mean, deviation, best)
        shut = distance(rows, features[pending]) < SEPARATION
        if not repeats:
            shut |= np.array([key in tried for key in space.keys(points)])
        return np.where(shut, -np.inf, value)

    leaders = cube[np.argsort(-final, kind="stable")[:LEADERS]]
    point = maximise(improvement, space, leaders, rng)
    if space.keys(point[None])[0] in tried:  # as all are that were looked at
        point = maximise(functools.partial(improvement, repeats=True), space, leaders, rng)
    return point


def _past(space: UnitCube, past: Sequence[Past], names: Sequence[str], most: int) -> tuple[Array, Array]:
    """Earlier studies as observations: positions, and scores within each study; at most `most` in all."""
    xs, ys = [np.zeros((0, len(space.owners()) + len(names) + 1))], [np.zeros(0)]
    for index, name in enumerate(names):
        ours = [one for one in past if one.source == name]
        trial, epoch, value = observations([dict(one.curve) for one in ours])
        scores = normal_scores(value)
        kept = thin(epoch, scores, most // len(names))
        features = _with_sources(space.features(space.encode([one.values for one in ours])), len(names), index)
        horizons = np.array([one.horizon for one in ours])[trial[kept]]
        xs.append(_at(features[trial[kept]], epoch[kept], horizons))
        ys.append(scores[kept])
    return np.vstack(xs), np.concatenate(ys)


def _with_sources(features: Array, count: int, source: int | None = None) -> Array:
    """Features and one more for each earlier study: 1 in that of `source`, 0 in all of the present study."""
    beside = np.zeros((len(features), count))
    if source is not None:
        beside[:, source] = 1.0
    return np.hstack([features, beside])


def _even(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` indices of `count`, evenly spread."""
    return np.asarray(np.linspace(0, count - 1, min(count, most)).round(), dtype=np.intp)


def observations(curves: Sequence[dict[int, float]]) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """What the model sees of the curves, as (trial index, epoch, value) of each observation."""
    rows = [(index, epoch, curve[epoch]) for index, curve in enumerate(curves) for epoch in thinned(sorted(curve))]
    trial, epoch, value = zip(*rows, strict=True)
    return np.array(trial, dtype=np.intp), np.array(epoch, dtype=np.intp), np.array(value, dtype=float)


def thin(epoch: NDArray[np.intp], scores: Array, most: int) -> NDArray[np.intp]:
    """At most `most` observations, the longest trainings first, and of the last epoch that fits an even sample
    over its values: the bad ones must stay known as bad."""
    order = np.lexsort((-scores, -epoch))
    kept = order[:most]
    if len(order) > most:
        level = epoch[order] == epoch[order[most]]
        above = int(np.argmax(level))
        here = order[level]
        kept[above:] = here[np.linspace(0, len(here) - 1, most - above).round().astype(int)]
    return kept


def normal_scores(values: Array) -> Array:
    """Standard normal quantiles of the values' ranks; equal values share their mean rank."""
    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Logarithm of E[max(f - best, 0)] for normal f, accurate far below `best` too (Ament et al., arXiv
    2310.20708, equation 9)."""
    z = (mean - best) / deviation
    low = np.minimum(z, 0.0)
    mills = math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2))
    far = -0.5 * low * low - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(1 + low * mills, 1e-300))
    high = np.maximum(z, 0.0)
    density = np.exp(-0.5 * high * high) / math.sqrt(2 * math.pi)
    near = np.log(density + high * (1 - density * math.sqrt(math.pi / 2) * erfcx(high / math.sqrt(2))))
    return np.asarray(np.where(z < 0, far, near) + np.log(deviation))


def distance(a: Array, b: Array) -> Array:
    """Distance of each row of `a` to the nearest row of `b`; infinite where there is none."""
    return np.asarray(np.sqrt(((a[:, None] - b[None]) ** 2).sum(2)).min(axis=1, initial=np.inf))


def maximise(value: Callable[[Array], Array], space: UnitCube, leaders: Array, rng: np.random.Generator) -> Array:
    """Random search over the cube and around `leaders`, then ever smaller steps around the best points found.

    Steps, not gradients: choices, integers and parameters that come and go are no obstacle.
    """
    around = _filled(leaders, rng).repeat(NEIGHBOURS, axis=0)
    raw = np.vstack([rng.random((CANDIDATES, len(space))), _stepped(around, 0.15, rng)])
    points = space.settle(raw)
    values = value(points)
    for round_ in range(ROUNDS):
        top = np.argsort(-values, kind="stable")[:LEADERS]
        around = _filled(points[top], rng).repeat(NEIGHBOURS, axis=0)
        new = space.settle(_stepped(around, 0.12 * 0.6**round_, rng))
        points, values = np.vstack([points[top], new]), np.append(values[top], value(new))
    return np.asarray(points[np.argmax(values)])


def _stepped(points: Array, size: float, rng: np.random.Generator) -> Array:
    """Some coordinates of each point moved by a normal step, reflected at the borders, or drawn anew."""
    count, dimensions = points.shape
    moved = rng.random(points.shape) < max(0.3, 1.5 / dimensions)
    moved[np.arange(count), rng.integers(dimensions, size=count)] = True
    stepped = np.abs(points + rng.normal(scale=size, size=points.shape))
    stepped = np.where(stepped > 1, 2 - stepped, stepped)
    anew = rng.random(points.shape) < 0.1
    return np.where(moved, np.where(anew, rng.random(points.shape), stepped), points)


def _filled(points: Array, rng: np.random.Generator) -> Array:
    """Inactive coordinates drawn at random, in case a step activates them."""
    return np.where(np.isnan(points), rng.random(points.shape), points)


def _at(features: Array, epoch: NDArray[np.intp], horizon: int | NDArray[np.intp]) -> Array:
    """Features and the epoch beside them, logarithmic, -0.5 at epoch 1 and 0.5 at the horizon."""
    return np.column_stack([features, np.log(epoch) / np.maximum(np.log(horizon), 1.0) - 0.5])


def _curve(trial: FrozenTrial, horizon: int, sign: float) -> dict[int, float]:
    """Values by epoch, larger is better; that of a failed trial at the horizon is minus infinity."""
    curve = {max(epoch, 1): sign * value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
    if not curve and trial.state == TrialState.COMPLETE and math.isfinite(trial.values[0]):
        curve[horizon] = sign * trial.values[0]
    if trial.state == TrialState.FAIL:
        curve[horizon] = -math.inf
    return curve
