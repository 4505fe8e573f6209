"""The Gaussian-process policy: one model over configuration and epoch, which seeks improvement at the last epoch.

A trial contributes its values at epochs 1, 4, 16, ... and at its last epoch. All values together become normal scores
of their ranks. So short runs inform the model without biasing it: the model learns how far they agree with longer ones.
Running trials count as if they would end as predicted ("kriging believer", Ginsbourger, Le Riche and Carraro 2010), so
that no two workers get the same configuration. Failed trials count as worse than all others. A configuration is tried
again only if every configuration has been tried.

Trials of earlier studies join with their scores among the trials of their own study, and with one more feature per
study. The length scale of that feature says how far the study is evidence for this one; it is fitted like the others,
and becomes so short that the study has no influence if the two disagree. The more trials this study has completed, the
fewer trials of earlier studies the model gets.

Priors multiply the expected improvement by a power of their density, which fades with evidence: see
`hpo.search.policies.prior`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from optuna.trial import TrialState
from scipy.special import ndtri
from scipy.stats import rankdata

from hpo.ledger.transfer import Past, thinned
from hpo.search.policies.acquisition import LEADERS, distance, log_expected_improvement, maximise
from hpo.search.policies.gp_regression import Kernel, Posterior, fit
from hpo.search.policies.history import View, even, shares
from hpo.search.policies.prior import PriorDensity, fading
from hpo.search.policies.seen import Seen
from hpo.search.unit_cube import Array, UnitCube

MIN_TRIALS = 4
"""With fewer trials that have a value, evenly spread trials are better."""
MAX_OBSERVATIONS, MAX_FITTED = 256, 100
"""Most observations for the posterior and for the fit of its kernel; they bound the time of a suggestion."""
MAX_AT_END = 192
"""Most of them from the last epoch of a full training, where earlier epochs have enough to fill the other places."""
MAX_PAST, PAST_PER_COMPLETE = 64, 8
"""Most observations of earlier studies, and how many fewer for each trial that this study has completed."""
SEPARATION = 0.05
"""Least distance to running trials, in features: a twentieth of the range of one parameter."""


def propose(
    view: View,
    curves: Sequence[Mapping[int, float]],
    *,
    horizon: int,
    rng: np.random.Generator,
    past: Sequence[Past] = (),
    prior: PriorDensity | None = None,
) -> Array | None:
    """The point of the unit cube with the greatest expected improvement at `horizon`; None while there are too few
    trials to learn from.

    Args:
        view: the other trials that the model sees, in any state.
        curves: of these trials, as `curve` makes them.
        horizon: epochs of a full training.
        past: trials of earlier studies; larger values are better.
        prior: where good values are expected.
    """
    model = EndModel.of(view, curves, horizon=horizon, past=past)
    if model is None:
        return None
    space, running = view.space, model.running
    acquisition = Acquisition(
        posterior=model.believed(),
        best=float(model.final.max()),
        pending=model.features[running],
        tried=view.tried,
        space=space,
        sources=model.sources,
        horizon=horizon,
        prior=prior,
        prior_weight=fading(sum(max(curve, default=0) for curve in curves) / horizon),
    )
    leaders = view.cube[np.argsort(-model.final, kind="stable")[:LEADERS]]
    if prior is not None:
        leaders = np.vstack([leaders, prior.center])
    point = maximise(acquisition, space, leaders, rng)
    if space.keys(point[None])[0] in acquisition.tried:  # no point that it looked at was new
        point = maximise(replace(acquisition, tried=frozenset()), space, leaders, rng)
    return point


@dataclass(frozen=True)
class EndModel:
    """What the model expects of configurations at the last epoch, in normal scores."""

    kernel: Kernel
    known: Observations
    posterior: Posterior
    """Given what was observed."""
    features: Array
    """Of the trials of the view, with one more for each earlier study."""
    final: Array
    """Mean of each of these trials at the last epoch."""
    running: list[int]
    """Which of them have not ended."""
    sources: int
    """Number of earlier studies."""
    horizon: int

    @classmethod
    def of(
        cls,
        view: View,
        curves: Sequence[Mapping[int, float]],
        *,
        horizon: int,
        past: Sequence[Past] = (),
        kernel: Kernel | None = None,
    ) -> EndModel | None:
        """The model after these trials, as for `propose`; None while there are too few to learn from.

        Args:
            kernel: of an earlier model, which saves the time to fit one.
        """
        if sum(map(bool, curves)) < (1 if past else MIN_TRIALS):
            return None
        space = view.space
        sources = list(dict.fromkeys(trial.source for trial in past))
        features = _with_sources(view.features, len(sources))
        ours = Observations.of_study(features, curves, horizon)
        complete = sum(max(curve, default=0) >= horizon for curve in curves)
        earlier = Observations.of_earlier(space, past, sources, max(MAX_PAST - PAST_PER_COMPLETE * complete, 0))
        if kernel is None:
            fitted = ours.spread(MAX_FITTED - len(earlier.x) // 2) + earlier.spread(MAX_FITTED // 2)
            kernel = fit(fitted.x, fitted.y, np.append(space.owners(), len(space) + np.arange(len(sources) + 1)))
        known = ours + earlier
        posterior = Posterior(kernel, known.x, known.y)
        final = posterior.mean(_at(features, np.full(len(features), horizon), horizon))
        running = [index for index, trial in enumerate(view.trials) if not trial.ended]
        return cls(kernel, known, posterior, features, final, running, len(sources), horizon)

    def believed(self) -> Posterior:
        """The posterior if running trials end as predicted."""
        if not self.running:
            return self.posterior
        known = self.known + Observations(self._ends(self.features[self.running]), self.final[self.running])
        return Posterior(self.kernel, known.x, known.y, exact=len(self.running))

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at the last epoch of configurations with these features of the space."""
        return self.posterior.predict(self._ends(_with_sources(features, self.sources)))

    def at(self, features: Array, epochs: Sequence[int]) -> Array:
        """Where the posterior has the values of the trials with these features (of the model) after so many epochs."""
        return _at(features, np.asarray(epochs, dtype=np.intp), self.horizon)

    def _ends(self, features: Array) -> Array:
        return self.at(features, [self.horizon] * len(features))


