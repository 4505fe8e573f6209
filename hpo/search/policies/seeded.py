"""What all policies share: seeds, the trials that are spread evenly, and Optuna's interface of a sampler.

All randomness derives from (seed, trial number), and nothing random is kept between suggestions. So the same seed and
the same results give the same suggestions, also in a new process after a resume.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from hpo.ledger.records import TrialRecord
from hpo.ledger.transfer import TRANSFER_KEY, Past, Transfer
from hpo.search.policies.acquisition import Ends
from hpo.search.policies.history import History
from hpo.search.policies.linear_algebra import one_thread
from hpo.search.policies.prior import PriorDensity
from hpo.search.policies.seen import Seen
from hpo.search.trial_views import of_frozen, of_record
from hpo.search.unit_cube import Active, Array, UnitCube
from hpo.spec.objectives import Objective
from hpo.spec.parameters import Prior


@dataclass(frozen=True)
class SamplerOptions:
    """What all samplers are made of.

    Raises:
        ValueError: a number is out of its range.
    """

    seed: int
    """The seed of the study, 0 or above."""
    horizon: int
    """Epochs of a full training."""
    startup_trials: int = 8
    """The first trials, spread evenly over the space (scrambled Sobol points)."""
    random_share: float = 0.2
    """Share of the later trials that are spread in the same way, 0 to 1."""
    distributions: Mapping[str, BaseDistribution] | None = None
    """The whole space, conditional parameters included; None: the union of what the trials used."""
    active: Active | None = None
    """Which parameters are active beside given values; None: all that `distributions` names."""
    objectives: Sequence[Objective] = ()
    """The objectives of a study with several; samplers read their values from the ledger's records."""
    priors: Mapping[str, Prior] = field(default_factory=dict)
    """Where good values are expected, by parameter; for `gp` only."""

    def __post_init__(self) -> None:
        seed, horizon, startup_trials, random_share = self.seed, self.horizon, self.startup_trials, self.random_share
        if seed < 0 or horizon < 1 or startup_trials < 0 or not 0 <= random_share <= 1:
            raise ValueError(f"{seed=}, {horizon=}, {startup_trials=} or {random_share=} is out of range")


@dataclass(frozen=True)
class Suggestion:
    """The configuration of a new trial."""

    values: dict[str, Any]
    """Of all active parameters."""
    learned: bool
    """Whether it was learned from results, and not drawn at random."""


