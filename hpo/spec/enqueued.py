"""A configuration that a person enqueues: searched values, other settings that it changes, and what it is called.

Settings outside the space make it another training than those that the search can suggest, as a published recipe with
another optimiser is. Such a trial is a reference: it is never stopped, and no sampler and no model of the space learns
from it, because they would credit its result to the searched values alone.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from hpo.spec.parameters import Choice

LABEL_KEY = "label"
"""The key of an enqueued configuration that is no setting: what it is called."""


@dataclass(frozen=True)
class Enqueued:
    """The parts of an enqueued configuration."""

    values: dict[str, Choice]
    """Of searched parameters, by dotted path: all that the sampler sees."""
    settings: dict[str, Choice] = field(default_factory=dict)
    """Of other settings, by dotted path."""
    label: str | None = None
    """What people read; None if it has no name of its own."""


def parts(configuration: Mapping[str, Choice], space: Container[str]) -> Enqueued:
    """The parts of a configuration as the specification gives it.

    Args:
        space: the names of the searched parameters.
    """
    label = configuration.get(LABEL_KEY)
    given = {name: value for name, value in configuration.items() if name != LABEL_KEY}
    return Enqueued(
        {name: value for name, value in given.items() if name in space},
        {name: value for name, value in given.items() if name not in space},
        None if label is None else str(label),
    )
