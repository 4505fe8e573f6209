"""The parameters of a search space and their conditions. `hpo.search.distributions` translates them for Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

Number: TypeAlias = int | float
Scalar: TypeAlias = bool | int | float | str
Choice: TypeAlias = bool | int | float | str | None
"""A value of a parameter; null only if the setting accepts it, e.g. `model.drop_path`."""


class Section(BaseModel):
    """Base of all parts of a specification: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class Condition(Section):
    """Tests of the value of another parameter. All given tests must hold."""

    model_config = ConfigDict(populate_by_name=True)

    ge: Number | None = None
    """At least this."""
    gt: Number | None = None
    """More than this."""
    le: Number | None = None
    """At most this."""
    lt: Number | None = None
    """Less than this."""
    eq: Scalar | None = None
    """Exactly this."""
    ne: Scalar | None = None
    """Any value except this."""
    in_: tuple[Choice, ...] | None = Field(default=None, alias="in")
    """One of these."""

    @model_validator(mode="after")
    def _says_something(self) -> Condition:
        for name in self.model_fields_set:
            if getattr(self, name) is None:
                raise ValueError(f"{name} must not be null")  # `tests` would take it for a test that was not given
        if not self.tests():
            raise ValueError("must have at least one of ge, gt, le, lt, eq, ne, in")
        return self

    @model_serializer
    def tests(self) -> dict[str, Any]:
        """The tests that were given, by their YAML names."""
        given = {name: getattr(self, name) for name in ("ge", "gt", "le", "lt", "eq", "ne")} | {"in": self.in_}
        return {name: value for name, value in given.items() if value is not None}

    def holds(self, value: Choice) -> bool:
        """Whether `value` passes every test; text and null never pass an ordering test."""
        return all(_TESTS[name](value, wanted) for name, wanted in self.tests().items())


def is_number(value: object) -> TypeGuard[Number]:
    """Whether `value` is an int or a float; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(a: object, b: object) -> bool:
    """Equality that keeps booleans apart from numbers: `True` is not 1, but 1 is 1.0."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def close_to(a: Choice, b: Choice) -> bool:
    """`same`, but with a tolerance for rounding: three steps of 0.1 equal 0.3."""
    if is_number(a) and is_number(b):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return same(a, b)


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "ge": lambda value, bound: is_number(value) and (value > bound or close_to(value, bound)),
    "gt": lambda value, bound: is_number(value) and value > bound and not close_to(value, bound),
    "le": lambda value, bound: is_number(value) and (value < bound or close_to(value, bound)),
    "lt": lambda value, bound: is_number(value) and value < bound and not close_to(value, bound),
    "eq": close_to,
    "ne": lambda value, other: not close_to(value, other),
    "in": lambda value, members: any(close_to(value, member) for member in members),
}


class Prior(Section):
    """Where good values of a parameter are expected. It guides the first trials and fades as results come in."""

    center: Choice
    """The value that is expected to be best; one that a trial may take."""
    confidence: Literal["low", "medium", "high"] = "medium"
    """How sure that is. `low`, `medium`, `high`: the expectation has a standard deviation of 0.5, 0.25 or 0.125 of the
    range (on a log scale with `log`), or makes a choice 2, 4 or 6 times as likely as another one."""


class _Parameter(Section):
    prior: Prior | None = None
    """Where good values are expected, for `search.policy: gp`; null: nowhere in particular."""
    when: dict[str, Condition] = {}
    """Conditions by the dotted path of an earlier parameter. The parameter is active only if all of them hold. In a
    trial where it is not active, the setting has the baseline's value, or else its default."""

    def is_active(self, values: Mapping[str, Choice]) -> bool:
        """Whether this parameter is active; `values` are those of the parameters before it."""
        return all(other in values and test.holds(values[other]) for other, test in self.when.items())


class FloatParameter(_Parameter):
    """A real number between two bounds."""

    type: Literal["float"]
    """`float`."""
    low: float
    """Smallest value, included."""
    high: float
    """Largest value, included."""
    log: bool = False
    """Search on a logarithmic scale; needs low > 0."""
    step: float | None = Field(default=None, gt=0)
    """Distance between values; high - low must be a multiple of it. Cannot be combined with log."""

    def contains(self, value: object) -> bool:
        """Whether a trial may take `value`: a number within the bounds and on the grid."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < GRID_TOLERANCE


class IntParameter(_Parameter):
    """A whole number between two bounds."""

    type: Literal["int"]
    """`int`."""
    low: int
    """Smallest value, included."""
    high: int
    """Largest value, included."""
    log: bool = False
    """Search on a logarithmic scale; needs low >= 1. Cannot be combined with a step above 1."""
    step: int = Field(default=1, ge=1)
    """Distance between values; high - low must be a multiple of it."""

    def contains(self, value: object) -> bool:
        """Whether a trial may take `value`: an integer within the bounds and on the grid."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and (value - self.low) % self.step == 0
        )


class CategoricalParameter(_Parameter):
    """One of several values without order."""

    type: Literal["categorical"]
    """`categorical`."""
    choices: tuple[Choice, ...]
    """The values: at least one, all different."""

    def contains(self, value: object) -> bool:
        """Whether a trial may take `value`: one of the choices."""
        return any(same(value, choice) for choice in self.choices)


GRID_TOLERANCE = 1e-8
"""Tolerance for rounding of (value - low) / step, in steps. Optuna has the same."""

Parameter: TypeAlias = FloatParameter | IntParameter | CategoricalParameter
Space: TypeAlias = dict[str, Annotated[Parameter, Field(discriminator="type")]]
"""Parameters by the dotted path of the setting, in the order they are drawn."""


def first_values(space: Mapping[str, Parameter]) -> dict[str, Choice]:
    """The lowest corner of a space: each active parameter at its low end or first choice."""
    values: dict[str, Choice] = {}
    for name, parameter in space.items():
        if parameter.is_active(values):
            values[name] = parameter.choices[0] if isinstance(parameter, CategoricalParameter) else parameter.low
    return values
