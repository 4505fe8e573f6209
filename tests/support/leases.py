"""Two drivers of one study, for each kind of database."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import pytest
from optuna.storages import BaseStorage

from hpo.errors import InfrastructureError
from hpo.ledger.lock import Lease
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.reader import last_holder, load_study
from hpo.ledger.records import Repeat
from hpo.ledger.writer import Ledger
from hpo.search.samplers import draw
from tests.conftest import synthetic_spec
from tests.support.clocks import Time
from trainers.api import EpochMetrics

SPEC = synthetic_spec("leased")


def elsewhere() -> Lease:
    """The lease of a driver on another machine."""
    return Lease("token-of-another", "another-host", 4711, "/elsewhere/studies/leased")


def begin(ledger: Ledger) -> int:
    """Begin a trial; its number."""
    return ledger.ask(lambda trial: draw(trial, ledger.spec.space), lambda number: number).number


def take_over(storage: BaseStorage, time: Time, ahead: float = 0.0) -> Ledger:
    """A driver on this machine continues a study whose driver is silent, as `hpo resume` does."""
    lease, clock = Lease.here("/here"), time.clock(ahead)
    dead = lease.outwait("leased", partial(last_holder, storage, "leased"), lambda text: None, clock)
    return Ledger.open(storage, "leased", lease=lease, clock=clock, dead=dead)


def refuse_every_write(opened: Callable[[], BaseStorage]) -> None:
    """A driver is suspended, another takes over and trains; nothing that the first one then does is recorded."""
    time = Time()
    first = Ledger.create(opened(), SPEC, {}, lease=elsewhere(), clock=time.clock())
    assert [begin(first) for _ in range(2)] == [0, 1]
    first.finish(1, Outcome(Ending.FAILED, "diverged"))
    second = take_over(opened(), time)
    second.resume(0)
    second.record(0, EpochMetrics(epoch=1, val_accuracy=0.5), None)
    before = load_study(opened(), "leased")
    writes: list[Callable[[], object]] = [
        first.heartbeat,
        lambda: begin(first),
        lambda: first.resume(0),
        lambda: first.record(0, EpochMetrics(epoch=1, val_accuracy=0.9), None),
        lambda: (first.place(0, "node", "cpu", 1), first.write_notes()),
        lambda: first.lose(0, "gone"),
        lambda: first.finish(0, Outcome(Ending.INTERRUPTED, "")),
        lambda: (first.link_run(0, "run"), first.write_notes()),
        lambda: (first.link_run(1, "run of an ended trial"), first.write_notes()),
        lambda: first.end("budget.hours: …"),
        lambda: first.respecify(SPEC.model_copy(update={"seed": 8})),
        lambda: first.plan([(Repeat(0, 0, 1, baseline=False), {})]),
        first.close,
    ]
    for write in writes:
        with pytest.raises(InfrastructureError, match=r"took over the study 'leased'"):
            write()
        assert load_study(opened(), "leased") == before
    second.record(0, EpochMetrics(epoch=2, val_accuracy=0.6), None)
    second.close()
    assert dataclasses.replace(load_study(opened(), "leased"), driver="none").count("interrupted") == 1
