"""Rules of a search space: each parameter alone, its values as values of the setting, and its conditions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hpo.spec.corners import can_hold, describe
from hpo.spec.parameters import (
    GRID_TOLERANCE,
    CategoricalParameter,
    Choice,
    FloatParameter,
    IntParameter,
    Parameter,
    same,
)
from hpo.spec.study import Spec
from hpo.text import close
from hpo.validation.messages import setting_rule
from hpo.validation.partial import PartialModel
from hpo.validation.problems import Problem
from hpo.validation.settings import EXTRA, settings, why_fixed
from hpo.validation.yaml_reader import Path

LARGEST_WHOLE, LARGEST, RESOLUTION = 2**52, 1e100, 1e-9
"""Largest bounds of whole and of real numbers, and the least range as a share of the bounds. Samplers compute with
64-bit floats: beyond these, half a step is lost, a product is infinite, or all values have the same logarithm."""
NEEDS_GP = "needs search.policy: gp, the only policy that a prior guides"


def parameter_problems(partial: PartialModel[Spec], spec: Spec, name: str) -> Iterator[Problem]:
    """Broken rules of one parameter and its conditions."""
    parameter, path = spec.space[name], ("space", name)
    rule = _place_rule(name)
    if rule is not None:
        yield partial.problem(path, rule, _meant(name))
        return
    yield from _fixed_problems(partial, name)
    if isinstance(parameter, CategoricalParameter):
        broken = list(_choice_problems(partial, path, parameter))
    else:
        broken = list(_range_problems(partial, path, parameter))
    yield from broken or _prior_problems(partial, spec, name)
    yield from _setting_problems(partial, name, parameter)
    yield from _condition_problems(partial, spec, name)


def _place_rule(name: str) -> str | None:
    """Why `name` cannot be a parameter; None if it can."""
    if name in settings():
        reason = why_fixed(name)
        return f"cannot be searched: {reason}" if reason else None
    if name.startswith(EXTRA):
        valid = name.removeprefix(EXTRA).isidentifier()
        return None if valid else "must be extra.NAME, where NAME is a Python identifier"
    if any(setting.startswith(f"{name}.") for setting in settings()):
        return "is a group of settings, not a setting"
    return "is not a setting of data, model, train or extra"


def _meant(name: str) -> str | None:
    below = [setting for setting in settings() if setting.startswith(f"{name}.")]
    elsewhere = [setting for setting in settings() if setting.rpartition(".")[2] == name]
    if name in settings():
        return None
    if below or elsewhere:
        return f"did you mean {' or '.join((below or elsewhere)[:3])}?"
    return close(name, settings())


def _fixed_problems(partial: PartialModel[Spec], name: str) -> Iterator[Problem]:
    fixed: list[Path] = [tuple(name.split("."))]
    if name.startswith("train.progressive.size."):
        fixed.append(("train", "progressive", "sizes"))
    line = partial.document.line(("space", name))
    where = f"on line {line}" if line else "on the command line"
    for path in fixed:
        if _is_given(partial, path):
            yield partial.problem(
                path,
                f"is fixed here but searched {where}",
                f"remove it here, or remove space.{name} and its enqueued values",
            )


def _is_given(partial: PartialModel[Spec], path: Path) -> bool:
    holder = partial.document.get(path[:-1])
    if path[-1] == "sizes":
        return partial.document.get(path) is not None
    return isinstance(holder, dict) and path[-1] in holder


def _choice_problems(partial: PartialModel[Spec], path: Path, parameter: CategoricalParameter) -> Iterator[Problem]:
    if not parameter.choices:
        yield partial.problem((*path, "choices"), "must have at least one choice")
    for index, choice in enumerate(parameter.choices):
        if any(same(choice, earlier) for earlier in parameter.choices[:index]):
            yield partial.problem((*path, "choices", index), "appears twice in choices")


def _range_problems(
    partial: PartialModel[Spec], path: Path, parameter: FloatParameter | IntParameter
) -> Iterator[Problem]:
    low, high, step = parameter.low, parameter.high, parameter.step
    largest = LARGEST_WHOLE if isinstance(parameter, IntParameter) else LARGEST
    for end, bound in (("low", low), ("high", high)):
        if abs(bound) > largest:
            rule = f"must be between {-largest:g} and {largest:g}, the range that samplers can search"
            yield partial.problem((*path, end), rule)
    if low > high:
        swap = f"did you mean low: {high:g} and high: {low:g}?"
        yield partial.problem((*path, "low"), f"must be at most high, which is {high:g}", swap)
    continuous = parameter.log or (isinstance(parameter, FloatParameter) and step is None)
    if continuous and 0 < high - low < RESOLUTION * max(abs(low), abs(high)):
        rule = f"must equal low, or be larger by at least {RESOLUTION:g} of it, so that samplers can tell values apart"
        yield partial.problem((*path, "high"), rule)
    if parameter.log and low <= 0:
        yield partial.problem((*path, "low"), "must be > 0 for a logarithmic search", "remove log, or raise low")
    has_grid = step is not None and not (isinstance(parameter, IntParameter) and step == 1)
    if parameter.log and has_grid:
        yield partial.problem(
            (*path, "step"), "cannot be combined with log, because a grid is not logarithmic", "remove one of the two"
        )
    elif has_grid and step is not None and low <= high:
        count = (high - low) / step
        if not math.isfinite(count) or abs(count - round(count)) > GRID_TOLERANCE:
            reached = low + math.floor(count) * step if math.isfinite(count) else low
            yield partial.problem(
                (*path, "step"),
                f"must divide high - low, which is {high - low:g}",
                f"high: {reached:g} would fit",
            )


def _setting_problems(partial: PartialModel[Spec], name: str, parameter: Parameter) -> Iterator[Problem]:
    """Values of the parameter that the setting does not accept."""
    values: dict[Path, Choice]
    if isinstance(parameter, CategoricalParameter):
        values = {("choices", index): choice for index, choice in enumerate(parameter.choices)}
    else:
        values = {("low",): parameter.low, ("high",): parameter.high}
    rules = {where: setting_rule(name, value) for where, value in values.items()}
    if rules and all(rules.values()) and len(set(rules.values())) == 1 and not name.startswith(EXTRA):
        # Every value breaks the same rule: the type of the parameter is wrong.
        rule = next(iter(rules.values()))
        hint = "use type: int" if isinstance(parameter, FloatParameter) and "whole" in str(rule) else None
        yield partial.problem(("space", name, "type"), f"does not fit {name}, which must be {rule}", hint)
        return
    for where, rule in rules.items():
        if rule is not None:
            yield partial.problem(("space", name, *where), f"must be {rule}, like {name}")


def _prior_problems(partial: PartialModel[Spec], spec: Spec, name: str) -> Iterator[Problem]:
    parameter, path = spec.space[name], ("space", name, "prior")
    if parameter.prior is None:
        return
    if spec.search.policy != "gp" and partial.is_valid("search.policy"):
        yield partial.problem(path, NEEDS_GP, f"set search.policy: gp, which is {spec.search.policy} now, or remove it")
    if not parameter.contains(parameter.prior.center):
        yield partial.problem((*path, "center"), f"is outside the space: must be {describe(parameter)}")


def _condition_problems(partial: PartialModel[Spec], spec: Spec, name: str) -> Iterator[Problem]:
    order = list(spec.space)
    for other, condition in spec.space[name].when.items():
        path = ("space", name, "when", other)
        if other == name:
            yield partial.problem(path, "is the parameter itself; a condition must name another parameter")
        elif other not in spec.space:
            if partial.is_valid_parameter(other):
                yield partial.problem(path, "is not a parameter of the space", close(other, order))
        elif cycle := _cycle(spec, name, other):
            yield partial.problem(path, f"makes a circle of conditions: {' -> '.join(cycle)}")
        elif order.index(other) > order.index(name):
            yield partial.problem(path, "comes later in the space", f"move {other} before {name}")
        elif partial.is_valid_parameter(other) and not can_hold(condition, spec.space[other]):
            yield partial.problem(path, f"can never hold: {other} is {describe(spec.space[other])}")


def _cycle(spec: Spec, name: str, other: str) -> list[str] | None:
    """The circle of conditions from `name` through `other` back to `name`, or None."""
    paths = [[name, other]]
    seen = {other}
    while paths:
        path = paths.pop()
        for following in spec.space[path[-1]].when:
            if following == name:
                return [*path, name]
            if following in spec.space and following not in seen:
                seen.add(following)
                paths.append([*path, following])
    return None
