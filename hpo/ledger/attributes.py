"""The JSON form of records in the attributes of the Optuna storage: their names and their content."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import datetime
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from hpo.gpu_sharing import Packing
from hpo.ledger.outcome import Cause, Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, LeftNode, Origin, Pause, Repeat, RungDecision, TrialRecord
from hpo.ledger.tables.names import (
    ENQUEUED_KEY,
    EPOCH_PREFIX,
    ORIGIN_KEY,
    OUTCOME_KEY,
    PROGRESS_KEY,
    REPEAT_KEY,
    RUN_KEY,
    SETTINGS_KEY,
    START_KEY,
    TITLE_KEY,
)
from hpo.ledger.transfer import Past
from hpo.spec.enqueued import parts
from hpo.spec.parameters import Choice
from trainers.api import EpochMetrics

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

R = TypeVar("R", EpochMetrics, RungDecision, Attempt)

SCHEMA = 4
"""Version of the attributes below. A ledger of a later version is refused with advice. Version 3 hid no attribute of a
trial (`hpo.ledger.tables.names.hidden`). Version 2 knew no trial that a person had stopped."""
OLDEST_SCHEMA = 1
"""The oldest version that is still read. It kept all epochs of a trial in one attribute."""

# Names of the attributes of a study in the Optuna storage:
SCHEMA_KEY, SPEC_KEY, INFO_KEY, SESSIONS_KEY = "hpo:schema", "hpo:spec", "hpo:info", "hpo:sessions"
ENDED_KEY, NODES_KEY, CLEANED_KEY, PAUSED_KEY = "hpo:ended", "hpo:left_nodes", "hpo:cleaned", "hpo:paused"
STOPPING_KEY, PACKING_KEY = "hpo:stopping", "hpo:packing"
RUNS_KEY, HOLDER_KEY, RETRAININGS_KEY = "hpo:mlflow_runs", "hpo:holder", "hpo:retrainings"
TEST_SET_PREFIX = "hpo:opening/"
"""Start of the names of test-set evaluations. Each has an attribute of its own, so none overwrites another."""


def of_trial(trial: FrozenTrial) -> Mapping[str, Any]:
    """All attributes of a trial. A hidden one is newer than what an earlier version left among the user attributes."""
    return {**trial.user_attrs, **trial.system_attrs}


def info_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The `info` of a study's record, from the study's attributes; see `hpo.ledger.records.StudyRecord.info`."""
    return {
        **attributes.get(INFO_KEY, {}),
        "retrainings": attributes.get(RETRAININGS_KEY, []),
        "test_set_evaluations": [
            evaluation for key, evaluation in attributes.items() if key.startswith(TEST_SET_PREFIX)
        ],
    }


def chosen(configuration: Mapping[str, Choice], space: Container[str]) -> tuple[dict[str, Choice], dict[str, Any]]:
    """The values and the attributes of a trial whose configuration a person gave; see `hpo.spec.enqueued`."""
    given = parts(configuration, space)
    stored = {SETTINGS_KEY: given.settings, TITLE_KEY: given.label}
    return given.values, {key: value for key, value in stored.items() if value}


def enqueued(
    configurations: Iterable[Mapping[str, Choice]], space: Container[str], transferred: Iterable[Past]
) -> Iterator[tuple[dict[str, Choice], dict[str, Any]]]:
    """The values and attributes of a new study's first trials: the baseline, other enqueued ones, transferred ones."""
    for number, configuration in enumerate(configurations):
        origin = Origin("enqueued" if number else "baseline")
        values, stored = chosen(configuration, space)
        yield values, stored | {ENQUEUED_KEY: True, ORIGIN_KEY: dataclasses.asdict(origin)}
    for past in transferred:
        origin = Origin("transferred", past.source, past.trial)
        yield dict(past.values), {ORIGIN_KEY: dataclasses.asdict(origin)}


