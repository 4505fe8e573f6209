"""Which values a parameter can take, and which combinations of them are worth checking."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from hpo.spec.parameters import CategoricalParameter, Choice, Condition, FloatParameter, Number, Parameter, is_number

MAX_CORNERS = 5_000


def can_hold(condition: Condition, parameter: Parameter) -> bool:
    """Whether some value of `parameter` passes `condition`."""
    return any(condition.holds(value) for value in telling_values(parameter, [condition]))


def telling_values(parameter: Parameter, conditions: Iterable[Condition]) -> Sequence[Choice]:
    """Values of which one passes each combination of `conditions` that any value passes, and both ends.

    The truth of a condition changes at its thresholds only, so the thresholds, their neighbours on the grid
    or the middles between them, and the ends tell everything.
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


def part(space: Mapping[str, Parameter], starts: tuple[str, ...]) -> dict[str, Parameter]:
    """The parameters whose names start so, and those that decide whether they are active."""
    wanted = {name for name in space if name.startswith(starts)}
    for name in reversed(list(space)):  # conditions only look back
        if name in wanted:
            wanted |= space[name].when.keys()
    return {name: parameter for name, parameter in space.items() if name in wanted}


def corners(space: Mapping[str, Parameter]) -> list[dict[str, Choice]]:
    """Combinations of telling values of active parameters, the ends of every range among them.

    Above `MAX_CORNERS` an evenly spaced part of them; then a trial's own check is the last resort.
    """
    partial: list[dict[str, Choice]] = [{}]
    for name, parameter in space.items():
        conditions = [other.when[name] for other in space.values() if name in other.when]
        values = telling_values(parameter, conditions)
        partial = list(
            itertools.chain.from_iterable(
                [{**corner, name: value} for value in values] if parameter.is_active(corner) else [corner]
                for corner in partial
            )
        )
        partial = partial[:: len(partial) // MAX_CORNERS + 1]
    return partial


def describe(parameter: Parameter) -> str:
    """The values of a parameter in words, e.g. `a number from 0.1 to 0.4 in steps of 0.1`."""
    if isinstance(parameter, CategoricalParameter):
        return "one of " + ", ".join("null" if choice is None else str(choice) for choice in parameter.choices)
    kind = "a number" if isinstance(parameter, FloatParameter) else "a whole number"
    steps = f" in steps of {parameter.step:g}" if parameter.step not in (None, 1) else ""
    return f"{kind} from {parameter.low:g} to {parameter.high:g}{steps}"
