"""The Gaussian-process policy as a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hpo.ledger.transfer import Past
from hpo.search.policies.gp import curve, propose
from hpo.search.policies.history import History
from hpo.search.policies.seeded import SamplerOptions, SeededSampler
from hpo.search.policies.seen import Seen
from hpo.search.trial_views import scalarised, without_accidents


class CurveGPSampler(SeededSampler):
    """A Gaussian process over configuration and epoch: see `hpo.search.policies.gp`.

    Of the trials that have ended it sees at most 1,000: see `History.spread_over_values`.
    """

    def __init__(self, options: SamplerOptions) -> None:
        super().__init__(options)
        self._curves: dict[int, dict[int, float]] = {}
        """Of the trials that have ended, by number."""

    def _propose(
        self, history: History, number: int, rng: np.random.Generator, past: Sequence[Past]
    ) -> dict[str, Any] | None:
        view = history.spread_over_values()
        view = replace(view, trials=without_accidents(view.trials))
        if self._objectives:
            view = replace(view, trials=scalarised(view.trials, self._objectives, rng))
        curves = [self._curve(trial, history.sign) for trial in view.trials]
        prior = self._prior(history.space)
        point = propose(view, curves, horizon=self._options.horizon, rng=rng, past=past, prior=prior)
        return None if point is None else history.space.decode(point[None])[0]

    def _curve(self, trial: Seen, sign: float) -> dict[int, float]:
        if self._objectives or not trial.ended:  # else it never changes
            return curve(trial, self._options.horizon, sign)
        if trial.number not in self._curves:
            self._curves[trial.number] = curve(trial, self._options.horizon, sign)
        return self._curves[trial.number]
