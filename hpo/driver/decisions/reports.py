"""Which reports of a trainer are acceptable."""

from __future__ import annotations

import math

from hpo.ledger.records import TrialRecord
from hpo.spec.objectives import reported, unreported
from hpo.spec.study import Spec
from trainers.api import EpochMetrics


def fault(spec: Spec, trial: TrialRecord, metrics: EpochMetrics, *, needs_compute: bool = False) -> str | None:
    """Why the report of a new epoch is not acceptable, so that the trial fails; None for an acceptable one.

    Args:
        trial: as recorded before the report.
        needs_compute: whether the rungs count compute.
    """
    if metrics.epoch != len(trial.epochs) + 1:
        return f"the trainer reported epoch {metrics.epoch} after epoch {len(trial.epochs)}"
    value = reported(metrics, spec.objective.field)
    if value is not None and not math.isfinite(value):
        return f"the objective is {value} after epoch {metrics.epoch}"
    if needs_compute and metrics.compute is None:
        return "asha.resource is compute, which the trainer does not report"
    if missing := unreported(spec.objectives, metrics):
        names = ", ".join(missing)
        return f"the trainer did not report {names}, which objectives asks for, after epoch {metrics.epoch}"
    return None
