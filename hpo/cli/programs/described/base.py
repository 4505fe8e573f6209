"""What descriptions of documents share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_STAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$"
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"}, pattern=_STAMP)]
"""ISO 8601 in UTC, to the second: `2026-01-31T12:00:00+00:00`."""
Path = Annotated[str, Field(description="An absolute path.")]
Value = bool | int | float | str | None
"""A value of a searched parameter."""
Parameters = dict[str, Value]
"""Searched parameters by dotted path."""


class Part(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Document(Part):
    """One document: what a command prints."""

    schema_: Literal[1] = Field(alias="schema")
    """Version of the keys. It grows where a key goes away or changes its meaning, not where one is added."""


class Problem(Part):
    """A broken rule of a specification. Its value is left out, because it may be secret."""

    line: int | None
    """Line in the file; null for an override."""
    path: str
    """The setting, as a dotted path."""
    rule: str
    """What it must be."""
    hint: str | None
    """What was probably meant."""


class Error(Document):
    """Any command that fails."""

    kind: Literal["error"]
    error: str
    """Class of the error."""
    message: str
    """What a person reads on standard error."""
    advice: str | None
    """What to do next."""
    exit_code: int
    """The exit code of the command."""
    problems: list[Problem]
    """The broken rules of a specification; empty for other errors."""


class Step(Part):
    """Something that can be done now."""

    purpose: str
    """What for, in words."""
    command: str
    """What to type in a shell; `…` and words in capitals are for the person to fill in."""


class Interval(Part):
    """A value and its 95 % interval, in units of the objective."""

    mean: float
    """The value."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


class Gain(Part):
    """How much better than the baseline: positive is better, in units of the objective."""

    value: float
    """The difference to the baseline."""
    interval: Interval | None
    """Null if nothing is known about the noise."""
    within_noise: bool | None
    """Whether the difference may be chance; null if that is not known."""
