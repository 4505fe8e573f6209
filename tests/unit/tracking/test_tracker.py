"""The thread between the driver and MLflow: outages, the end of a study, and how often its jobs run."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.tracking import mirror as mirror_module
from hpo.tracking import tracker as module
from hpo.tracking.runs import Runs, numbers
from hpo.tracking.tracker import Tracker
from tests.support.sample_records import study, trial
from tests.unit.tracking.test_periodic import Clock


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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(Mirror, "server", server, raising=False)
    monkeypatch.setattr(module, "Mirror", Mirror)
    monkeypatch.setattr(module, "SystemMonitor", Monitor)
    monkeypatch.setattr(module, "SYNC_INTERVAL_S", 0.01)
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


def test_an_interrupted_study_is_not_drawn_at_its_end(home: Home, server: Server) -> None:
    for ending, plots in ((Ending.INTERRUPTED, 0), (Ending.COMPLETE, 1)):
        drawn: list[StudyRecord] = []
        tracker = Tracker.start(study(), home, figures=lambda study: drawn.append(study) or {})  # type: ignore[func-returns-value]  # noqa: B023
        assert tracker.close(study(trial(0, 16, ending=ending))) is None
        assert len(drawn) == plots


def test_a_record_that_says_nothing_new_costs_no_call(home: Home, server: Server) -> None:
    record = trial(0, 4)
    tracker = Tracker(study(record), home)
    mirror = Mirror(study(), home)
    tracker._send(mirror)  # type: ignore[arg-type]
    for same in (record, dataclasses.replace(record, mlflow_run_id="run-0")):
        tracker.update(same)
        assert tracker.behind == 0
    tracker.update(trial(0, 5))
    assert tracker.behind == 1


def test_a_trial_is_behind_once_however_many_epochs_it_has_reported(home: Home, server: Server) -> None:
    tracker = Tracker(study(), home)
    for epoch in range(1, 9):
        tracker.update(trial(0, epoch))
        tracker.update(trial(1, epoch))
    assert tracker.behind == 2
    tracker._send(Mirror(study(), home))  # type: ignore[arg-type]
    assert tracker.behind == 0
    assert [len(server.trials[number].epochs) for number in (0, 1)] == [8, 8]


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

    def create_child(self, name: str, tags: object, started: float) -> Any:
        self.client.calls.append("create_run")
        data = SimpleNamespace(metrics={}, tags={}, params={})
        return SimpleNamespace(info=SimpleNamespace(run_id=name, status="RUNNING"), data=data)


@pytest.fixture
def mirror(home: Home, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("hpo.tracking.mirror.Store", Store)
    return mirror_module.Mirror(study(), home)


def test_a_trial_that_has_ended_costs_three_calls_of_mlflow(mirror: Any) -> None:
    for number in range(50):
        mirror.sync(trial(number, 16, ending=Ending.COMPLETE))
    assert mirror.store.client.calls == ["create_run", "log_batch", "set_terminated"] * 50


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
    clock = Clock()
    monkeypatch.setattr("hpo.tracking.periodic.time", clock)
    drawn: list[float] = []
    tracker = Tracker(
        study(trial(0, 4)),
        home,
        figures=lambda study: drawn.append(clock.now) or {},  # type: ignore[func-returns-value]
        system_metrics=True,
    )
    jobs = tracker._jobs(Mirror(study(), home))  # type: ignore[arg-type]
    for second in range(130):
        if second in (2, 64):
            tracker.update(trial(0, 5 + second))
        for job in jobs:
            job.poll()
        clock.now += 1.0
    assert len(server.samples) == 13, "every 10 s, not every second"
    assert [len(seen.trials[0].epochs) for seen in server.studies] == [4, 7, 69], "only when something has changed"
    assert drawn == [1060.0, 1120.0], "not before there is something to see"
