"""How a trial ended: one pure function decides, Optuna and MLflow are both told what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Ending(str, Enum):
    """The ways a trial can stand when nobody is training it."""

    COMPLETE = "complete"
    """Trained for all its epochs; the only kind that can be the best configuration."""
    PRUNED = "pruned"
    """Stopped by ASHA at a rung."""
    FAILED = "failed"
    """Diverged, crashed, ran out of memory or lost its worker too often. Has a reason."""
    INTERRUPTED = "interrupted"
    """The study stopped under it; it goes on from its last checkpoint when the study is resumed."""


@dataclass(frozen=True)
class Outcome:
    """What is recorded of a trial's end."""

    ending: Ending
    reason: str
    """One sentence for a person."""

    @property
    def final(self) -> bool:
        """Whether the trial will never train again."""
        return self.ending is not Ending.INTERRUPTED


OPTUNA_STATE = {
    Ending.COMPLETE: "COMPLETE",
    Ending.PRUNED: "PRUNED",
    Ending.FAILED: "FAIL",
    Ending.INTERRUPTED: "WAITING",
}
"""Optuna's `TrialState` by name. WAITING keeps parameters and values, and is what `resume` asks for next."""

MLFLOW_STATUS = {
    Ending.COMPLETE: "FINISHED",
    Ending.PRUNED: "KILLED",
    Ending.FAILED: "FAILED",
    Ending.INTERRUPTED: "SCHEDULED",
}
"""MLflow's `RunStatus` by name; PRUNED is KILLED as in MLflow's own Optuna storage."""


def classify(
    *,
    epochs: int,
    horizon: int,
    value: float | None,
    failure: str | None = None,
    pruned_at: float | None = None,
) -> Outcome:
    """The outcome of a trial that is no longer training.

    Args:
        epochs: epochs it reported.
        horizon: epochs of the full training.
        value: its last reported objective, None if it never reported.
        failure: why it broke, if it did.
        pruned_at: the rung at which ASHA stopped it, if it did.
    """
    if failure is not None:
        return Outcome(Ending.FAILED, failure)
    if value is not None and not math.isfinite(value):
        return Outcome(Ending.FAILED, f"the objective is {value} after epoch {epochs}")
    if epochs >= horizon:
        return Outcome(Ending.COMPLETE, f"trained for all {horizon} epochs")
    if pruned_at is not None:
        return Outcome(Ending.PRUNED, f"below the cutoff of the rung at {pruned_at:g}")
    return Outcome(Ending.INTERRUPTED, f"stopped after epoch {epochs} of {horizon}")
