"""What lies between the driver and MLflow: outages, the death of the process that talks to it, the end of a study, and
how often its jobs run. The process is a thread here, with the same messages."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.clock import Clock
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.tracking import mirror as mirror_module
from hpo.tracking import runs
from hpo.tracking import tracker as module
from hpo.tracking.process import writer as writer_module
from hpo.tracking.process.child import Child
from hpo.tracking.process.messages import Begin, Change, Changes, End
from hpo.tracking.process.writer import Writer, serve
from hpo.tracking.runs import Runs, numbers
from hpo.tracking.tracker import Tracker
from tests.support.sample_records import study, trial
from tests.unit.tracking.test_periodic import Clock as FakeClock


class Server:
    """What mirrors have written, and how many of their calls still fail."""

    def __init__(self) -> None:
        self.failures = 0
        self.mirrors = 0
        self.trials: dict[int, TrialRecord] = {}
        self.studies: list[StudyRecord] = []
        self.samples: list[Any] = []
        self.final: StudyRecord | None = None

    def answer(self) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("server down\nwith details")


class Mirror:
    """A mirror that writes to a `Server`; it is its own study run."""

    server: Server

    def __init__(self, study: StudyRecord, home: Home) -> None:
        self.server.mirrors += 1
        self.study_run = self
        self.runs: dict[int, str] = {}

    def begin(self) -> None:
        self.server.answer()

    def sync(self, trial: TrialRecord) -> None:
        self.server.answer()
        self.server.trials[trial.number] = trial
        self.runs[trial.number] = f"run-{trial.number}"

    def update(self, study: StudyRecord) -> None:
        self.server.studies.append(study)

    def sample(self, values: object, study: StudyRecord, now: float) -> None:
        self.server.samples.append(values)

    def draw(self, study: StudyRecord, images: object) -> None:
        self.server.answer()

    def finish(self, study: StudyRecord) -> None:
        self.server.answer()
        self.server.final = study


class Monitor:
    """A machine without load."""

    def sample(self) -> dict[str, float]:
        return {"cpu": 0.0}


class Neighbour(Child):
    """The process as a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []
        self.starts = 0

    def _start(self) -> Any:
        self.starts += 1
        self._connection, theirs = Pipe()
        thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        thread.start()
        return self._connection

    def _serve(self, connection: Any) -> None:
        with connection, suppress(OSError):
            serve(connection, orphaned=lambda: None)

    def send(self, message: object) -> None:
        self.sent.append(message)
        super().send(message)

    def kill(self) -> None:
        assert self._connection is not None
        with socket.socket(fileno=os.dup(self._connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)

    def bury(self, error: Exception) -> str:
        self._disconnect()
        return "killed"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(Mirror, "server", server, raising=False)
    monkeypatch.setattr(module, "Child", Neighbour)
    monkeypatch.setattr(module, "SEND_INTERVAL_S", 0.01)
    monkeypatch.setattr(writer_module, "Mirror", Mirror)
    monkeypatch.setattr(writer_module, "SystemMonitor", Monitor)
    monkeypatch.setattr(writer_module, "SYNC_INTERVAL_S", 0.01)
    return server


def wait_for(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_an_outage_at_the_start_is_survived_and_everything_is_sent(home: Home, server: Server) -> None:
    server.failures = 3
    tracker = Tracker.start(study(trial(0, 4)), home)
    tracker.update(trial(1, 2))
    final = study(trial(0, 4), trial(1, 3, ending=Ending.COMPLETE))
    tracker.update(final.trials[1])
    wait_for(lambda: server.failures == 0)
    assert tracker.close(final) is None
    assert server.trials == {0: final.trials[0], 1: final.trials[1]}
    assert server.final == final
    assert server.mirrors > 3, "each try starts with a new mirror"


def test_new_runs_are_named_once_for_the_ledger(home: Home, server: Server) -> None:
    tracker = Tracker.start(study(trial(0, 4), trial(1, 4, mlflow_run_id="run-1")), home)
    assert tracker.close(study()) is None
    assert tracker.linked() == [(0, "run-0")]
    assert tracker.linked() == []


def test_an_outage_at_the_end_is_reported_with_the_remedy(home: Home, server: Server) -> None:
    server.failures = 1_000_000
    tracker = Tracker.start(study(trial(0, 4)), home)
    assert tracker.close(study(trial(0, 4))) == (
        "MLflow does not have everything yet: server down. Nothing is lost: the ledger has it. "
        f"Write the rest with: hpo doctor cifar10_b0{home.option}"
    )


def test_one_failure_at_the_end_is_tried_again(home: Home, server: Server) -> None:
    tracker = Tracker.start(study(trial(0, 4)), home)
    wait_for(lambda: bool(server.trials))
    server.failures = 1
    assert tracker.close(study(trial(0, 4))) is None
    assert server.final is not None


DRAWN: list[StudyRecord] = []


def draw(study: StudyRecord) -> dict[str, bytes]:
    """No plots; a function of a module, because a driver sends it by its name."""
    DRAWN.append(study)
    return {}


def test_an_interrupted_study_is_not_drawn_at_its_end(home: Home, server: Server) -> None:
    for ending, plots in ((Ending.INTERRUPTED, 0), (Ending.COMPLETE, 1)):
        DRAWN.clear()
        tracker = Tracker.start(study(), home, figures=draw)
        assert tracker.close(study(trial(0, 16, ending=ending))) is None
        assert len(DRAWN) == plots


def test_a_record_that_says_nothing_new_costs_no_call(home: Home, server: Server) -> None:
    record, child = trial(0, 4), Neighbour()
    tracker = Tracker.start(study(record), home, child)
    wait_for(lambda: tracker.behind == 0)
    server.failures = 1_000_000
    sent = len(child.sent)
    for same in (record, dataclasses.replace(record, mlflow_run_id="run-0")):
        tracker.update(same)
        assert tracker.behind == 0
    time.sleep(0.05)
    assert len(child.sent) == sent
    tracker.update(trial(0, 5))
    assert tracker.behind == 1
    server.failures = 0
    assert tracker.close(study()) is None


def test_a_trial_is_behind_once_however_many_epochs_it_has_reported(home: Home, server: Server) -> None:
    server.failures = 1_000_000
    tracker = Tracker.start(study(), home)
    for epoch in range(1, 9):
        tracker.update(trial(0, epoch))
        tracker.update(trial(1, epoch))
        time.sleep(0.02)
    assert tracker.behind == 2
    server.failures = 0
    wait_for(lambda: tracker.behind == 0)
    assert [len(server.trials[number].epochs) for number in (0, 1)] == [8, 8]
    assert tracker.close(study()) is None


def test_each_epoch_is_sent_once_and_arrives_in_its_place(home: Home, server: Server) -> None:
    child = Neighbour()
    records = [trial(0, epoch) for epoch in range(1, 9)]
    tracker = Tracker.start(study(records[0]), home, child)
    for record in records:
        tracker.update(record)
        wait_for(lambda: tracker.behind == 0)
    shorter = dataclasses.replace(records[2], attempts=records[2].attempts * 2)  # the later epochs do not count
    tracker.update(shorter)
    assert tracker.close(study()) is None
    changes = [change for message in child.sent if isinstance(message, Changes) for change in message.trials]
    assert [(known, len(record.epochs)) for known, record in changes] == [*((epoch, 1) for epoch in range(8)), (0, 3)]
    assert server.trials == {0: shorter}


def test_a_process_that_died_is_replaced_and_told_everything_again(home: Home, server: Server) -> None:
    child = Neighbour()
    trials = [trial(number, 4, ending=Ending.COMPLETE) for number in range(250)]
    tracker = Tracker.start(study(*trials[:200]), home, child)
    wait_for(lambda: tracker.behind == 0)
    server.trials.clear()  # what MLflow got last may be lost with the process
    child.kill()
    for record in trials[200:]:
        tracker.update(record)
    assert tracker.close(study(*trials)) is None
    assert child.starts == 2
    assert tracker.behind == 0
    assert server.trials == {record.number: record for record in trials}
    assert server.final == study(*trials)


def test_a_process_that_dies_at_every_start_is_started_less_and_less_often(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its death is told at the end; training and the command's end do not wait for it."""
    monkeypatch.setattr(Neighbour, "_serve", lambda self, connection: connection.close())
    child = Neighbour()
    tracker = Tracker.start(study(trial(0, 4)), home, child)
    waits: list[float] = []
    wait = tracker._closing.wait

    def quickly(seconds: float) -> bool:
        waits.append(seconds)
        return wait(0.001)

    monkeypatch.setattr(tracker._closing, "wait", quickly)
    wait_for(lambda: module.LONGEST_PAUSE_S in waits)
    said = tracker.close(study(trial(0, 4)))
    assert said is not None
    assert "MLflow does not have everything yet: killed. Nothing is lost" in said
    pauses = [seconds for seconds in waits if seconds != module.SEND_INTERVAL_S]
    assert pauses == sorted(pauses)
    assert pauses[1] == 2 * pauses[0]


def test_nothing_is_shown_before_all_trials_of_a_batch_have_arrived(home: Home, server: Server) -> None:
    """The course of a study follows from all its trials, and MLflow cannot remove a value."""
    writer = Writer(Begin(study(), home, None, False, Clock()), lambda message: None)
    thread = threading.Thread(target=writer.work, daemon=True)
    thread.start()
    writer.take(Changes(1, (Change(0, trial(0, 4)),), whole=False))
    time.sleep(0.05)
    assert server.mirrors == 0
    writer.take(Changes(1, (Change(0, trial(1, 4)),), whole=True))
    writer.take(Changes(2, (Change(0, trial(2, 4)),), whole=False))
    writer.take(End(study()))
    thread.join(30.0)
    assert server.final == study(trial(0, 4), trial(1, 4))


def test_the_wait_at_the_end_is_bounded_and_says_what_is_missing(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_LIMIT_S", 0.2)
    answered = threading.Event()
    monkeypatch.setattr(server, "answer", lambda: answered.wait(30.0))
    tracker = Tracker.start(study(trial(0, 4), trial(1, 4), trial(2, 4)), home)
    said = tracker.close(study())
    answered.set()
    assert said is not None
    assert "(3 trials are missing or out of date)" in said
    assert f"hpo doctor cifar10_b0{home.option}" in said


class Client:
    """Counts the calls of MLflow's client, and keeps what they brought."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sizes: list[tuple[int, int, int]] = []

    def log_batch(self, run: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        self.calls.append("log_batch")
        self.sizes.append((len(metrics), len(params), len(tags)))

    def set_terminated(self, run: str, status: str, end: int) -> None:
        self.calls.append("set_terminated")

    def update_run(self, run: str, status: str) -> None:
        self.calls.append("update_run")


class Store:
    """The runs of a study, on a `Client`."""

    def __init__(self, study: StudyRecord, home: Home) -> None:
        self.client, self.runs = Client(), Runs()

    run_of = runs.Store.run_of

    def create_child(self, name: str, tags: object, started: float) -> Any:
        self.client.calls.append("create_run")
        data = SimpleNamespace(metrics={}, tags={}, params={})
        return SimpleNamespace(info=SimpleNamespace(run_id=name, status="RUNNING", end_time=None), data=data)


@pytest.fixture
def mirror(home: Home, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("hpo.tracking.mirror.Store", Store)
    return mirror_module.Mirror(study(), home)


def test_a_trial_that_has_ended_costs_three_calls_of_mlflow(mirror: Any) -> None:
    for number in range(50):
        mirror.sync(trial(number, 16, ending=Ending.COMPLETE))
    assert mirror.store.client.calls == ["create_run", "log_batch", "set_terminated"] * 50


def test_a_pruned_trial_ends_in_mlflow_when_it_can_be_taken_up_no_more(mirror: Any) -> None:
    pruned = trial(0, 4, ending=Ending.PRUNED)
    assert pruned.outcome is not None
    kept = dataclasses.replace(pruned, outcome=dataclasses.replace(pruned.outcome, kept=True), finished=None)
    for record in (kept, trial(0, 5), kept, pruned):
        mirror.sync(record)
    statuses = [call for call in mirror.store.client.calls if call in ("update_run", "set_terminated")]
    assert statuses == ["update_run", "update_run", "update_run", "set_terminated"]


def test_a_running_trial_costs_one_call_of_mlflow_per_report(mirror: Any) -> None:
    mirror.sync(trial(0, 1))
    del mirror.store.client.calls[:]
    for epoch in (2, 3, 4):
        mirror.sync(trial(0, epoch))
        mirror.sync(dataclasses.replace(trial(0, epoch), mlflow_run_id="trial-00000"))
    assert mirror.store.client.calls == ["log_batch"] * 3


def test_no_call_of_mlflow_brings_more_than_it_takes(mirror: Any) -> None:
    record = trial(0, 400, values={f"train.x{index}": 0.5 for index in range(250)})
    mirror.sync(record)
    sizes = mirror.store.client.sizes
    assert all(metrics + params + tags <= 1_000 and params <= 100 and tags <= 100 for metrics, params, tags in sizes)
    assert sum(params for _, params, _ in sizes) == 250
    assert sum(metrics for metrics, *_ in sizes) == sum(len(numbers(metrics)) for metrics in record.metrics)


def test_jobs_of_a_running_study_keep_their_intervals(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr("hpo.tracking.periodic.time", clock)
    drawn: list[float] = []
    begin = Begin(study(), home, lambda study: drawn.append(clock.now) or {}, True, Clock())  # type: ignore[func-returns-value]
    writer = Writer(begin, lambda message: None)
    writer.take(Changes(1, (Change(0, trial(0, 4)),), whole=True))
    jobs = writer._jobs(Mirror(study(), home))  # type: ignore[arg-type]
    for second in range(130):
        if second in (2, 64):
            writer.take(Changes(second, (Change(0, trial(0, 5 + second)),), whole=True))
        for job in jobs:
            job.poll()
        clock.now += 1.0
    assert len(server.samples) == 13, "every 10 s, not every second"
    assert [len(seen.trials[0].epochs) for seen in server.studies] == [4, 7, 69], "only when something has changed"
    assert drawn == [1060.0, 1120.0], "not before there is something to see"
