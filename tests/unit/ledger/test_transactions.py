"""What the ledger writes to Optuna's tables: as Optuna itself would, at once, and repeatable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import mysql

from hpo.driver.conductor import NOTES_S, Conductor
from hpo.errors import UsageError
from hpo.ledger import attributes
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.ledger.tables import names, reading, transactions, trials
from hpo.ledger.tables.changes import Change, send
from hpo.ledger.writer import Ledger
from hpo.search.asha import replay
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.clocks import Time
from tests.support.in_process_driver import Died, create, finish, reopen, steps, told
from tests.support.statements import counted, open_at_once, write_little
from trainers.api import EpochMetrics

PARAMETERS = {
    "rate": (0.01, FloatDistribution(1e-4, 1.0, log=True)),
    "size": (48, IntDistribution(16, 64, step=16)),
    "kind": ("adamw", CategoricalDistribution(["sgd", "adamw", None])),
}
SHORT = {"epochs": 1, "progressive": {"stages": 1}}
AT = 1_700_000_000.25


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], RDBStorage]:
    """Opens the same SQLite file for one driver after the other."""
    return lambda: open_storage(f"sqlite:///{tmp_path / 'ledger.db'}")


def begun(number: int) -> FrozenTrial:
    """A trial with its parameters, of which nothing is stored."""
    trial = optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params={name: value for name, (value, _) in PARAMETERS.items()},
        distributions={name: distribution for name, (_, distribution) in PARAMETERS.items()},
    )
    trial.number = number
    return trial


def life(number: int) -> list[Change]:
    """Everything that can happen to a trial, in one order in which it can."""
    return [
        Change(number, {"start": {"seed": 1}}, AT, begun=begun(number)),
        Change(number, {"epoch/1": {"epoch": 1, "text": "ä'\"%\\"}}, AT, {1: 0.5}),
        Change(number, {"start": {"seed": 2}, "outcome": None}, AT, {2: math.inf, 3: -math.inf}, TrialState.WAITING),
        Change(number, {"start": {"seed": 3}}, AT, state=TrialState.RUNNING),
        Change(number, {"epoch/1": {"epoch": 1}}, AT, {1: 0.25, 4: 0.75}),
        Change(number, {"outcome": {"ending": "complete"}}, AT, state=TrialState.COMPLETE, values=[0.75]),
    ]


def untimed(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """The trials without ids and times, which differ from one storage to another."""
    left_out = ("_trial_id", "datetime_start", "_datetime_start", "datetime_complete")
    return [{key: value for key, value in vars(trial).items() if key not in left_out} for trial in trials]


@pytest.mark.parametrize("until", range(1, 7))
@pytest.mark.parametrize("times", [1, 2])
def test_optuna_reads_what_it_would_have_written_itself(
    opened: Callable[[], RDBStorage], until: int, times: int
) -> None:
    """Also where each transaction was repeated because its answer was lost."""
    ours, theirs = opened(), InMemoryStorage()
    study, same = (optuna.create_study(storage=one, direction="maximize") for one in (ours, theirs))
    key: int | None = None
    for change in life(0)[:until]:
        for _ in range(times):  # the trial that begins is not known yet the second time
            key = transactions.write(ours, study._study_id, change, None if change.begun else key)
        if change.begun:
            theirs.create_new_trial(same._study_id, change.begun)
        send(theirs, same._study_id, change)
    assert untimed(ours.get_all_trials(study._study_id)) == untimed(theirs.get_all_trials(same._study_id))
    (read,) = ours.get_all_trials(study._study_id)
    assert read.datetime_start == datetime.fromtimestamp(AT)
    assert read.datetime_complete == (datetime.fromtimestamp(AT) if until == 6 else None)
    assert [trial for _, trial in reading.read_trials(ours, study._study_id)] == [read]


def test_an_enqueued_trial_that_begins_keeps_its_number_and_its_attributes(opened: Callable[[], RDBStorage]) -> None:
    storage = opened()
    study = optuna.create_study(storage=storage)
    study.enqueue_trial({"rate": 0.01}, user_attrs={"enqueued": True})
    study.enqueue_trial({"rate": 0.02})
    ids = {trial.number: trial._trial_id for trial in study.trials}
    transactions.write(storage, study._study_id, life(0)[0], ids[0])
    first, second = storage.get_all_trials(study._study_id)
    assert (first.state, second.state) == (TrialState.RUNNING, TrialState.WAITING)
    assert first.params == {name: value for name, (value, _) in PARAMETERS.items()}
    assert first.user_attrs == {"enqueued": True}
    assert first.system_attrs == {"fixed_params": {"rate": 0.01}, "start": {"seed": 1}}


def test_all_trials_of_a_study_are_read_as_optuna_reads_them(opened: Callable[[], RDBStorage]) -> None:
    storage, other = opened(), optuna.create_study(storage=opened())
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    other.add_trial(optuna.trial.create_trial(value=1.0))
    for number in range(3):
        trial = study.ask()
        trial.suggest_categorical("kind", ["a", 2, 3.5, None, True])
        trial.suggest_float("rate", 0.1 * number + 0.1, 1.0)
        storage.set_trial_intermediate_value(trial._trial_id, 1, math.nan)
        trial.set_user_attr("list", [number, {"a": None}])
        if number:
            study.tell(trial, [math.inf, 0.5])
    study.enqueue_trial({"rate": 0.3})
    theirs = storage.get_all_trials(study._study_id)
    ours = trials.read_trials(storage, study._study_id)
    assert all(math.isnan(trial.intermediate_values.pop(1)) for trial in (*theirs[:3], *ours[:3]))
    assert ours == theirs
    assert [list(trial.params) for trial in ours] == [list(trial.params) for trial in theirs]


def test_tables_of_a_version_that_is_not_known_are_left_to_optuna(
    opened: Callable[[], RDBStorage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = synthetic_spec(
        "unknown", extra={"light": True}, budget={"trials": 3}, train={"epochs": 2, "progressive": {"stages": 1}}
    )
    monkeypatch.setattr(trials, "SCHEMAS", frozenset({"v99"}))
    with monkeypatch.context() as patched:
        patched.setattr(transactions, "write", None)
        patched.setattr(reading, "read_trials", None)
        finish(create(opened(), spec), tmp_path)
        theirs = load_study(opened(), spec.study)
    monkeypatch.undo()
    assert load_study(opened(), spec.study) == theirs
    assert len(theirs.trials) == 3


def test_a_call_of_the_driver_writes_in_one_transaction_of_few_statements(opened: Callable[[], RDBStorage]) -> None:
    write_little(opened())


def test_the_statements_of_a_report_are_made_once(opened: Callable[[], RDBStorage]) -> None:
    """Making them takes longer than all else that a driver does for a report."""
    spec = synthetic_spec("once", enqueue=[], asha={"enabled": False}, train={"epochs": 30}, budget={"trials": 2})
    conductor, made = Conductor(create(opened(), spec)), list[int]()
    for _ in range(2):
        assignment = conductor.next_trial()
        assert assignment is not None
        for epoch in range(1, 31):
            conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_accuracy=0.5))
        made.append(transactions._statement.cache_info().misses)
    assert conductor.fatal is None
    assert made[0] == made[1]


def test_a_study_is_opened_with_the_same_number_of_statements_whatever_its_size(
    opened: Callable[[], RDBStorage],
) -> None:
    assert open_at_once(opened, 2) == open_at_once(opened, 40) <= 60


def test_an_epoch_is_stored_in_an_attribute_of_its_own(opened: Callable[[], RDBStorage]) -> None:
    """What is sent of an epoch does not grow with the number of epochs before it."""
    storage = opened()
    spec = synthetic_spec("long", enqueue=[], asha={"enabled": False}, train={"epochs": 60}, budget={"trials": 1})
    conductor, sent = Conductor(create(storage, spec)), list[int]()

    def measure(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        sent.append(sum(len(value) for value in parameters if isinstance(value, str)))

    assignment = conductor.next_trial()
    assert assignment is not None
    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", measure)
    longest = []
    for epoch in range(11, 70):
        sent.clear()
        conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch - 10, val_accuracy=0.125))
        longest.append(max(sent, default=0))
    assert conductor.fatal is None
    assert max(longest[1:]) <= longest[0] + 20
    assert len(load_study(storage, "long").trials[0].epochs) == 59


def test_runs_that_mlflow_makes_after_the_end_of_their_trials_are_linked_in_one_transaction(
    opened: Callable[[], RDBStorage], tmp_path: Path
) -> None:
    storage = opened()
    spec = synthetic_spec("linked", extra={"light": True}, budget={"trials": 3}, train=SHORT)
    finish(create(storage, spec), tmp_path)
    ledger = reopen(storage, spec)
    with counted(storage) as asked:
        for number in range(3):
            ledger.link_run(number, f"run {number}")
        assert asked.total() == 0
        ledger.write_notes()
        ledger.write_notes()
    assert asked["statements"] <= 2
    assert asked["commits"] == 1
    ledger.link_run(1, "a newer run")
    ledger.write_notes()
    runs = ["run 0", "a newer run", "run 2"]
    assert [trial.mlflow_run_id for trial in ledger.trials] == runs
    assert [trial.mlflow_run_id for trial in load_study(opened(), "linked").trials] == runs


def test_where_a_trial_runs_and_what_its_worker_does_is_written_with_its_next_epoch_or_seconds_later(
    opened: Callable[[], RDBStorage], tmp_path: Path
) -> None:
    time, storage = Time(), opened()
    conductor = Conductor(create(storage, synthetic_spec("placed", enqueue=[], budget={"trials": 2}), time.clock()))
    conductor.tick()
    first, second = conductor.next_trial(), conductor.next_trial()
    assert first is not None
    assert second is not None
    with counted(storage) as placed:
        conductor.on_placed(first.number, "node", "cuda:0", 7)
        conductor.on_placed(second.number, "node", "cuda:1", 8, phase="importing")
        conductor.tick()
        assert placed.total() == 0
        conductor.on_epoch(first.number, EpochMetrics(epoch=1, val_accuracy=0.5))
    assert placed["commits"] == 1
    recorded = load_study(opened(), "placed").trials
    assert [trial.attempts[-1].device for trial in recorded] == ["cuda:0", None]
    time.wait(NOTES_S + 1)
    conductor.tick()
    recorded = load_study(opened(), "placed").trials
    assert [trial.attempts[-1].device for trial in recorded] == ["cuda:0", "cuda:1"]
    assert [trial.attempts[-1].phase for trial in recorded] == [None, "importing"]


def test_a_run_that_an_earlier_version_linked_late_is_replaced_by_a_newer_one(
    opened: Callable[[], RDBStorage], tmp_path: Path
) -> None:
    storage = opened()
    spec = synthetic_spec("linked", extra={"light": True}, budget={"trials": 1}, train=SHORT)
    finish(create(storage, spec), tmp_path)
    storage.set_study_user_attr(storage.get_study_id_from_name("linked"), attributes.RUNS_KEY, {"0": "old"})
    ledger = reopen(storage, spec)
    assert ledger.trial(0).mlflow_run_id == "old"
    ledger.link_run(0, "new")
    ledger.write_notes()
    assert load_study(opened(), "linked").trials[0].mlflow_run_id == "new"


@pytest.mark.parametrize("schema", [1, 3])
def test_a_study_of_a_former_form_is_continued_in_the_new_one(
    opened: Callable[[], RDBStorage], tmp_path: Path, schema: int
) -> None:
    """The epochs that it has stay where they are; an earlier version of this tool refuses it from then on. Version 1
    had one attribute for all epochs, and until version 3 programs like Optuna Dashboard listed all attributes."""
    storage = opened()
    spec = synthetic_spec("former", extra={"light": True}, budget={"trials": 1}, asha={"enabled": False})
    conductor = Conductor(create(storage, spec))
    for _ in zip(range(3), steps(conductor, tmp_path), strict=False):
        pass
    conductor.close()
    before = load_study(storage, "former").trials[0]
    assert len(before.epochs) == 3
    study = storage.get_study_id_from_name("former")
    stored = attributes.of_trial(storage.get_all_trials(study)[0])
    progress = {"epochs": attributes.stored_epochs(stored), "rungs": attributes.stored_rungs(stored)}
    former = {names.PROGRESS_KEY: progress} if schema == 1 else {}
    former |= {key: stored[key] for key in stored if names.hidden(key) and not (former and "epoch/" in key)}
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("DELETE FROM trial_system_attributes"))
    for key, value in former.items():
        storage.set_trial_user_attr(storage.get_all_trials(study)[0]._trial_id, key, value)
    storage.set_study_user_attr(study, attributes.SCHEMA_KEY, schema)
    assert load_study(opened(), "former").trials[0] == before

    finish(reopen(opened(), spec), tmp_path)
    after = load_study(opened(), "former").trials[0]
    assert after.epochs[:3] == before.epochs
    assert [epoch.metrics.epoch for epoch in after.epochs] == list(range(1, spec.train.epochs + 1))
    left = storage.get_all_trials(study)[0].user_attrs
    assert {key: left[key] for key in former} == former
    assert storage.get_study_user_attrs(study)[attributes.SCHEMA_KEY] == attributes.SCHEMA


def test_the_statements_are_those_that_mysql_knows() -> None:
    """MySQL has another clause to replace a row, and texts of at most 64 KB."""
    shape = ((transactions.ATTRIBUTES, ("trial_id", "key", "value_json")),)
    text = str(transactions._statement("mysql", shape).compile(dialect=mysql.dialect()))
    assert "ON DUPLICATE KEY UPDATE value_json = " in text
    assert "trial_id =" not in text.partition("UPDATE")[2]


def kill(storage: RDBStorage, writes: int) -> None:
    """Let the client of a database die right before its n-th commit of something that was written."""
    left = writes

    def die(connection: Any) -> None:
        nonlocal left
        if connection.info.get("hpo_wrote"):
            left -= 1
            if left < 0:
                raise Died

    sqlalchemy.event.listen(storage.engine, "commit", die, insert=True)


def every_death(spec: Spec, folder: Path) -> Iterator[tuple[int, RDBStorage]]:
    """The study, whose first driver died before its n-th commit and whose second one finished it, for each n."""
    writes = 0
    while True:
        url = f"sqlite:///{folder / f'{writes}.db'}"
        dying = open_storage(url)
        kill(dying, writes)
        try:
            finish(create(dying, spec), folder / str(writes))
            return
        except Died:
            dying.engine.dispose()
        storage = open_storage(url)
        try:
            ledger: Ledger = reopen(storage, spec)
        except UsageError:  # its creation was cut off: said so, and `run` begins it again
            ledger = create(storage, spec)
        finish(ledger, folder / str(writes))
        yield writes, storage
        writes += 1


def test_a_driver_that_dies_before_any_commit_is_continued_to_the_same_study(tmp_path: Path) -> None:
    """Every transaction is the last one once, over the whole life of a study in a database."""
    spec = synthetic_spec(
        "mortal",
        train={"epochs": 3, "progressive": {"stages": 1}},
        extra={"light": True},
        enqueue=[{"extra.quality": 0.5}],
        budget={"trials": 2},
    )
    undisturbed = open_storage(f"sqlite:///{tmp_path / 'undisturbed.db'}")
    finish(create(undisturbed, spec), tmp_path / "undisturbed")
    wanted = told(undisturbed, load_study(undisturbed, spec.study))
    deaths = 0
    for writes, storage in every_death(spec, tmp_path):
        study = load_study(storage, spec.study)
        assert told(storage, study) == wanted, f"after {writes} commits"
        assert replay([(one.number, rung) for one in study.trials for rung in one.rungs], 2) == []
        deaths += 1
    assert deaths > 15
