"""The search policies as Optuna samplers: they suggest the configuration of the next trial.

All randomness derives from (seed, trial number), and nothing random is kept between suggestions. So the same seed and
the same results give the same suggestions, also in a new process after a resume.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study, StudyDirection, create_study
from optuna.trial import FrozenTrial, Trial, TrialState
from scipy.stats import qmc

from hpo.ledger.transfer import TRANSFER_KEY, Transfer
from hpo.search.distributions import distributions, suggest
from hpo.search.gp import SEPARATION, distance, propose
from hpo.search.trial_views import by_rung, last_value, others, scalarised, without_accidents
from hpo.search.unit_cube import Active, Array, UnitCube, in_force
from hpo.spec.objectives import Objective, objectives
from hpo.spec.parameters import Choice, Parameter
from hpo.spec.study import Spec

TPE_DRAWS = 3
"""How often TPE draws until a suggestion keeps its distance to running trials and repeats no other trial; after that
the trial is spread evenly instead."""


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

    def __post_init__(self) -> None:
        seed, horizon, startup_trials, random_share = self.seed, self.horizon, self.startup_trials, self.random_share
        if seed < 0 or horizon < 1 or startup_trials < 0 or not 0 <= random_share <= 1:
            raise ValueError(f"{seed=}, {horizon=}, {startup_trials=} or {random_share=} is out of range")


def make_sampler(policy: str, **options: Any) -> BaseSampler:
    """The sampler of a policy, for studies whose intermediate values are keyed by epoch.

    Only `random` repeats a configuration while there is one that has not been tried.

    Args:
        policy: `gp`, a Gaussian process over configuration and epoch; `tpe`, Optuna's estimator; `random`.
        options: the fields of `SamplerOptions`.

    Raises:
        ValueError: there is no such policy, or a number is out of its range.
    """
    given = SamplerOptions(**options)
    if policy == "random":
        return RandomSampler(replace(given, startup_trials=0, random_share=0.0, objectives=()))
    if policy == "tpe":
        return PrunedTPESampler(given)
    if policy == "gp":
        return CurveGPSampler(given)
    raise ValueError(f"there is no policy {policy!r}; policies are random, tpe and gp")


def study_sampler(spec: Spec) -> BaseSampler:
    """The sampler that a specification asks for."""
    return make_sampler(
        spec.search.policy,
        seed=spec.seed,
        horizon=spec.train.epochs,
        startup_trials=spec.search.startup_trials,
        random_share=spec.search.random_share,
        distributions=distributions(spec.space),
        active=lambda values: {name for name, parameter in spec.space.items() if parameter.is_active(values)},
        objectives=objectives(spec.objectives),
    )


class SeededSampler(BaseSampler):
    """Spreads the first trials and a share of the later ones evenly; `_propose` suggests the others."""

    def __init__(self, options: SamplerOptions) -> None:
        self._options = options
        self._objectives = options.objectives if len(options.objectives) > 1 else ()
        self._learned: dict[int, bool] = {}

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
        """Values of all active parameters."""
        if not search_space:
            return {}
        options, space = self._options, UnitCube(search_space, self._options.active)
        rng = np.random.default_rng((options.seed, trial.number))
        if trial.number >= options.startup_trials and rng.random() >= options.random_share:
            proposal = self._propose(study, trial, space, rng)
            self._learned[trial.number] = proposal is not None
            if proposal is not None:
                return proposal
        else:
            self._learned[trial.number] = False
        point = space.settle(self._spread(len(space), trial.number))
        tried = set(space.keys(space.encode([other.params for other in others(study, trial)])))
        if space.keys(point)[0] in tried:
            untried = space.untried(tried, rng)
            point = point if untried is None else untried
        return space.decode(point)[0]

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
        self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        """A configuration learned from the study; None while there is too little to learn from."""


class RandomSampler(SeededSampler):
    """Independent uniform draws, with which the other policies are compared."""

    def learned(self, number: int) -> bool:
        """Always False."""
        return False

    def _propose(self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator) -> dict[str, Any]:
        return space.decode(space.settle(rng.random((1, len(space)))))[0]


class PrunedTPESampler(SeededSampler):
    """Optuna's multivariate TPE. It ranks pruned trials by (last step, value there); their steps are their rungs.

    Parameters that some trials do not have are drawn independently of the others, as Optuna does by default. Optuna's
    constant liar does not keep suggestions away from running trials. So this sampler draws again if a suggestion is too
    near to a running trial, or repeats any trial.
    """

    def _propose(
        self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        trials = others(study, trial)
        cube = space.encode([other.params for other in trials])
        tried = set(space.keys(cube))
        running = space.features(cube[[not other.state.is_finished() for other in trials]])
        view = self._view(study, trials, rng)
        asking, repeated = view.get_trials(deepcopy=False)[-1], None
        for _ in range(TPE_DRAWS):
            values = self._draw(view, asking, space, int(rng.integers(2**32)))
            point = space.encode([in_force(values, space.active) if space.active else values])
            if distance(space.features(point), running)[0] < SEPARATION:
                continue
            if space.keys(point)[0] not in tried:
                return values
            repeated = values
        return repeated if space.untried(tried, rng) is None else None

    def _view(self, study: Study, trials: Sequence[FrozenTrial], rng: np.random.Generator) -> Study:
        """The study that Optuna's TPE sees: one objective, comparable steps, and a new trial at the end."""
        seen = by_rung([trial for trial in trials if trial.state != TrialState.WAITING])  # `ask` would take these
        if self._objectives:  # Optuna's own way for several objectives cannot rank pruned trials
            seen = scalarised(seen, self._objectives, rng)
        view = create_study(direction="maximize" if self._objectives else study.direction)
        view.add_trials([last_value(trial) for trial in seen])
        view.ask()
        return view

    def _draw(self, study: Study, trial: FrozenTrial, space: UnitCube, seed: int) -> dict[str, Any]:
        tpe = TPESampler(
            seed=seed, n_startup_trials=self._options.startup_trials, multivariate=True, constant_liar=True
        )
        values = tpe.sample_relative(study, trial, tpe.infer_relative_search_space(study, trial))
        for name, distribution in space.distributions.items():
            if name not in values:  # TPE divides by the range, which is 0 where there is one value only
                sampler = self if distribution.single() else tpe
                values[name] = sampler.sample_independent(study, trial, name, distribution)
        return values


class CurveGPSampler(SeededSampler):
    """A Gaussian process over configuration and epoch: see `hpo.search.gp`."""

    def _propose(
        self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        trials = without_accidents(others(study, trial))
        sign = -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0
        if self._objectives:
            trials = scalarised(trials, self._objectives, rng)
        past = Transfer.from_json(study.user_attrs.get(TRANSFER_KEY, {})).history
        point = propose(space, trials, horizon=self._options.horizon, sign=sign, rng=rng, past=past)
        return None if point is None else space.decode(point[None])[0]


def draw(trial: Trial, space: Mapping[str, Parameter]) -> tuple[dict[str, Choice], Literal["sampler", "random"]]:
    """A trial's active parameters by dotted path, and whether they were learned from results or drawn at random."""
    values = suggest(trial, space)
    return values, suggested_by(trial.study.sampler, trial)


def suggested_by(sampler: BaseSampler, trial: Trial) -> Literal["sampler", "random"]:
    """Whether the configuration of a new trial was learned from results or drawn at random."""
    _ = trial.relative_params  # samples, if this process has not: a trial that was cut off has its parameters already
    return "random" if isinstance(sampler, SeededSampler) and not sampler.learned(trial.number) else "sampler"