class SeededSampler(BaseSampler):
    """Spreads the first trials and a share of the later ones evenly; `_propose` suggests the others.

    It remembers the trials that have ended (`hpo.search.history`), so an object serves one study only.
    """

    def __init__(self, options: SamplerOptions) -> None:
        self._options = options
        self._objectives = options.objectives if len(options.objectives) > 1 else ()
        self._learned: dict[int, bool] = {}
        self._history: History | None = None
        self.source: Callable[[int], Suggestion] | None = None
        """Gives the suggestion for the trial of a number, if suggestions are made elsewhere: see `hpo.search.ahead`."""

    @property
    def knows_space(self) -> bool:
        """Whether the space was given, and is not that of the trials."""
        return self._options.distributions is not None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space as given, else the union of what the trials have used so far."""
        if self._options.distributions is not None:
            return dict(self._options.distributions)
        union: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            union.update(other.distributions)
        return union

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of all parameters, or of the active ones."""
        if not search_space:
            return {}
        if self.source is not None:
            suggestion = self.source(trial.number)
        else:
            past = Transfer.from_json(study.user_attrs.get(TRANSFER_KEY, {})).history
            suggestion = self.suggest(self._up_to_date(study, search_space), trial.number, past)
        self._learned[trial.number] = suggestion.learned
        return suggestion.values

    def suggest(self, history: History, number: int, past: Sequence[Past] = ()) -> Suggestion:
        """The configuration of trial `number`, which is not part of the history.

        Args:
            past: trials of earlier studies.
        """
        with one_thread():
            return self._suggest(history, number, past)

    def ends(
        self, history: History, configurations: Sequence[Mapping[str, Any]], past: Sequence[Past] = ()
    ) -> Ends | None:
        """What is expected at the last epoch of the trials of the history, by number, and of other configurations; None
        while there is too little to learn from, and always if the policy predicts no ends.

        Args:
            past: trials of earlier studies.
        """
        return None

    def _suggest(self, history: History, number: int, past: Sequence[Past]) -> Suggestion:
        space, rng = history.space, np.random.default_rng((self._options.seed, number))
        if not self._is_spread(number, rng) and (proposal := self._propose(history, number, rng, past)) is not None:
            return Suggestion(proposal, learned=True)
        point = space.settle(self._placed(self._spread(len(space), number), space, number))
        if space.keys(point)[0] in history.tried:
            untried = space.untried(history.tried, rng)
            point = point if untried is None else untried
        return Suggestion(space.decode(point)[0], learned=False)

    def _placed(self, point: Array, space: UnitCube, number: int) -> Array:
        """An evenly spread point, moved where the priors want it if trial `number` is every second of the first ones.

        The others, and the random ones later, stay spread over the whole space: they show the model what lies outside
        of the priors, and recover from wrong ones.
        """
        prior = self._prior(space) if number < self._options.startup_trials and number % 2 else None
        return point if prior is None else prior.place(point)

    def _prior(self, space: UnitCube) -> PriorDensity | None:
        return PriorDensity(space, self._options.priors) if self._options.priors else None

    def is_spread(self, number: int) -> bool:
        """Whether trial `number` is among those that are spread evenly, whatever the results."""
        return self._is_spread(number, np.random.default_rng((self._options.seed, number)))

    def history(self, space: Mapping[str, BaseDistribution] | None = None, sign: float = 1.0) -> History:
        """An empty history of a study of this space, by default the space of the options."""
        cube = UnitCube(space or self._options.distributions or {}, self._options.active)
        horizon, objectives = self._options.horizon, max(1, len(self._objectives))
        return History(cube, horizon=horizon, sign=sign, objectives=objectives)

    def seen(self, trial: TrialRecord) -> Seen:
        """A trial that has started, as the history takes it in."""
        return of_record(trial, self._objectives)

    def _is_spread(self, number: int, rng: np.random.Generator) -> bool:
        return number < self._options.startup_trials or rng.random() < self._options.random_share

    def _up_to_date(self, study: Study, space: Mapping[str, BaseDistribution]) -> History:
        """The history of a study as Optuna has it."""
        if self._history is None or self._history.space.distributions != space:
            sign = -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0
            self._history = self.history(space, sign)
        history, trials = self._history, study.get_trials(deepcopy=False)
        settled = [trial.state.is_finished() and history.has_ended(trial.number) for trial in trials]
        changed = [trial for trial, known in zip(trials, settled, strict=True) if not known and trial.params]
        history.take_in([of_frozen(trial, self._objectives) for trial in changed])
        return history

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw, for a parameter that is not part of the space."""
        rng = np.random.default_rng((self._options.seed, trial.number, zlib.crc32(param_name.encode())))
        space = UnitCube({param_name: param_distribution})
        return space.decode(space.settle(rng.random((1, 1))))[0][param_name]

    def learned(self, number: int) -> bool:
        """Whether this object suggested trial `number` from results, and did not draw it at random."""
        return self._learned.get(number, False)

    def _spread(self, dimensions: int, number: int) -> Array:
        """Point `number` of the study's scrambled Sobol sequence, (1, dimensions)."""
        sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng((self._options.seed, 0, 1)))
        if number:
            sequence.fast_forward(number)
        return np.asarray(sequence.random(1))

    @abstractmethod
    def _propose(
        self, history: History, number: int, rng: np.random.Generator, past: Sequence[Past]
    ) -> dict[str, Any] | None:
        """A configuration learned from the study; None while there is too little to learn from."""


class RandomSampler(SeededSampler):
    """Independent uniform draws, with which the other policies are compared."""

    def learned(self, number: int) -> bool:
        """Always False."""
        return False

    def _placed(self, point: Array, space: UnitCube, number: int) -> Array:
        """An evenly spread point where the priors want it, if trial `number` is every second of the first ones. The
        others, and the random ones later, stay spread over the whole space: they show the model what lies outside of
        the priors, and recover from wrong ones."""
        if not self._options.priors or number >= self._options.startup_trials or number % 2 == 0:
            return point
        return PriorDensity(space, self._options.priors).place(point)

    def is_spread(self, number: int) -> bool:
        """Always True."""
        return True

    def _propose(self, history: History, number: int, rng: np.random.Generator, past: Sequence[Past]) -> dict[str, Any]:
        space = history.space
        return space.decode(space.settle(rng.random((1, len(space)))))[0]