def start_to_json(trial: TrialRecord) -> dict[str, Any]:
    """The `start` attribute: seed, origin and attempts."""
    return {
        "seed": trial.seed,
        "control": trial.control,
        "origin": dataclasses.asdict(trial.origin) if trial.origin else None,
        "attempts": [_attempt_to_json(attempt) for attempt in trial.attempts],
    }


def _attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """All fields, but for one that says nothing of most studies."""
    stored = dataclasses.asdict(attempt)
    return stored if attempt.taken_up else {key: value for key, value in stored.items() if key != "taken_up"}


def outcome_to_json(outcome: Outcome, finished: float | None = None) -> dict[str, Any]:
    """The `outcome` attribute.

    Args:
        finished: when a final outcome was recorded. Optuna's own time of it is from a clock that may jump.
    """
    cause = {"cause": outcome.cause.value} if outcome.cause else {}
    time = {"finished": finished} if finished is not None else {}
    kept = {"kept": True} if outcome.kept else {}
    return {"ending": outcome.ending.value, "reason": outcome.reason, **cause, **kept, **time}


def outcome_from_json(stored: Mapping[str, Any]) -> Outcome:
    """Read the `outcome` attribute."""
    cause = Cause(stored["cause"]) if "cause" in stored else None
    return Outcome(Ending(stored["ending"]), stored["reason"], cause, bool(stored.get("kept")))


STORED: Mapping[str, Callable[[TrialRecord], Any]] = {
    START_KEY: start_to_json,
    OUTCOME_KEY: lambda trial: None if trial.outcome is None else outcome_to_json(trial.outcome, trial.finished),
    RUN_KEY: lambda trial: trial.mlflow_run_id,
}
"""The content of an attribute of a trial, by name."""


def epoch_key(epoch: int) -> str:
    """Name of the attribute of an epoch, counted from 1."""
    return f"{EPOCH_PREFIX}{epoch}"


def epoch_to_json(epoch: EpochRecord, rung: RungDecision | None = None) -> dict[str, Any]:
    """The attribute of an epoch: its metrics, and the decision that followed from it. What is None is left out."""
    return (
        {"recorded": epoch.recorded}
        | ({} if epoch.score is None else {"score": epoch.score})
        | {key: value for key, value in _shallow(epoch.metrics).items() if value is not None}
        | ({} if rung is None else {"rung": _shallow(rung)})
    )


def _shallow(record: EpochMetrics | RungDecision) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def stored_epochs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The epochs of a trial as they are stored, the first one first.

    Args:
        attributes: of the trial; the `progress` attribute has those that an earlier version wrote.
    """
    former = attributes.get(PROGRESS_KEY, {}).get("epochs", ())
    own = [value for key, value in attributes.items() if key.startswith(EPOCH_PREFIX)]
    return [*former, *sorted(own, key=itemgetter("epoch"))]


def stored_rungs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rung decisions about a trial as they are stored, in their order; see `stored_epochs`."""
    former = attributes.get(PROGRESS_KEY, {}).get("rungs", ())
    own = [value["rung"] for key, value in attributes.items() if key.startswith(EPOCH_PREFIX) and "rung" in value]
    return [*former, *sorted(own, key=itemgetter("order"))]


