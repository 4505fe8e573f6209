"""The Gaussian-process policy as a sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.trial import TrialState

from hpo.ledger.transfer import Past
from hpo.search.policies.acquisition import Ends, Prediction
from hpo.search.policies.gp import EndModel, curve, observations, propose
from hpo.search.policies.history import History, View
from hpo.search.policies.linear_algebra import one_thread
from hpo.search.policies.scores import Scale
from hpo.search.policies.seeded import SamplerOptions, SeededSampler
from hpo.search.policies.seen import Seen
from hpo.search.trial_views import scalarised, without_accidents


class CurveGPSampler(SeededSampler):
    """A Gaussian process over configuration and epoch: see `hpo.search.policies.gp`.

    Of the trials that have ended it sees at most 1,000: see `History.spread_over_values`.
    """

    def __init__(self, options: SamplerOptions) -> None:
        super().__init__(options)
        self._curves: dict[tuple[int, TrialState, int], dict[int, float]] = {}
        """Of the trials that have ended, by number, state and count of values: a pruned one may be taken up again."""

    def _propose(
        self, history: History, number: int, rng: np.random.Generator, past: Sequence[Past]
    ) -> dict[str, Any] | None:
        view, curves = self._shown(history, rng)
        prior = self._prior(history.space)
        point = propose(view, curves, horizon=self._options.horizon, rng=rng, past=past, prior=prior)
        return None if point is None else history.space.decode(point[None])[0]

    def ends(
        self, history: History, configurations: Sequence[Mapping[str, Any]], past: Sequence[Past] = ()
    ) -> Ends | None:
        """What the model expects at the last epoch of the trials that it sees, by number, and of other configurations,
        in normal scores; None while there are too few trials to learn from. For studies with one objective.
        """
        view, curves = self._shown(history, np.random.default_rng(self._options.seed))
        with one_thread():
            model = EndModel.of(view, curves, horizon=self._options.horizon, past=past)
            if model is None:
                return None
            new = history.space.features(history.space.encode(configurations))
            mean, deviation = model.predict(np.vstack([view.features, new]))
        ends = [Prediction(*pair) for pair in zip(mean.tolist(), deviation.tolist(), strict=True)]
        of_trials = zip((trial.number for trial in view.trials), ends, strict=False)
        return dict(of_trials), ends[len(view.trials) :]

    def scale(self, history: History) -> Scale:
        """Turns the normal scores of `ends` into values of the objective, larger is better."""
        _, curves = self._shown(history, np.random.default_rng(self._options.seed))
        return Scale(observations(curves)[2])

    def _shown(self, history: History, rng: np.random.Generator) -> tuple[View, list[dict[int, float]]]:
        """The trials that the model sees, and their curves."""
        view = history.spread_over_values()
        view = replace(view, trials=without_accidents(view.trials))
        if self._objectives:
            view = replace(view, trials=scalarised(view.trials, self._objectives, rng))
        return view, [self._curve(trial, history.sign) for trial in view.trials]

    def _curve(self, trial: Seen, sign: float) -> dict[int, float]:
        if self._objectives or not trial.ended:  # else it changes only if it is taken up
            return curve(trial, self._options.horizon, sign)
        key = (trial.number, trial.state, len(trial.values))
        if key not in self._curves:
            self._curves[key] = curve(trial, self._options.horizon, sign)
        return self._curves[key]
