"""The search policies as Optuna samplers: they suggest the configuration of the next trial.

All randomness derives from (seed, trial number), and nothing random is kept between suggestions. So the same seed and
the same results give the same suggestions, also in a new process after a resume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from optuna.samplers import BaseSampler
from optuna.trial import Trial

from hpo.search.distributions import distributions, suggest
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.policies.seeded import RandomSampler, SamplerOptions, SeededSampler
from hpo.search.policies.tpe import PrunedTPESampler
from hpo.search.unit_cube import Active, UnitCube
from hpo.spec.objectives import objectives
from hpo.spec.parameters import Choice, Parameter, Prior
from hpo.spec.study import Spec


def make_sampler(policy: str, **options: Any) -> BaseSampler:
    """The sampler of a policy, for studies whose intermediate values are keyed by epoch.

    Only `random` repeats a configuration while there is one that has not been tried.

    Args:
        policy: `gp`, a Gaussian process over configuration and epoch; `tpe`, Optuna's estimator; `random`.
        options: the fields of `SamplerOptions`.

    Raises:
        ValueError: there is no such policy, a number is out of its range, or another policy than `gp` gets priors.
    """
    given = SamplerOptions(**options)
    if given.priors and policy != "gp":
        raise ValueError(f"the policy {policy} knows no priors; only gp does")
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
        active=_active(spec),
        objectives=objectives(spec.objectives),
        priors=priors(spec),
    )


def priors(spec: Spec) -> dict[str, Prior]:
    """Where good values are expected: a parameter's own prior or, if the specification wants it, the baseline's."""
    baseline = spec.baseline_values() if spec.search.prior == "baseline" else {}
    own = {name: parameter.prior for name, parameter in spec.space.items() if parameter.prior is not None}
    return {name: Prior(center=value) for name, value in baseline.items()} | own


def study_space(spec: Spec) -> UnitCube:
    """The search space of a specification as numbers."""
    return UnitCube(distributions(spec.space), _active(spec))


def _active(spec: Spec) -> Active:
    return lambda values: {name for name, parameter in spec.space.items() if parameter.is_active(values)}


def draw(trial: Trial, space: Mapping[str, Parameter]) -> tuple[dict[str, Choice], Literal["sampler", "random"]]:
    """A trial's active parameters by dotted path, and whether they were learned from results or drawn at random."""
    values = suggest(trial, space)
    return values, suggested_by(trial.study.sampler, trial)


def suggested_by(sampler: BaseSampler, trial: Trial) -> Literal["sampler", "random"]:
    """Whether the configuration of a new trial was learned from results or drawn at random."""
    _ = trial.relative_params  # samples, if this process has not: a trial that was cut off has its parameters already
    return "random" if isinstance(sampler, SeededSampler) and not sampler.learned(trial.number) else "sampler"