def searched(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What samplers read of a trial's attributes where the study has one objective. Of many trials it is kept in
    memory, where JSON takes ten times the room of its text."""
    kept: dict[str, Any] = {}
    for key, value in attributes.items():
        if key == START_KEY:
            kept[key] = {"attempts": [{"lost": attempt.get("lost")} for attempt in value.get("attempts", ())[-1:]]}
        elif key == PROGRESS_KEY:
            kept[key] = {"rungs": [_searched_rung(rung) for rung in value.get("rungs", ())]}
        elif not key.startswith(EPOCH_PREFIX):
            kept[key] = value
        elif "rung" in value:
            kept[key] = {"epoch": value["epoch"], "rung": _searched_rung(value["rung"])}
    return kept


def _searched_rung(rung: Mapping[str, Any]) -> dict[str, Any]:
    return {"rung": rung["rung"], "value": rung["value"], "order": rung["order"]}


def _reader(kind: type[R]) -> Callable[[Mapping[str, Any]], R]:
    """Makes records of a frozen class with slots from what is stored of their fields; other names are ignored.

    The slots are filled directly. The class's own constructor looks up for each field how it is set, which takes most
    of the time in which the records of a large study are made.
    """
    fields = [(field.name, getattr(kind, field.name).__set__, field.default) for field in dataclasses.fields(kind)]
    needed = [(name, fill) for name, fill, default in fields if default is dataclasses.MISSING]
    others = [(name, fill, default) for name, fill, default in fields if default is not dataclasses.MISSING]

    def read(stored: Mapping[str, Any]) -> R:
        record = object.__new__(kind)
        for name, fill in needed:
            fill(record, stored[name])
        for name, fill, default in others:
            fill(record, stored.get(name, default))
        return record

    return read


_metrics, _rung, _attempt = _reader(EpochMetrics), _reader(RungDecision), _reader(Attempt)


def _epoch(stored: Mapping[str, Any]) -> EpochRecord:
    return EpochRecord(_metrics(stored), stored["recorded"], stored.get("score"))


def trial_from_frozen(trial: FrozenTrial, late_runs: Mapping[str, str] = MappingProxyType({})) -> TrialRecord:
    """The record of a trial that Optuna stores.

    Args:
        late_runs: MLflow run by trial number, of runs that were linked after the trial had ended.
    """
    attributes = of_trial(trial)
    start = attributes.get(START_KEY, {})
    stored = attributes.get(OUTCOME_KEY)
    fixed = attributes.get("fixed_params", {})
    return TrialRecord(
        number=trial.number,
        values=dict(trial.params) or dict(fixed),
        settings=attributes.get(SETTINGS_KEY, {}),
        title=attributes.get(TITLE_KEY),
        seed=start.get("seed"),
        enqueued=bool(attributes.get(ENQUEUED_KEY, False)),
        origin=Origin(**origin) if (origin := attributes.get(ORIGIN_KEY) or start.get("origin")) else None,
        control=bool(start.get("control", False)),
        attempts=tuple(map(_attempt, start.get("attempts", ()))),
        epochs=tuple(map(_epoch, stored_epochs(attributes))),
        rungs=tuple(map(_rung, stored_rungs(attributes))),
        outcome=outcome_from_json(stored) if stored else None,
        mlflow_run_id=late_runs.get(str(trial.number)) or attributes.get(RUN_KEY),
        finished=(stored or {}).get("finished") or _timestamp(trial.datetime_complete),
        repeat=Repeat(**attributes[REPEAT_KEY]) if REPEAT_KEY in attributes else None,
    )


def left_nodes(attributes: Mapping[str, Any]) -> tuple[LeftNode, ...]:
    """The nodes that get no trials, from the study's attributes."""
    return tuple(LeftNode(**node) for node in attributes.get(NODES_KEY, ()))


def packing(attributes: Mapping[str, Any]) -> Packing | None:
    """How many trials share a GPU, from the study's attributes."""
    stored = attributes.get(PACKING_KEY)
    return Packing.from_json(stored) if stored else None


def pause(attributes: Mapping[str, Any]) -> Pause | None:
    """Who paused the driver that has the study open, from the study's attributes."""
    stored = attributes.get(PAUSED_KEY)
    return Pause(**stored) if stored and attributes.get(HOLDER_KEY) else None


def stopping(attributes: Mapping[str, Any]) -> str | None:
    """Why the driver that has the study open is about to end; what an earlier one recorded does not count."""
    stored, holder = attributes.get(STOPPING_KEY), attributes.get(HOLDER_KEY)
    return stored["reason"] if stored and holder and stored["driver"] == holder["token"] else None


def _timestamp(moment: datetime | None) -> float | None:
    """Seconds since the epoch, of a study from before outcomes had a time; Optuna's are naive, in local time."""
    return moment.timestamp() if moment is not None else None
