"""The names of a trial's attributes, and which of them programs that show a study to people list."""

from __future__ import annotations

START_KEY, PROGRESS_KEY, OUTCOME_KEY, RUN_KEY = "start", "progress", "outcome", "mlflow_run_id"
ENQUEUED_KEY, ORIGIN_KEY, REPEAT_KEY, REQUESTED_KEY = "enqueued", "origin", "repeat", "requested"
SETTINGS_KEY, TITLE_KEY = "settings", "label"
EPOCH_PREFIX = "epoch/"
"""Start of the names of a trial's epochs. Each has an attribute of its own, so that none is written twice."""


def hidden(name: str) -> bool:
    """Whether an attribute is among Optuna's system attributes. Programs like Optuna Dashboard list all user
    attributes: these are how the trial ended, and what was known before it began."""
    return name in (START_KEY, RUN_KEY) or name.startswith(EPOCH_PREFIX)
