"""The search space in Optuna's terms: parameters as distributions, and the values that a trial draws from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpo.spec.parameters import CategoricalParameter, Choice, FloatParameter, Parameter

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import BaseTrial


def suggest(trial: BaseTrial, space: Mapping[str, Parameter]) -> dict[str, Choice]:
    """Draw the active parameters in the order of the space: conditions refer only to earlier parameters.

    Returns:
        The trial's values by dotted path, without inactive parameters.
    """
    values: dict[str, Choice] = {}
    for name, parameter in space.items():
        if parameter.is_active(values):
            values[name] = _draw(trial, name, parameter)
    return values


def _draw(trial: BaseTrial, name: str, parameter: Parameter) -> Choice:
    if isinstance(parameter, CategoricalParameter):
        choice: Choice = trial.suggest_categorical(name, parameter.choices)
        return choice
    if isinstance(parameter, FloatParameter):
        return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    return trial.suggest_int(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def distributions(space: Mapping[str, Parameter]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of every parameter, active or not, in the order of the space."""
    return {name: _distribution(parameter) for name, parameter in space.items()}


def _distribution(parameter: Parameter) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, CategoricalParameter):
        return CategoricalDistribution(parameter.choices)
    if isinstance(parameter, FloatParameter):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
