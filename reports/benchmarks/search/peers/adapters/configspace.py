"""The space in ConfigSpace's words, which SMAC and DEHB read."""

from __future__ import annotations

from typing import Any

from ConfigSpace import ConfigurationSpace, UniformFloatHyperparameter, UniformIntegerHyperparameter

from reports.benchmarks.search.peers.protocol import Parameter, Problem


def space(problem: Problem) -> Any:
    """Return a `ConfigurationSpace` with the problem's seed."""
    made = ConfigurationSpace(seed=problem.seed)
    made.add([_hyperparameter(one) for one in problem.parameters])
    return made


def params(configuration: Any) -> dict[str, float]:
    """The values of a configuration as numbers of Python."""
    values = dict(configuration)
    return {name: value.item() if hasattr(value, "item") else value for name, value in values.items()}


def _hyperparameter(one: Parameter) -> Any:
    if one.integer:
        return UniformIntegerHyperparameter(one.name, round(one.low), round(one.high), log=one.log)
    return UniformFloatHyperparameter(one.name, one.low, one.high, log=one.log)