@dataclass(frozen=True)
class Observations:
    """What the model learns from."""

    x: Array
    """Features, one for each earlier study, and the epoch: (n, features)."""
    y: Array
    """Normal scores, (n,)."""

    @classmethod
    def of_study(cls, features: Array, curves: Sequence[Mapping[int, float]], horizon: int) -> Observations:
        """The trials of this study, at most `MAX_OBSERVATIONS` values; `features` has a row for each curve."""
        trial, epoch, value = observations(curves)
        scores = normal_scores(value)
        kept = thin(epoch, scores, MAX_OBSERVATIONS, MAX_AT_END)
        return cls(_at(features[trial[kept]], epoch[kept], horizon), scores[kept])

    @classmethod
    def of_earlier(cls, space: UnitCube, past: Sequence[Past], sources: Sequence[str], most: int) -> Observations:
        """Trials of earlier studies, at most `most` values; the scores are among the trials of each study."""
        known = cls(np.zeros((0, len(space.owners()) + len(sources) + 1)), np.zeros(0))
        for index, source in enumerate(sources):
            trials = [trial for trial in past if trial.source == source]
            trial, epoch, value = observations([dict(trial.curve) for trial in trials])
            scores = normal_scores(value)
            kept = thin(epoch, scores, most // len(sources))
            cube = space.encode([trial.values for trial in trials])
            features = _with_sources(space.features(cube), len(sources), index)
            horizons = np.array([trial.horizon for trial in trials])[trial[kept]]
            known += cls(_at(features[trial[kept]], epoch[kept], horizons), scores[kept])
        return known

    def __add__(self, other: Observations) -> Observations:
        return Observations(np.vstack([self.x, other.x]), np.append(self.y, other.y))

    def spread(self, most: int) -> Observations:
        """At most `most` of them, evenly spread over their order."""
        kept = np.array(even(range(len(self.y)), most), dtype=np.intp)
        return Observations(self.x[kept], self.y[kept])


@dataclass(frozen=True)
class Acquisition:
    """How promising points are: the logarithm of the expected improvement at the last epoch."""

    posterior: Posterior
    best: float
    """The greatest value predicted for a trial."""
    pending: Array
    """Features of running trials; points closer to one than `SEPARATION` are excluded."""
    tried: Collection[bytes]
    """Keys of the points that are excluded because they have been tried."""
    space: UnitCube
    sources: int
    """Number of earlier studies."""
    horizon: int
    prior: PriorDensity | None = None
    prior_weight: float = 0.0
    """The power to which the prior's density is raised, 0 to 1."""

    def __call__(self, points: Array) -> Array:
        """For points of the unit cube; minus infinity for those that are excluded."""
        features = _with_sources(self.space.features(points), self.sources)
        mean, deviation = self.posterior.predict(_at(features, np.full(len(features), self.horizon), self.horizon))
        excluded = distance(features, self.pending) < SEPARATION
        if self.tried:
            excluded |= np.array([key in self.tried for key in self.space.keys(points)])
        value = log_expected_improvement(mean, deviation, self.best)
        if self.prior is not None:
            value = value + self.prior_weight * self.prior.log(points)
        return np.where(excluded, -np.inf, value)


def _with_sources(features: Array, count: int, source: int | None = None) -> Array:
    """Features and one more for each earlier study: 1 for the study of number `source`, else 0."""
    beside = np.zeros((len(features), count))
    if source is not None:
        beside[:, source] = 1.0
    return np.hstack([features, beside])


def observations(curves: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
    """What the model sees of the curves, as (trial index, epoch, value) of each observation."""
    rows = [(index, epoch, curve[epoch]) for index, curve in enumerate(curves) for epoch in thinned(sorted(curve))]
    trial, epoch, value = zip(*rows, strict=True)
    return np.array(trial, dtype=np.intp), np.array(epoch, dtype=np.intp), np.array(value, dtype=float)


def thin(epoch: NDArray[np.intp], scores: Array, most: int, at_end: int | None = None) -> NDArray[np.intp]:
    """At most `most` observations, those of the last epochs. The earliest epoch that still fits gets an even sample
    over its values, so that the model also knows bad configurations.

    Args:
        at_end: if the very last epoch has more observations than this, it gets an even sample of so many, and earlier
            epochs share the other places equally: their trials were stopped, and show where the space is bad.
    """
    order = np.lexsort((-scores, -epoch))
    if len(order) <= most:
        return order
    _, starts = np.unique(-epoch[order], return_index=True)
    levels: list[list[int]] = [level.tolist() for level in np.split(order, starts[1:])]
    if at_end is not None and len(levels[0]) > at_end:
        before = min(most - at_end, len(order) - len(levels[0]))
        places = [most - before, *shares([len(level) for level in levels[1:]], before)]
    else:
        filled = np.minimum(np.cumsum([len(level) for level in levels]), most)
        places = np.diff(filled, prepend=0).tolist()
    kept = [index for level, count in zip(levels, places, strict=True) for index in even(level, count)]
    return np.array(kept, dtype=np.intp)


def normal_scores(values: Array) -> Array:
    """Standard normal quantiles of the values' ranks; equal values share their mean rank."""
    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def _at(features: Array, epoch: NDArray[np.intp], horizon: int | NDArray[np.intp]) -> Array:
    """Features and the epoch as one more: logarithmic, -0.5 at epoch 1 and 0.5 at the horizon."""
    return np.column_stack([features, np.log(epoch) / np.maximum(np.log(horizon), 1.0) - 0.5])


def curve(trial: Seen, horizon: int, sign: float) -> dict[int, float]:
    """What the model sees of a trial: values by epoch, larger is better; a failed one has -inf at the horizon.

    Args:
        horizon: epochs of a full training.
        sign: 1 if larger values are better, -1 if smaller values are.
    """
    values = {max(epoch, 1): sign * value for epoch, value in trial.values.items() if math.isfinite(value)}
    if not values and trial.final is not None and math.isfinite(trial.final):
        values[horizon] = sign * trial.final
    if trial.state == TrialState.FAIL:
        values[horizon] = -math.inf
    return {epoch: values[epoch] for epoch in thinned(sorted(values))}
