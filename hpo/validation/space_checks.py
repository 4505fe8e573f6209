"""Rules of a search space: each parameter in itself, against the setting it varies, and its conditions."""

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
from hpo.validation.partial import Draft
from hpo.validation.problems import Problem
from hpo.validation.settings import EXTRA, settings
from hpo.validation.yaml_reader import Path

_SAME_FOR_ALL = {
    "data.": "the data and their split are the same for all trials, or accuracies could not be compared",
    "train.eval_size": "all trials are evaluated at one image size, or accuracies could not be compared",
    "train.compute_size": "all trials count compute in one unit, or rungs could not be compared",
    "train.epochs": "the horizon is the same for all trials; ASHA stops the poor ones early",
}


def parameter_problems(found: Draft[Spec], spec: Spec, name: str) -> Iterator[Problem]:
    """What is wrong with one parameter, conditions included."""
    parameter, path = spec.space[name], ("space", name)
    rule = _place_rule(name)
    if rule is not None:
        yield found.problem(path, rule, _meant(name))
        return
    yield from _fixed_problems(found, name)
    if isinstance(parameter, CategoricalParameter):
        yield from _choice_problems(found, path, parameter)
    else:
        yield from _range_problems(found, path, parameter)
    yield from _setting_problems(found, name, parameter)
    yield from _condition_problems(found, spec, name)


def _place_rule(name: str) -> str | None:
    """Why `name` is no setting that can be searched; None where it is one."""
    for start, reason in _SAME_FOR_ALL.items():
        if name.startswith(start) and (name in settings()):
            return f"cannot be searched: {reason}"
    if name.startswith(EXTRA):
        return None if name.removeprefix(EXTRA).isidentifier() else "must be extra.NAME, the name an identifier"
    if name == "train.progressive.sizes":
        return "cannot be searched: it is a list; search train.progressive.size.start and .end"
    if name in settings():
        return None
    if any(known.startswith(f"{name}.") for known in settings()):
        return "is a group of settings; name one of them"
    return "is no setting of data, model, train or extra"


def _meant(name: str) -> str | None:
    below = [known for known in settings() if known.startswith(f"{name}.")]
    elsewhere = [known for known in settings() if known.rpartition(".")[2] == name]
    if name in settings():
        return None
    if below or elsewhere:
        return f"did you mean {' or '.join((below or elsewhere)[:3])}?"
    return close(name, settings())


def _fixed_problems(found: Draft[Spec], name: str) -> Iterator[Problem]:
    fixed: list[Path] = [tuple(name.split("."))]
    if name.startswith("train.progressive.size."):
        fixed.append(("train", "progressive", "sizes"))
    line = found.document.line(("space", name))
    where = f"on line {line}" if line else "on the command line"
    for path in fixed:
        if _is_given(found, path):
            yield found.problem(
                path,
                f"is fixed here and searched {where}",
                f"remove it here, or take space.{name} and its enqueued values out",
            )


def _is_given(found: Draft[Spec], path: Path) -> bool:
    holder = found.document.get(path[:-1])
    if path[-1] == "sizes":
        return found.document.get(path) is not None
    return isinstance(holder, dict) and path[-1] in holder


def _choice_problems(found: Draft[Spec], path: Path, parameter: CategoricalParameter) -> Iterator[Problem]:
    if not parameter.choices:
        yield found.problem((*path, "choices"), "must hold at least one choice")
    for index, choice in enumerate(parameter.choices):
        if any(same(choice, earlier) for earlier in parameter.choices[:index]):
            yield found.problem((*path, "choices", index), "is given twice in choices")


def _range_problems(found: Draft[Spec], path: Path, parameter: FloatParameter | IntParameter) -> Iterator[Problem]:
    low, high, step = parameter.low, parameter.high, parameter.step
    if low > high:
        swap = f"did you mean low: {high:g} and high: {low:g}?"
        yield found.problem((*path, "low"), f"must be at most high, which is {high:g}", swap)
    if parameter.log and low <= 0:
        yield found.problem((*path, "low"), "must be > 0 for a logarithmic search", "drop log, or raise low")
    has_grid = step is not None and not (isinstance(parameter, IntParameter) and step == 1)
    if parameter.log and has_grid:
        yield found.problem((*path, "step"), "excludes log: a grid cannot be logarithmic", "drop one of the two")
    elif has_grid and step is not None and low <= high:
        count = (high - low) / step
        if not math.isfinite(count) or abs(count - round(count)) > GRID_TOLERANCE:
            reached = low + math.floor(count) * step if math.isfinite(count) else low
            yield found.problem(
                (*path, "step"),
                f"must divide high - low, which is {high - low:g}",
                f"high: {reached:g} would fit",
            )


def _setting_problems(found: Draft[Spec], name: str, parameter: Parameter) -> Iterator[Problem]:
    """Values that the setting itself does not admit."""
    values: dict[Path, Choice]
    if isinstance(parameter, CategoricalParameter):
        values = {("choices", index): choice for index, choice in enumerate(parameter.choices)}
    else:
        values = {("low",): parameter.low, ("high",): parameter.high}
    rules = {where: setting_rule(name, value) for where, value in values.items()}
    if rules and all(rules.values()) and len(set(rules.values())) == 1 and not name.startswith(EXTRA):
        # Every value is wrong in the same way: it is the parameter that does not suit the setting.
        rule = next(iter(rules.values()))
        hint = "use type: int" if isinstance(parameter, FloatParameter) and "whole" in str(rule) else None
        yield found.problem(("space", name, "type"), f"does not suit {name}, which must be {rule}", hint)
        return
    for where, rule in rules.items():
        if rule is not None:
            yield found.problem(("space", name, *where), f"must be {rule}, as {name} is")


def _condition_problems(found: Draft[Spec], spec: Spec, name: str) -> Iterator[Problem]:
    order = list(spec.space)
    for other, condition in spec.space[name].when.items():
        path = ("space", name, "when", other)
        if other == name:
            yield found.problem(path, "is the parameter itself; a condition names another one")
        elif other not in spec.space:
            if found.knows_parameter(other):
                yield found.problem(path, "is no parameter of the space", close(other, order))
        elif cycle := _cycle(spec, name, other):
            yield found.problem(path, f"makes a circle of conditions: {' -> '.join(cycle)}")
        elif order.index(other) > order.index(name):
            yield found.problem(path, "comes later in the space", f"move {other} before {name}")
        elif found.knows_parameter(other) and not can_hold(condition, spec.space[other]):
            yield found.problem(path, f"can never hold: {other} is {describe(spec.space[other])}")


def _cycle(spec: Spec, name: str, other: str) -> list[str] | None:
    """The way from `name` over `other` back to `name` along conditions, or None."""
    ways = [[name, other]]
    seen = {other}
    while ways:
        way = ways.pop()
        for following in spec.space[way[-1]].when:
            if following == name:
                return [*way, name]
            if following in spec.space and following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None
