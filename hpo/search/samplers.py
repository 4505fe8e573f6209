"""Who suggests configurations: the search policies as Optuna samplers.

All randomness derives from (seed, trial number), none is kept between suggestions: the same seed and the same
outcomes give the same suggestions, in a new process after a resume too.
"""

from __future__ import annotations

import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
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
from hpo.search.trial_views import by_rung, last_value, others, scalarised, without_losses
from hpo.search.unit_cube import Active, Array, UnitCube, in_force
from hpo.spec.objectives import Objective, objectives
from hpo.spec.parameters import Choice, Parameter
from hpo.spec.study import Spec

TPE_DRAWS = 3
"""How often TPE may try to keep its distance to running trials, and from repeating others, before the trial is spread
evenly instead."""


def make_sampler(
    policy: str,
    *,
    seed: int,
    horizon: int,
    startup_trials: int = 8,
    random_share: float = 0.2,
    distributions: Mapping[str, BaseDistribution] | None = None,
    active: Active | None = None,
    objectives: Sequence[Objective] = (),
) -> BaseSampler:
    """The sampler of a policy, for studies whose intermediate values are keyed by epoch. None repeats a configuration,
    but `random`, while there is another one.

    Args:
        policy: `gp`, a Gaussian process over configuration and epoch; `tpe`, Optuna's estimator; `random`.
        seed: of the study, 0 or above.
        horizon: epochs of a full training.
        startup_trials: first trials, spread evenly over the space (scrambled Sobol points).
        random_share: share of the later trials that are spread likewise, 0 to 1.
        distributions: the whole space, conditional parameters included; None: the union of what trials used.
        active: which names are in force beside given values; None: all that `distributions` names.
        objectives: of a study with several, read from the ledger's records; see `hpo.search.sampler_objectives`.

    Raises:
        ValueError: no such policy, or a number out of its range.
    """
    if seed < 0 or horizon < 1 or startup_trials < 0 or not 0 <= random_share <= 1:
        raise ValueError(f"{seed=}, {horizon=}, {startup_trials=} or {random_share=} is out of range")
    space = None if distributions is None else dict(distributions)
    if policy == "random":
        return RandomSampler(seed, 0, 0.0, space, active, ())
    if policy == "tpe":
        return PrunedTPESampler(seed, startup_trials, random_share, space, active, objectives)
    if policy == "gp":
        return CurveGPSampler(seed, startup_trials, random_share, space, active, objectives, horizon)
    raise ValueError(f"there is no policy {policy!r}; policies are random, tpe and gp")


