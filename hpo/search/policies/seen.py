"""A trial as the samplers see it, whether it comes from Optuna or from the ledger's records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState


@dataclass(frozen=True)
class Seen:
    """A trial that has parameters, in any state."""

    number: int
    params: Mapping[str, Any]
    state: TrialState
    values: Mapping[int, float] = field(default_factory=dict)
    """The value of the first objective by epoch."""
    final: float | None = None
    """The value of a complete trial."""
    rungs: Mapping[float, float] = field(default_factory=dict)
    """The value at each rung that was decided."""
    beside: tuple[float, ...] = ()
    """The values of the other objectives, larger is better; NaN where one is not known."""
    reference: bool = False
    """Whether it has settings outside the space, so that its result says nothing about the space."""
    accident: bool = False
    """Whether it failed for a reason that no configuration causes, or a person stopped it before its first rung."""

    @property
    def ended(self) -> bool:
        """Whether nothing about it changes any more."""
        return self.state.is_finished()

    @property
    def last(self) -> tuple[int, float] | None:
        """The last epoch that has a value, and the value."""
        return max(self.values.items()) if self.values else None
