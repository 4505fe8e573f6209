"""How a trial ended. One pure function decides, and Optuna and MLflow both record its answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Ending(str, Enum):
    """The states of a trial that is not training."""

    COMPLETE = "complete"
    """Trained for all its epochs. Only complete trials can be the best configuration."""
    PRUNED = "pruned"
    """Stopped by ASHA at a rung."""
    FAILED = "failed"
    """Diverged, crashed, ran out of memory or lost its worker too often. `Outcome.reason` says which."""
    INTERRUPTED = "interrupted"
    """The study stopped before the trial ended. A resumed study continues it from its last checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """How and why a trial ended."""

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
"""Names of Optuna's `TrialState`. A WAITING trial keeps its parameters and values until it is resumed."""

MLFLOW_STATUS = {
    Ending.COMPLETE: "FINISHED",
    Ending.PRUNED: "KILLED",
    Ending.FAILED: "FAILED",
    Ending.INTERRUPTED: "SCHEDULED",
}
"""Names of MLflow's `RunStatus`. MLflow's own Optuna storage also calls pruned trials KILLED."""


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
        epochs: number of epochs that the trial reported.
        horizon: epochs of a full training.
        value: the objective that it reported last; None if it reported nothing.
        failure: why it failed; None if it did not fail.
        pruned_at: the rung at which ASHA stopped it; None if ASHA did not.
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
