"""Counts what a program asks of a database: statements and commits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage

from hpo.driver.conductor import Conductor
from hpo.ledger.writer import Ledger
from tests.conftest import synthetic_spec
from tests.support.clocks import Time
from tests.support.in_process_driver import create
from trainers.api import EpochMetrics

SPACE = {
    "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
    "extra.speed": {"type": "float", "low": 0.1, "high": 9.0, "log": True},
    "train.batch_size": {"type": "int", "low": 16, "high": 64, "step": 16},
    "train.optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
}


@contextmanager
def counted(storage: BaseStorage) -> Iterator[Counter[str]]:
    """Count the `statements` and `commits` of a storage while the block runs."""
    assert isinstance(storage, RDBStorage)
    seen: Counter[str] = Counter()

    def statement(*ignored: Any) -> None:
        seen["statements"] += 1

    def commit(*ignored: Any) -> None:
        seen["commits"] += 1

    listeners: list[tuple[str, Callable[..., None]]] = [("before_cursor_execute", statement), ("commit", commit)]
    for event, listener in listeners:
        sqlalchemy.event.listen(storage.engine, event, listener)
    yield seen
    for event, listener in listeners:
        sqlalchemy.event.remove(storage.engine, event, listener)


def write_little(storage: BaseStorage) -> None:
    """Check what a driver's calls ask of a database, at a trial of eight epochs and at one of a hundred."""
    spec = synthetic_spec(
        "little", space=SPACE, enqueue=[], asha={"enabled": False}, train={"epochs": 100}, budget={"trials": 99}
    )
    conductor = Conductor(create(storage, spec, Time().clock()))  # so that no sign of life is due meanwhile
    conductor.tick()  # the first sign of life
    for _ in range(2):
        with counted(storage) as begun:
            assignment = conductor.next_trial()
        assert assignment is not None
        assert begun.total() <= 5
        assert begun["commits"] == 1
        for epoch in range(1, 101):
            with counted(storage) as reported:
                conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_accuracy=epoch / 200))
            assert reported.total() <= (3 if epoch < 100 else 3 + 5)
            assert reported["commits"] == (1 if epoch < 100 else 2)
    assert [trial.status for trial in conductor.ledger.trials] == ["complete"] * 2
    assert conductor.fatal is None
    with counted(storage) as failed:
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_failure(assignment.number, "out of memory")
    assert failed.total() <= 5 + 5
    with counted(storage) as interrupted:
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_placed(assignment.number, "node", "cpu", 1)
        conductor.ledger.link_run(assignment.number, "run")
        conductor.on_lost(assignment.number, "gone")
    assert interrupted.total() <= 5 + 3
    conductor.close()


def open_at_once(opened: Callable[[], BaseStorage], trials: int) -> int:
    """Number of statements with which a study of so many complete trials is opened."""
    storage = opened()
    spec = synthetic_spec(f"of-{trials}", space=SPACE, enqueue=[], asha={"enabled": False}, budget={"trials": trials})
    conductor = Conductor(create(storage, spec))
    while (assignment := conductor.next_trial()) is not None:
        for epoch in range(1, spec.train.epochs + 1):
            conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_accuracy=epoch / 20))
    conductor.close()
    again = opened()
    with counted(again) as asked:
        ledger = Ledger.open(again, spec.study)
    assert ledger.trials == conductor.ledger.trials
    assert len(ledger.trials) == trials
    return asked["statements"]