class SeededSampler(BaseSampler):
    """Evenly spread trials first and now and then; what lies between is the policy's own, `_propose`."""

    def __init__(
        self,
        seed: int,
        startup_trials: int,
        random_share: float,
        distributions: dict[str, BaseDistribution] | None,
        active: Active | None,
        objectives: Sequence[Objective],
    ) -> None:
        self._objectives = objectives if len(objectives) > 1 else ()
        self._seed, self._startup_trials, self._random_share = seed, startup_trials, random_share
        self._distributions, self._active = distributions, active
        self._learned: dict[int, bool] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space as given, else the union of what the trials so far have used."""
        if self._distributions is not None:
            return dict(self._distributions)
        union: dict[str, BaseDistribution] = {}
        for other in study.get_trials(deepcopy=False):
            union.update(other.distributions)
        return union

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of all active parameters of the configure."""
        if not search_space:
            return {}
        space, rng = UnitCube(search_space, self._active), np.random.default_rng((self._seed, trial.number))
        if trial.number >= self._startup_trials and rng.random() >= self._random_share:
            proposal = self._propose(study, trial, space, rng)
            self._learned[trial.number] = proposal is not None
            if proposal is not None:
                return proposal
        else:
            self._learned[trial.number] = False
        point = space.settle(self._spread(len(space), trial.number))
        tried = set(space.keys(space.encode([one.params for one in others(study, trial)])))
        if space.keys(point)[0] in tried:
            untried = space.untried(tried, rng)
            point = point if untried is None else untried
        return space.decode(point)[0]

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw, for a parameter nobody announced."""
        rng = np.random.default_rng((self._seed, trial.number, zlib.crc32(param_name.encode())))
        space = UnitCube({param_name: param_distribution})
        return space.decode(space.settle(rng.random((1, 1))))[0][param_name]

    def learned(self, number: int) -> bool:
        """Whether this object suggested trial `number` from results; False where it drew without looking at any."""
        return self._learned.get(number, False)

    def _spread(self, dimensions: int, number: int) -> Array:
        """Point `number` of the study's scrambled Sobol sequence, (1, dimensions)."""
        sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng((self._seed, 0, 1)))
        if number:
            sequence.fast_forward(number)
        return np.asarray(sequence.random(1))

    @abstractmethod
    def _propose(
        self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        """A configuration learned from the study, or None where there is too little to learn from."""


def suggested_by(sampler: BaseSampler, trial: Trial) -> Literal["sampler", "random"]:
    """Whether a trial that was just asked for is a random draw or learned from results."""
    _ = trial.relative_params  # one whose asking was cut off has its parameters, and has sampled none in this process
    return "random" if isinstance(sampler, SeededSampler) and not sampler.learned(trial.number) else "sampler"


def draw(trial: Trial, space: Mapping[str, Parameter]) -> tuple[dict[str, Choice], Literal["sampler", "random"]]:
    """A trial's active parameters by dotted path, and whether they were learned from results or drawn at random."""
    values = suggest(trial, space)
    return values, suggested_by(trial.study.sampler, trial)


class RandomSampler(SeededSampler):
    """Independent uniform draws: the control every other policy is compared with."""

    def learned(self, number: int) -> bool:
        """Never."""
        return False

    def _propose(self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator) -> dict[str, Any]:
        return space.decode(space.settle(rng.random((1, len(space)))))[0]


class PrunedTPESampler(SeededSampler):
    """Optuna's multivariate TPE, which ranks pruned trials by (last step, value there); their steps are their rungs.

    Parameters that not every trial has are drawn independently of the others, as Optuna does by default. Its constant
    liar alone does not keep suggestions away from running trials, so a draw that comes too near one is repeated, and
    one that has been tried already too.
    """

    def _propose(
        self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        known = others(study, trial)
        cube = space.encode([one.params for one in known])
        tried, running = set(space.keys(cube)), [not one.state.is_finished() for one in known]
        busy = space.features(cube[running])
        view = self._view(study, known, rng)
        asking, repeated = view.get_trials(deepcopy=False)[-1], None
        for _ in range(TPE_DRAWS):
            values = self._draw(view, asking, space, int(rng.integers(2**32)))
            point = space.encode([in_force(values, self._active) if self._active else values])
            if distance(space.features(point), busy)[0] < SEPARATION:
                continue
            if space.keys(point)[0] not in tried:
                return values
            repeated = values
        return repeated if space.untried(tried, rng) is None else None

    def _view(self, study: Study, known: Sequence[FrozenTrial], rng: np.random.Generator) -> Study:
        """What Optuna's TPE is shown of `study`: one objective, steps that compare, and a new trial at the end."""
        known = by_rung([one for one in known if one.state != TrialState.WAITING])  # which `ask` would take
        view = create_study(direction="maximize" if self._objectives else study.direction)
        if self._objectives:  # Optuna's own way for several cannot rank pruned trials
            known = scalarised(known, self._objectives, rng)
        view.add_trials([last_value(one) for one in known])
        view.ask()
        return view

    def _draw(self, study: Study, trial: FrozenTrial, space: UnitCube, seed: int) -> dict[str, Any]:
        tpe = TPESampler(seed=seed, n_startup_trials=self._startup_trials, multivariate=True, constant_liar=True)
        values = tpe.sample_relative(study, trial, tpe.infer_relative_search_space(study, trial))
        for name, distribution in space.distributions.items():
            if name not in values:
                values[name] = tpe.sample_independent(study, trial, name, distribution)
        return values


class CurveGPSampler(SeededSampler):
    """A Gaussian process over configuration and epoch: see `hpo.search.gp`."""

    def __init__(
        self,
        seed: int,
        startup_trials: int,
        random_share: float,
        distributions: dict[str, BaseDistribution] | None,
        active: Active | None,
        objectives: Sequence[Objective],
        horizon: int,
    ) -> None:
        super().__init__(seed, startup_trials, random_share, distributions, active, objectives)
        self._horizon = horizon

    def _propose(
        self, study: Study, trial: FrozenTrial, space: UnitCube, rng: np.random.Generator
    ) -> dict[str, Any] | None:
        known = without_losses(others(study, trial))
        sign = -1.0 if study.directions[0] == StudyDirection.MINIMIZE else 1.0
        if self._objectives:
            known = scalarised(known, self._objectives, rng)
        past = Transfer.from_json(study.user_attrs.get(TRANSFER_KEY, {})).history
        point = propose(space, known, horizon=self._horizon, sign=sign, rng=rng, past=past)
        return None if point is None else space.decode(point[None])[0]


def study_sampler(spec: Spec) -> Any:
    """The Optuna sampler that a specification asks for."""
    return make_sampler(
        spec.search.policy,
        seed=spec.seed,
        horizon=spec.train.epochs,
        startup_trials=spec.search.startup_trials,
        random_share=spec.search.random_share,
        distributions=distributions(spec.space),
        active=lambda values: {name for name, one in spec.space.items() if one.is_active(values)},
        objectives=objectives(spec.objectives),
    )
