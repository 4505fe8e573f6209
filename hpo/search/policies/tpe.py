"""Optuna's TPE on a bounded number of trials, with pruned trials ranked at their rungs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, create_study
from optuna.trial import FrozenTrial, TrialState

from hpo.ledger.transfer import Past
from hpo.search.policies.acquisition import distance
from hpo.search.policies.gp import SEPARATION
from hpo.search.policies.history import History
from hpo.search.policies.seeded import SamplerOptions, SeededSampler
from hpo.search.policies.seen import Seen
from hpo.search.trial_views import by_rung, scalarised
from hpo.search.unit_cube import UnitCube, in_force

TPE_DRAWS = 3
"""How often TPE draws until a suggestion keeps its distance to running trials and repeats no other trial; after that
the trial is spread evenly instead."""


class PrunedTPESampler(SeededSampler):
    """Optuna's multivariate TPE. It ranks pruned trials by (last step, value there); their steps are their rungs.

    Of the trials that have ended it sees at most 1,000: see `History.spread_over_numbers`.

    Parameters that some trials do not have are drawn independently of the others, as Optuna does by default. Optuna's
    constant liar does not keep suggestions away from running trials. So this sampler draws again if a suggestion is too
    near to a running trial, or repeats any trial.
    """

    def __init__(self, options: SamplerOptions) -> None:
        super().__init__(options)
        self._frozen: dict[int, FrozenTrial] = {}
        """Trials that have ended, by number, as TPE reads them."""
        self._rungs: list[float] = []

    def _propose(
        self, history: History, number: int, rng: np.random.Generator, past: Sequence[Past]
    ) -> dict[str, Any] | None:
        space, view = history.space, history.spread_over_numbers()
        running = view.features[[not trial.ended for trial in view.trials]]
        trials = [trial for trial in view.trials if trial.state != TrialState.WAITING]
        study = shown(self._comparable(history, trials, rng), "maximize" if history.sign > 0 else "minimize")
        relative, repeated = self._tpe(0).infer_relative_search_space(study, blank(number)), None
        for _ in range(TPE_DRAWS):
            values = self._draw(study, blank(number), relative, space, int(rng.integers(2**32)))
            point = space.encode([in_force(values, space.active) if space.active else values])
            if distance(space.features(point), running)[0] < SEPARATION:
                continue
            if space.keys(point)[0] not in history.tried:
                return values
            repeated = values
        return repeated if space.untried(history.tried, rng) is None else None

    def _comparable(self, history: History, trials: Sequence[Seen], rng: np.random.Generator) -> list[FrozenTrial]:
        """The trials with one objective and comparable steps."""
        distributions = history.space.distributions
        if self._objectives:  # Optuna's own way for several objectives cannot rank pruned trials
            seen = scalarised(by_rung(trials), self._objectives, rng)
            return [frozen(trial, distributions) for trial in seen]
        if history.rungs != self._rungs:  # the numbers of the rungs have changed
            self._rungs = list(history.rungs)
            self._frozen.clear()
        new = [trial for trial in trials if trial.number not in self._frozen]
        fresh = {trial.number: frozen(trial, distributions) for trial in by_rung(new, self._rungs)}
        self._frozen.update({trial.number: fresh[trial.number] for trial in new if trial.ended})
        return [self._frozen.get(trial.number) or fresh[trial.number] for trial in trials]

    def _draw(
        self, study: Study, trial: FrozenTrial, relative: dict[str, BaseDistribution], space: UnitCube, seed: int
    ) -> dict[str, Any]:
        tpe = self._tpe(seed)
        values = tpe.sample_relative(study, trial, relative)
        for name, distribution in space.distributions.items():
            if name not in values:  # TPE divides by the range, which is 0 where there is one value only
                sampler = self if distribution.single() else tpe
                values[name] = sampler.sample_independent(study, trial, name, distribution)
        return values

    def _tpe(self, seed: int) -> TPESampler:
        return TPESampler(
            seed=seed, n_startup_trials=self._options.startup_trials, multivariate=True, constant_liar=True
        )


class _Shown(InMemoryStorage):
    """Optuna's storage in memory, with a fixed list of trials."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._shown = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials themselves, which TPE does not change."""
        return [trial for trial in self._shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Nothing: TPE notes its suggestion here for other processes, of which there are none."""


def shown(trials: Iterable[FrozenTrial], direction: Any) -> Study:
    """A study with one objective and these trials, by number."""
    return create_study(storage=_Shown(list(trials)), direction=direction)


def frozen(trial: Seen, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial with all that TPE ranks it by: its state, its last value or its final one, and its parameters.

    Args:
        distributions: of the whole space.
    """
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=trial.state,
        value=trial.final,
        datetime_start=None,
        datetime_complete=None,
        params=dict(trial.params),
        distributions={name: distributions[name] for name in trial.params},
        user_attrs={},
        system_attrs={},
        intermediate_values=dict([trial.last] if trial.last else ()),
    )


def blank(number: int) -> FrozenTrial:
    """A new trial, which has no parameters yet."""
    return frozen(Seen(number, {}, TrialState.RUNNING), {})
