"""A pause is part of a study's record for as long as the driver that waits is alive."""

from __future__ import annotations

from optuna.storages import InMemoryStorage

from hpo.ledger import attributes
from hpo.ledger.reader import load_study
from hpo.ledger.records import Pause
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create


def test_a_paused_study_says_who_paused_it_and_when() -> None:
    storage = InMemoryStorage()
    ledger = create(storage, synthetic_spec("waits"))
    pause = Pause("ann@login1", 1000.0)
    ledger.pause(pause)
    assert ledger.study.paused == load_study(storage, "waits").paused == pause
    ledger.pause(None)
    assert load_study(storage, "waits").paused is None


def test_a_study_that_no_driver_has_open_is_not_paused() -> None:
    storage = InMemoryStorage()
    ledger = create(storage, synthetic_spec("left"))
    ledger.pause(Pause("ann@login1", 1000.0))
    study = storage.get_study_id_from_name("left")
    holder = dict(storage.get_study_user_attrs(study)[attributes.HOLDER_KEY])
    assert load_study(storage, "left").paused is not None
    process = holder["process"].rpartition(" ")[0] + " 1"  # a process of this machine that has ended
    ended = holder | {"pid": 2**22 + 1, "process": process}
    storage.set_study_user_attr(study, attributes.HOLDER_KEY, ended)
    assert load_study(storage, "left").driver == "dead"
    assert load_study(storage, "left").paused is None
    storage.set_study_user_attr(study, attributes.HOLDER_KEY, None)
    assert load_study(storage, "left").paused is None
