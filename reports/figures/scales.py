"""Where a parameter's values lie on an axis: logarithms for log ranges, places for choices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpo.ledger.records import Scalar, StudyRecord
from hpo.redact import redact
from reports.drawing.plot import Axis

MOST_LEVELS = 12
"""A range of at most as many steps gets a tick for each."""


@dataclass(frozen=True)
class Scale:
    """One searched parameter as an axis; `low` and `high` are positions."""

    name: str
    label: str
    low: float
    high: float
    log: bool = False
    choices: tuple[Scalar, ...] = ()
    ticks: tuple[tuple[float, str], ...] = ()
    levels: tuple[float, ...] = ()
    """All positions, where there are few."""

    def position(self, value: Scalar) -> float | None:
        """Where `value` lies; None for a value of another kind, as an older study may hold."""
        if self.choices:
            found = [i for i, one in enumerate(self.choices) if one == value and type(one) is type(value)]
            return float(found[0]) if found else None
        if isinstance(value, str | bool) or value is None or (self.log and value <= 0):
            return None
        return math.log10(value) if self.log else float(value)

    def share(self, position: float) -> float:
        """`position` between 0 (low) and 1 (high)."""
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
            return ", ".join(word(one) for one in self.choices)
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        return f"{low:.4g} to {high:.4g}{', log' if self.log else ''}"


def scales(studies: Sequence[StudyRecord]) -> dict[str, Scale]:
    """The axes of the parameters that all the studies search, in the order of the first one's space."""
    shared = [name for name in studies[0].spec.space if all(name in study.spec.space for study in studies)]
    labels = short_names(shared)
    found = {}
    for name in shared:
        parameters = [study.spec.space[name] for study in studies]
        if parameters[0].type == "categorical":
            seen = [one for parameter in parameters if parameter.type == "categorical" for one in parameter.choices]
            choices = tuple({(type(one), one): one for one in seen}.values())
            if all(parameter.type == "categorical" for parameter in parameters):
                found[name] = _categorical(name, labels[name], choices)
            continue
        numeric = [parameter for parameter in parameters if parameter.type != "categorical"]
        if len(numeric) == len(parameters):
            ends = min(one.low for one in numeric), max(one.high for one in numeric)
            found[name] = _numeric(
                name,
                labels[name],
                *ends,
                log=all(one.log for one in numeric),
                step=max((one.step or 0.0 for one in numeric), default=0.0),
            )
    return found


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The shortest endings of dotted paths that stay different: `dropout.end`, not `train.progressive.dropout.end`."""
    short = {}
    for name in names:
        parts = name.split(".")
        least = 2 if parts[-1] in ("start", "end") else 1  # an end says nothing without what it is the end of
        endings = [".".join(parts[-count:]) for count in range(least, len(parts) + 1)]
        others = [f".{other}" for other in names if other != name]
        short[name] = next((one for one in endings if not any(o.endswith(f".{one}") for o in others)), name)
    return short


def word(value: Scalar) -> str:
    """A value for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else redact(str(value))


def values_text(values: Mapping[str, Scalar]) -> str:
    """A configuration in lines, for hovering."""
    short = short_names(list(values))
    return "\n".join(f"{short[name]} = {word(value)}" for name, value in values.items())


def _categorical(name: str, label: str, choices: tuple[Scalar, ...]) -> Scale:
    places = tuple(float(index) for index in range(len(choices)))
    ticks = tuple((place, _clip(word(one))) for place, one in zip(places, choices, strict=True))
    return Scale(name, label, 0.0, max(places), choices=choices, ticks=ticks, levels=places)


def _clip(text: str) -> str:
    return text if len(text) <= 16 else f"{text[:15]}…"


def _numeric(name: str, label: str, low: float, high: float, *, log: bool, step: float) -> Scale:
    if log:
        return Scale(name, label, math.log10(low), math.log10(high), log=True, ticks=_log_ticks(low, high))
    levels: tuple[float, ...] = ()
    if step and (high - low) / step < MOST_LEVELS:
        levels = tuple(low + step * index for index in range(round((high - low) / step) + 1))
    return Scale(name, label, float(low), float(high), ticks=tuple((one, f"{one:g}") for one in levels), levels=levels)


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    width = math.log10(high / low)
    steps = (1, 2, 5) if width < 1 else (1, 3) if width < 2 else (1,)
    values = [step * 10.0**decade for decade in decades for step in steps]
    inside = [one for one in values if low * (1 - 1e-9) <= one <= high * (1 + 1e-9)]
    return tuple((math.log10(one), f"{one:.3g}") for one in inside or [low, high])
