"""Which trials that lack memory are tried again alone, and who waits for them; without Ray."""

from __future__ import annotations

import pytest
from optuna.storages import InMemoryStorage

from hpo.driver.conductor import Assignment, Conductor
from hpo.driver.decisions.nodes import Place
from hpo.gpu_sharing import held, places, shared
from hpo.ledger.outcome import Cause
from hpo.ledger.records import TrialRecord
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, reopen
from trainers.api import EpochMetrics

TEXT = "OutOfMemory: 300 px"
HERE = Place("a", "a")


class Machine:
    """A study on this machine's only GPU, two trials at once."""

    def __init__(self, gpus: float = 0.5, **changes: object) -> None:
        self.storage = InMemoryStorage()
        self.spec = synthetic_spec(resources={"gpus": gpus}, asha={"enabled": False}, **changes)
        self.conductor = Conductor(create(self.storage, self.spec))

    def reopen(self) -> None:
        self.conductor.close()
        self.conductor = Conductor(reopen(self.storage, self.spec))

    def begin(self, device: str = "cuda", *, placed: bool = True) -> Assignment:
        assignment = self.conductor.next_trial()
        assert assignment is not None
        if placed:
            self.place(assignment.number, device)
        return assignment

    def place(self, number: int, device: str = "cuda") -> None:
        self.conductor.on_placed(number, "a", device, 1, "a")

    def lack(self, number: int) -> None:
        self.conductor.on_failure(number, TEXT, Cause.CONFIGURATION, HERE, memory=True)

    def train(self, number: int) -> None:
        for epoch in range(len(self.trial(number).epochs) + 1, 9):
            self.conductor.on_epoch(number, EpochMetrics(epoch=epoch, val_accuracy=0.5))

    def trial(self, number: int) -> TrialRecord:
        return self.conductor.ledger.trial(number)


def test_it_comes_next_gets_a_whole_gpu_and_the_others_wait_until_it_has_one() -> None:
    machine = Machine()
    machine.begin(), machine.begin()
    assert machine.conductor.running == 2
    machine.lack(0)
    again = machine.begin(placed=False)
    assert (again.number, again.alone) == (0, True)
    assert machine.conductor.running == 3, "the room of two, and the other trial"
    assert machine.conductor.next_trial() is None
    machine.train(1)
    assert machine.conductor.next_trial() is None, "its worker starts"
    assert not machine.conductor.exhausted
    machine.place(0)
    assert machine.begin().number == 2, "what Ray has room for is not the conductor's to know"
    assert [attempt.gpus for attempt in machine.trial(0).attempts] == [0.5, 1.0]


def test_alone_it_fails_for_good() -> None:
    machine = Machine()
    machine.begin()
    machine.lack(0)
    machine.begin()
    machine.lack(0)
    outcome = machine.trial(0).outcome
    assert outcome is not None
    assert (outcome.reason, outcome.cause) == (TEXT, Cause.CONFIGURATION)


def test_an_attempt_beside_others_is_no_failure_of_the_first_trials() -> None:
    machine = Machine(stop_after_failures=1)
    machine.begin()
    machine.lack(0)
    assert machine.conductor.ending is None
    machine.begin()
    machine.lack(0)
    assert machine.conductor.ending is not None


def test_it_does_not_count_as_a_lost_worker_and_stays_alone_after_a_lost_one() -> None:
    machine = Machine(retries=1)
    machine.begin()
    machine.lack(0)
    machine.begin()
    machine.conductor.on_lost(0, "killed", HERE)
    again = machine.begin()
    assert (again.number, again.alone) == (0, True)
    machine.train(0)
    assert machine.trial(0).complete


def test_the_next_driver_knows_it() -> None:
    machine = Machine()
    machine.begin(), machine.begin()
    machine.lack(0)
    machine.reopen()
    first, second = machine.begin(), machine.begin()
    assert [(first.number, first.alone), (second.number, second.alone)] == [(0, True), (1, False)]


@pytest.mark.parametrize(("gpus", "device"), [(1, "cuda"), (0.5, "cpu"), (0, "cpu")])
def test_without_neighbours_the_failure_is_final_at_once(gpus: float, device: str) -> None:
    machine = Machine(gpus)
    machine.begin(device)
    machine.lack(0)
    assert machine.trial(0).status == "failed"


def test_on_a_cluster_nobody_waits_for_a_whole_gpu() -> None:
    machine = Machine(ray={"address": "127.0.0.1:6379"})
    machine.begin()
    machine.lack(0)
    assert machine.trial(0).status == "failed"


def test_another_failure_beside_others_is_the_trials_own() -> None:
    machine = Machine()
    machine.begin()
    machine.conductor.on_failure(0, "Diverged: nan", Cause.CONFIGURATION, HERE)
    assert machine.trial(0).status == "failed"


def test_what_a_trial_holds_and_whose_room_that_is() -> None:
    assert [held(share, alone=False) for share in (0.0, 0.25, 1.0, 2.0)] == [0.0, 0.25, 1.0, 2.0]
    assert [held(share, alone=True) for share in (0.0, 0.25, 1.0, 2.0)] == [0.0, 1.0, 1.0, 2.0]
    assert [places(share, alone=True) for share in (0.0, 0.25, 0.3333, 1.0, 2.0)] == [1, 4, 3, 1, 1]
    assert places(0.25, alone=False) == 1
    assert shared(0.5, "cuda")
    assert not any((shared(None, "cuda"), shared(1.0, "cuda"), shared(0.5, "cpu"), shared(0.5, None)))
