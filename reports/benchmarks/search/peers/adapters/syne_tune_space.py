"""The space in Syne Tune's words."""

from __future__ import annotations

from typing import Any

from syne_tune.config_space import lograndint, loguniform, randint, uniform

from reports.benchmarks.search.peers.protocol import Parameter, Problem


def space(problem: Problem) -> dict[str, Any]:
    """Return Syne Tune's domain of each parameter."""
    return {one.name: _domain(one) for one in problem.parameters}


def _domain(parameter: Parameter) -> Any:
    if parameter.integer:
        return (lograndint if parameter.log else randint)(round(parameter.low), round(parameter.high))
    return (loguniform if parameter.log else uniform)(parameter.low, parameter.high)
