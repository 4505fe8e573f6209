"""Axes of searched parameters: logarithms for logarithmic ranges, places for choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.redact import redact
from hpo.spec.parameters import Choice, Parameter
from hpo.text import short_names
from reports.drawing.plot import Axis

MOST_LEVELS = 12
"""A range of at most this many steps gets a tick for each step."""
NO_SHARED = "The studies have no searched parameter in common."


@dataclass(frozen=True)
class Scale:
    """One searched parameter as an axis; `low` and `high` are positions on it."""

    name: str
    label: str
    low: float
    high: float
    log: bool = False
    choices: tuple[Choice, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    levels: tuple[float, ...] = ()
    """All possible positions, if there are few."""

    def position(self, value: Choice) -> float | None:
        """The position of `value`; None for a value of another kind, which an older study may contain."""
        if self.choices:
            places = [i for i, choice in enumerate(self.choices) if choice == value and type(choice) is type(value)]
            return float(places[0]) if places else None
        if isinstance(value, str | bool) or value is None or (self.log and value <= 0):
            return None
        return math.log10(value) if self.log else float(value)

    def share(self, position: float) -> float:
        """`position` as a share of the axis: 0 at `low`, 1 at `high`."""
        return (position - self.low) / (self.high - self.low) if self.high > self.low else 0.5

    @property
    def axis(self) -> Axis:
        """The axis, a little wider than the range."""
        margin = 0.04 * (self.high - self.low) or 0.5
        if self.choices:
            margin = 0.5
        title = f"{self.label} (log scale)" if self.log else self.label
        return Axis(title, span=(self.low - margin, self.high + margin), ticks=self.ticks or None)

    def describe(self) -> str:
        """The range in words."""
        if self.choices:
            return ", ".join(word(choice) for choice in self.choices)
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        return f"{low:.4g} to {high:.4g}{', logarithmic' if self.log else ''}"


def scales(studies: Sequence[StudyRecord]) -> dict[str, Scale]:
    """The axes of the parameters that all studies search, in the order of the first study's space."""
    shared = [name for name in studies[0].spec.space if all(name in study.spec.space for study in studies)]
    short = short_names(shared)
    axes = {name: _scale(name, short[name], [study.spec.space[name] for study in studies]) for name in shared}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _scale(name: str, label: str, parameters: Sequence[Parameter]) -> Scale | None:
    """The axis that holds the values of all these parameters; None if only some of them are categorical."""
    categorical = [parameter for parameter in parameters if parameter.type == "categorical"]
    numeric = [parameter for parameter in parameters if parameter.type != "categorical"]
    if categorical and numeric:
        return None
    if categorical:
        choices = [choice for parameter in categorical for choice in parameter.choices]
        return _categorical(name, label, tuple({(type(choice), choice): choice for choice in choices}.values()))
    return _numeric(
        name,
        label,
        min(parameter.low for parameter in numeric),
        max(parameter.high for parameter in numeric),
        log=all(parameter.log for parameter in numeric),
        step=max((parameter.step or 0.0 for parameter in numeric), default=0.0),
    )


def word(value: Choice) -> str:
    """A parameter's value as text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else redact(str(value))


def values_text(values: Mapping[str, Choice]) -> str:
    """A configuration as text, one parameter per line."""
    short = short_names(values)
    return "\n".join(f"{short[name]} = {word(value)}" for name, value in values.items())


def _categorical(name: str, label: str, choices: tuple[Choice, ...]) -> Scale:
    places = tuple(float(index) for index in range(len(choices)))
    ticks = tuple((place, _clip(word(choice))) for place, choice in zip(places, choices, strict=True))
    return Scale(name, label, 0.0, max(places), choices=choices, ticks=ticks, levels=places)


def _clip(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:15]}…"


def _numeric(name: str, label: str, low: float, high: float, *, log: bool, step: float) -> Scale:
    if log:
        return Scale(name, label, math.log10(low), math.log10(high), log=True, ticks=_log_ticks(low, high))
    levels: tuple[float, ...] = ()
    if step and (high - low) / step < MOST_LEVELS:
        levels = tuple(low + step * index for index in range(round((high - low) / step) + 1))
    return Scale(
        name, label, float(low), float(high), ticks=tuple((level, f"{level:g}") for level in levels), levels=levels
    )


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    width = math.log10(high / low)
    steps = (1, 2, 5) if width < 1 else (1, 3) if width < 2 else (1,)
    values = [step * 10.0**decade for decade in decades for step in steps]
    inside = [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]
    return tuple((math.log10(value), f"{value:.3g}") for value in inside or [low, high])
