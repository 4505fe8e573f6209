"""Reading a running study again and again: what each look reads, and that it sees what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy
from optuna.storages import RDBStorage

from hpo.home import Home
from hpo.ledger.reader import Follower, load_study
from hpo.ledger.storage import open_storage
from hpo.ledger.tables.removal import OF_TRIALS
from reports.benchmarks.large_study import insert, specification, study, write

WORKERS = 10


@contextmanager
def counted(storage: RDBStorage) -> Iterator[list[int]]:
    """The number of rows of trials, parameters, attributes and reports that are fetched meanwhile."""
    rows: list[int] = []
    original = sqlalchemy.engine.CursorResult.__iter__

    def iterate(self: sqlalchemy.engine.CursorResult) -> Iterator[object]:
        found = list(original(self))
        rows.append(len(found))
        return iter(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlalchemy.engine.CursorResult, "__iter__", iterate)
        fetch = sqlalchemy.engine.CursorResult.all

        def everything(self: sqlalchemy.engine.CursorResult) -> object:
            found = fetch(self)
            rows.append(len(found))
            return found

        patch.setattr(sqlalchemy.engine.CursorResult, "all", everything)
        parts = sqlalchemy.engine.CursorResult.partitions

        def partitions(self: sqlalchemy.engine.CursorResult, size: int) -> Iterator[object]:
            for part in parts(self, size):
                rows.append(len(part))
                yield part

        patch.setattr(sqlalchemy.engine.CursorResult, "partitions", partitions)
        yield rows


def rows_of_a_second_look(home: Home, trials: int) -> int:
    write(home, specification(trials), workers=WORKERS, running=True)
    storage = open_storage(home.ledger_url)
    follower = Follower(storage, "large")
    follower.read()
    with counted(storage) as rows:
        follower.read()
    return sum(rows)


def test_a_second_look_reads_the_running_trials_however_many_have_ended(tmp_path):
    small, large = (rows_of_a_second_look(Home(tmp_path / str(count)), count) for count in (50, 400))
    assert 0 < large < 3 * small
    assert large < WORKERS * 40


def test_each_look_sees_what_has_changed(tmp_path):
    home, spec = Home(tmp_path), specification(60)
    later = study(spec, workers=WORKERS)
    now = write(home, spec, workers=WORKERS, running=True)
    storage = open_storage(home.ledger_url)
    follower = Follower(storage, "large")
    assert follower.read().trials == now.trials
    with storage.engine.begin() as connection:
        for model in OF_TRIALS:
            connection.execute(sqlalchemy.delete(model.__table__))
        connection.execute(sqlalchemy.text("DELETE FROM trials"))
    insert(storage, spec, later.trials)
    seen = follower.read()
    ended = {trial.number for trial in now.trials if trial.outcome}
    assert 0 < len(ended) < 60
    assert seen.trials == later.trials
    assert seen == load_study(storage, "large")


def test_a_record_is_read_without_what_was_reported_to_optuna(tmp_path):
    """The epochs of a record are attributes; Optuna's copy of their values is for the samplers."""
    home = Home.at(tmp_path / "home").create()
    write(home, specification(30), workers=WORKERS)
    storage, asked = open_storage(home.ledger_url), list[str]()
    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert len(load_study(storage, "large").trials) == 30
    assert [text for text in asked if "trial_system_attributes" in text]
    assert not [text for text in asked if "trial_intermediate_values" in text or "trial_values" in text]
