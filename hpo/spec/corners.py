"""The values that a parameter can take, and the combinations of them that are worth checking."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from hpo.spec.parameters import CategoricalParameter, Choice, Condition, FloatParameter, Number, Parameter, is_number

MAX_CORNERS = 5_000


def can_hold(condition: Condition, parameter: Parameter) -> bool:
    """Whether some value of `parameter` passes `condition`."""
    return any(condition.holds(value) for value in representative_values(parameter, [condition]))


def representative_values(parameter: Parameter, conditions: Iterable[Condition]) -> Sequence[Choice]:
    """Both ends of the parameter, and enough values between them to find out what its `conditions` allow.

    If any value of the parameter passes some of the conditions together, one of these values does too: the truth of a
    condition changes only at its thresholds, and the result has the thresholds and values on both sides of them.
    """
    if isinstance(parameter, CategoricalParameter):
        return list(parameter.choices)
    thresholds = [number for condition in conditions for number in _numbers(condition)]
    inside = [number for number in thresholds if parameter.low <= number <= parameter.high]
    ends: set[Number] = {parameter.low, parameter.high}
    if parameter.step is None:
        points = sorted(ends | {float(number) for number in inside})
        middles = [(a + b) / 2 for a, b in pairwise(points)] if inside else []
        return sorted({*points, *middles})
    step, low = parameter.step, parameter.low
    near = {low + step * (math.floor((number - low) / step) + by) for number in inside for by in (-1, 0, 1, 2)}
    snapped = {number for number in inside if parameter.contains(number)}
    return sorted(number for number in ends | near | snapped if parameter.contains(number))


def _numbers(condition: Condition) -> list[Number]:
    given = condition.tests()
    values = [*given.pop("in", ()), *given.values()]
    return [value for value in values if is_number(value)]


def subspace(space: Mapping[str, Parameter], starts: tuple[str, ...]) -> dict[str, Parameter]:
    """The parameters whose names start with one of `starts`, and those that their conditions depend on."""
    wanted = {name for name in space if name.startswith(starts)}
    for name in reversed(list(space)):  # a condition refers to an earlier parameter
        if name in wanted:
            wanted |= space[name].when.keys()
    return {name: parameter for name, parameter in space.items() if name in wanted}


class Corners(NamedTuple):
    """Corners of a space."""

    combinations: list[dict[str, Choice]]
    thinned: bool
    """Whether there were more than `MAX_CORNERS`, so that only an evenly spaced part of them is here."""


def corners(space: Mapping[str, Parameter]) -> Corners:
    """Combinations of `representative_values` of active parameters, with both ends of every range.

    In a space that has too many of them, each trial's own check is the last resort.
    """
    combinations: list[dict[str, Choice]] = [{}]
    thinned = False
    for name, parameter in space.items():
        conditions = [other.when[name] for other in space.values() if name in other.when]
        values = representative_values(parameter, conditions)
        extended = [longer for corner in combinations for longer in _extended(corner, name, parameter, values)]
        interval = len(extended) // MAX_CORNERS + 1
        thinned = thinned or interval > 1
        combinations = extended[::interval]
    return Corners(combinations, thinned)


def _extended(
    corner: dict[str, Choice], name: str, parameter: Parameter, values: Sequence[Choice]
) -> Iterator[dict[str, Choice]]:
    """`corner` with each value of the parameter; unchanged if the parameter is not active there."""
    if not parameter.is_active(corner):
        yield corner
        return
    for value in values:
        yield {**corner, name: value}


def describe(parameter: Parameter) -> str:
    """The values of a parameter in words, e.g. `a number from 0.1 to 0.4 in steps of 0.1`."""
    if isinstance(parameter, CategoricalParameter):
        return "one of " + ", ".join("null" if choice is None else str(choice) for choice in parameter.choices)
    kind = "a number" if isinstance(parameter, FloatParameter) else "a whole number"
    steps = f" in steps of {parameter.step:g}" if parameter.step not in (None, 1) else ""
    return f"{kind} from {parameter.low:g} to {parameter.high:g}{steps}"
