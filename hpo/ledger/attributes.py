"""The form in which the Optuna storage keeps records: names of attributes, and what is in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, Origin, Repeat, RungDecision, TrialRecord
from trainers.api import EpochMetrics

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SCHEMA = 1
"""Version of the attributes below; a ledger of a newer version is refused with advice, never misread."""

# Names of the attributes in the Optuna storage. Study:
SCHEMA_KEY, SPEC_KEY, INFO_KEY, SESSIONS_KEY = "hpo:schema", "hpo:spec", "hpo:info", "hpo:sessions"
ENDED_KEY = "hpo:ended"
RUNS_KEY, HOLDER_KEY, RETRAININGS_KEY = "hpo:mlflow_runs", "hpo:holder", "hpo:retrainings"
OPENING_KEY = "hpo:opening/"
"""Begins the name of an attribute of its own per look at the test set, so that no two can overwrite each other."""
# Trial:
START_KEY, PROGRESS_KEY, OUTCOME_KEY, RUN_KEY = "start", "progress", "outcome", "mlflow_run_id"
BASELINE_KEY, ORIGIN_KEY, REPEAT_KEY = "enqueued", "origin", "repeat"


def info_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a study beside its trials, from its attributes; see `hpo.ledger.records.StudyRecord.info`."""
    return {
        **attributes.get(INFO_KEY, {}),
        "retrainings": attributes.get(RETRAININGS_KEY, []),
        "openings": [one for key, one in attributes.items() if key.startswith(OPENING_KEY)],
    }


def start_to_json(trial: TrialRecord) -> dict[str, Any]:
    """The form of the `start` attribute: how the trial came to be, and its attempts."""
    return {
        "seed": trial.seed,
        "control": trial.control,
        "origin": dataclasses.asdict(trial.origin) if trial.origin else None,
        "attempts": [dataclasses.asdict(attempt) for attempt in trial.attempts],
    }


def outcome_to_json(outcome: Outcome) -> dict[str, str]:
    """The form of the `outcome` attribute."""
    return {"ending": outcome.ending.value, "reason": outcome.reason}


def progress_to_json(epochs: tuple[EpochRecord, ...], rungs: tuple[RungDecision, ...]) -> dict[str, Any]:
    """The form of the `progress` attribute; fields that are None are left out."""
    return {
        "epochs": [
            {"recorded": epoch.recorded}
            | {key: value for key, value in dataclasses.asdict(epoch.metrics).items() if value is not None}
            for epoch in epochs
        ],
        "rungs": [dataclasses.asdict(rung) for rung in rungs],
    }


def progress_from_json(stored: Mapping[str, Any]) -> tuple[tuple[EpochRecord, ...], tuple[RungDecision, ...]]:
    """The inverse of `progress_to_json`."""
    epochs = tuple(
        EpochRecord(
            metrics=EpochMetrics(**{key: value for key, value in epoch.items() if key != "recorded"}),
            recorded=epoch["recorded"],
        )
        for epoch in stored.get("epochs", ())
    )
    return epochs, tuple(RungDecision(**rung) for rung in stored.get("rungs", ()))


def trial_from_frozen(trial: FrozenTrial, late_runs: Mapping[str, str] = MappingProxyType({})) -> TrialRecord:
    """The record of one trial as Optuna stores it; `late_runs` are MLflow runs known only after it was sealed."""
    attributes = trial.user_attrs
    start = attributes.get(START_KEY, {})
    epochs, rungs = progress_from_json(attributes.get(PROGRESS_KEY, {}))
    stored = attributes.get(OUTCOME_KEY)
    fixed = trial.system_attrs.get("fixed_params", {})
    return TrialRecord(
        number=trial.number,
        values=dict(trial.params) or dict(fixed),
        seed=start.get("seed"),
        enqueued=bool(attributes.get(BASELINE_KEY, False)),
        origin=Origin(**origin) if (origin := attributes.get(ORIGIN_KEY) or start.get("origin")) else None,
        control=bool(start.get("control", False)),
        attempts=tuple(Attempt(**attempt) for attempt in start.get("attempts", ())),
        epochs=epochs,
        rungs=rungs,
        outcome=Outcome(Ending(stored["ending"]), stored["reason"]) if stored else None,
        mlflow_run_id=late_runs.get(str(trial.number)) or attributes.get(RUN_KEY),
        finished=timestamp(trial.datetime_complete),
        repeat=Repeat(**attributes[REPEAT_KEY]) if REPEAT_KEY in attributes else None,
    )


def timestamp(moment: datetime | None) -> float | None:
    """Seconds since the epoch of a datetime as Optuna stores it (naive means local time)."""
    return moment.timestamp() if moment is not None else None
