"""Budgets in virtual time: the real conductor and ledger, an epoch of each trial lasting as long as it says."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from hpo.cli.display.plain import closing
from hpo.clock import Clock
from hpo.driver.conductor import Conductor
from hpo.driver.decisions.stopping import used_up
from hpo.driver.events import Event
from hpo.driver.run import resume
from hpo.driver.session import succeeded
from hpo.errors import NoTrialSucceeded
from hpo.export.incumbent import Incumbent
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.reader import load_study
from hpo.ledger.records import Repeat, StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.confirmation import pooled_deviation, seed_noise
from hpo.results.gpu_hours import gpu_hours
from hpo.results.progress import progress
from hpo.search.samplers import draw
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from hpo.validation.problems import SpecificationError
from hpo.validation.revision import revise
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, reopen
from tests.support.sample_records import study, trial
from tests.support.views import RecordingView
from trainers.api import EpochMetrics

HOUR = 3600.0


class World:
    """Workers that train in no time at all, and a clock that says otherwise. An epoch lasts an hour, on half a GPU."""

    def __init__(self, opened: Callable[[Clock], Ledger], slots: int = 2) -> None:
        self.now = 0.0
        self.said: list[str] = []
        ledger = opened(Clock(wall=lambda: 1.0, monotonic=lambda: self.now))
        self.conductor = Conductor(ledger, listener=self._hear)
        self.slots = slots

    def _hear(self, event: Event) -> None:
        if event.kind == "notice":
            self.said.append(event.text)

    def run(self) -> StudyRecord:
        """Train to the end; the study's record as anybody else reads it."""
        conductor, busy, order = self.conductor, list[tuple[float, int, int, float]](), 0
        while True:
            while len(busy) < self.slots and (job := conductor.next_trial()) is not None:
                done = len(conductor.ledger.trial(job.number).epochs)
                conductor.on_placed(job.number, "node", "cuda", 1)
                heapq.heappush(busy, (self.now + HOUR, order, job.number, float(job.config.extra["quality"])))
                order += 1
            if not busy:
                assert conductor.exhausted
                break
            self.now, _, number, quality = heapq.heappop(busy)
            done = len(conductor.ledger.trial(number).epochs) + 1
            value = quality * done / conductor.spec.train.epochs
            if conductor.on_epoch(number, EpochMetrics(epoch=done, val_accuracy=value, seconds=HOUR)):
                heapq.heappush(busy, (self.now + HOUR, order, number, quality))
                order += 1
        conductor.close()
        return load_study(conductor.ledger._storage, conductor.ledger.name)


def a_spec(limits: dict[str, object], **changes: object) -> Spec:
    """Trials of 16 epochs with rungs at 1, 4; all of the same quality, so that nobody is pruned."""
    settings: dict[str, Any] = {
        "train": {"epochs": 16, "progressive": {"stages": 1}},
        "space": {"extra.quality": {"type": "float", "low": 0.5, "high": 0.5}},
        "enqueue": [],
        "asha": {"reduction_factor": 4},
        "budget": {"trials": 50, **limits},
    }
    return synthetic_spec("limited", **(settings | changes))


def ran(limits: dict[str, object], **changes: object) -> tuple[StudyRecord, World, InMemoryStorage]:
    storage = InMemoryStorage()
    world = World(partial(create, storage, a_spec(limits, **changes)))
    return world.run(), world, storage


def lengths(record: StudyRecord) -> list[int]:
    return [len(one.epochs) for one in record.trials if one.started]


def test_running_trials_reach_their_next_rung_when_the_hours_are_used_up() -> None:
    """Both are after epoch 2 when 2.5 hours are over; the rung at 4 takes them until 4."""
    record, world, _ = ran({"hours": 2.5})
    assert world.now == 4 * HOUR
    assert lengths(record) == [4, 4]
    assert {one.status for one in record.trials} == {"interrupted"}
    assert record.ended == "budget.hours: reached the budget of 2.5 hours"
    assert world.said == ["Stopping: reached the budget of 2.5 hours; running trials continue to their next rung"]
    assert progress(record).over
    assert "hpo resume limited budget.hours=…" in closing(record, "")


def test_running_trials_reach_their_next_checkpoint_when_asked_for() -> None:
    """Every third epoch is saved."""
    spec = {"train": {"epochs": 16, "checkpoint_every": 3, "progressive": {"stages": 1}}}
    record, _, _ = ran({"hours": 3.5, "when_reached": "checkpoint"}, **spec)
    assert lengths(record) == [6, 6]


def test_without_a_rung_left_a_trial_trains_to_its_end() -> None:
    record, _, _ = ran({"hours": 5.5})
    assert lengths(record) == [16, 16]
    assert {one.status for one in record.trials} == {"complete"}


def test_gpu_hours_end_a_study_and_count_shares_of_gpus() -> None:
    """Two trials hold half a GPU each: together an hour of a GPU is used up every hour."""
    world = World(
        partial(
            create,
            InMemoryStorage(),
            a_spec({"gpu_hours": 3, "when_reached": "checkpoint"}, resources={"gpus": 0.5}),
        )
    )
    record = world.run()
    assert lengths(record) == [3, 3]
    assert record.ended is not None
    assert record.ended.startswith("budget.gpu_hours: reached the budget of 3 GPU-hours")
    assert gpu_hours(record) == pytest.approx(0.5 * sum(lengths(record)))


def test_a_running_trial_uses_up_gpu_hours_during_a_long_epoch() -> None:
    """Nobody knows before its first report that it runs on a GPU; then its start-up counts too."""
    world = World(partial(create, InMemoryStorage(), a_spec({"gpu_hours": 1.5})), slots=1)
    conductor = world.conductor
    assert conductor.next_trial() is not None
    world.now = 10.0
    conductor.on_placed(0, "node", "cuda", 1)
    conductor.on_epoch(0, EpochMetrics(epoch=1, val_accuracy=0.5, seconds=1.0))
    conductor.tick()
    assert conductor.ending is None
    world.now = 1.5 * HOUR
    conductor.tick()
    assert conductor.ending is not None


def test_attempts_record_when_their_worker_was_free_and_its_share_of_a_gpu() -> None:
    """Trial 0 is lost, 1 is interrupted, 3 fails; a driver that dies leaves 2, and its last record counts."""
    now, storage, spec = [1000.0], InMemoryStorage(), a_spec({}, resources={"gpus": 0.5})
    ledger = create(storage, spec, Clock(lambda: now[0], lambda: now[0]))
    for number in range(4):
        ledger.ask(lambda trial: draw(trial, spec.space), lambda number: number)
        ledger.place(number, "node", "cuda", 1)
    ledger.write_notes()
    now[0] = 1100.0
    ledger.lose(0, "gone")
    now[0] = 1200.0
    ledger.finish(3, Outcome(Ending.FAILED, "diverged"))
    assert load_study(storage, spec.study).trials == ledger.study.trials, "with the same time of its end"
    ledger.finish(1, Outcome(Ending.INTERRUPTED, ""))
    now[0] = 1300.0
    ledger.heartbeat()
    now[0] = 90_000.0
    record = reopen(storage, spec, Clock(lambda: now[0], lambda: now[0])).study
    assert [trial.attempts[0].ended for trial in record.trials[:2]] == [1100.0, 1200.0]
    assert record.trials[2].attempts[0].ended == max(1300.0, record.trials[3].finished or 0.0)
    assert record.trials[3].attempts[0].ended is None, "the outcome has the time"
    assert {trial.attempts[0].gpus for trial in record.trials} == {0.5}
    first_two = dataclasses.replace(record, trials=record.trials[:2])
    assert 3600 * gpu_hours(first_two) == pytest.approx(0.5 * (100 + 200))
    assert load_study(storage, spec.study).trials == record.trials


def test_a_target_counts_when_a_full_training_reaches_it() -> None:
    """Half-way values do not end the study; the first complete trial does."""
    record, _, _ = ran({"target": 0.5})
    assert record.ended == "budget.target: trial 0 reached 0.5, and the target is 0.5"
    assert record.count("complete") >= 1
    missed, _, _ = ran({"target": 0.51, "trials": 2})
    assert missed.ended == "budget.trials: reached the budget of 2 trials"


def test_a_larger_budget_continues_where_the_study_stopped() -> None:
    """The same trials, from their rung; without one the study stays as it is and says why."""
    first, _, storage = ran({"hours": 2.5})
    same = used_up(first, 4 * HOUR)
    assert same == first.ended
    larger = revise(first.spec, ["budget.hours=100", "budget.trials=2"])
    assert used_up(dataclasses.replace(first, spec=larger), 4 * HOUR) is None

    def reopened(clock: Clock) -> Ledger:
        ledger = reopen(storage, first.spec, clock)
        ledger.respecify(larger)
        return ledger

    second = World(reopened).run()
    assert lengths(second) == [16, 16]
    assert second.ended == "budget.trials: reached the budget of 2 trials"
    assert [len(one.attempts) for one in second.trials] == [2, 2]


def test_the_variation_between_seeds_is_the_pooled_deviation() -> None:
    """Two configurations over three seeds: squares 2e-4 and 8e-4 over four degrees of freedom."""
    assert pooled_deviation([[0.90, 0.91, 0.92], [0.80, 0.82, 0.84]]) == pytest.approx(0.0158114)
    assert pooled_deviation([[0.9], [0.8]]) is None
    repeats = tuple(
        dataclasses.replace(trial(number, 16, ending=Ending.COMPLETE), repeat=Repeat(number % 2, number // 2, 0, False))
        for number in range(4)
    )
    # Values 0.56, 0.561, 0.562, 0.563: each configuration has two, 0.002 apart, so a deviation of 0.0014142.
    assert seed_noise(dataclasses.replace(study(), repeats=repeats)) == pytest.approx(0.0014142, abs=1e-6)
    assert seed_noise(study(trial(0, 4))) is None


def test_patience_ends_a_study_that_has_nothing_left_to_gain() -> None:
    """All configurations are equally good but for noise that the ends of their curves show. It makes no difference how
    often it was resumed."""
    wide = {"extra.quality": {"type": "float", "low": 0.0, "high": 1.0}}
    storage = InMemoryStorage()
    spec = a_spec({"patience": 2, "trials": 40}, space=wide, asha={"enabled": False})
    conductor = Conductor(create(storage, spec))
    while (job := conductor.next_trial()) is not None:
        for epoch in range(1, 17):
            noise = 0.02 * (-1) ** (epoch + job.number)
            conductor.on_epoch(job.number, EpochMetrics(epoch=epoch, val_accuracy=0.5 + noise))
    conductor.close()
    record = load_study(storage, "limited")
    assert record.ended is not None
    assert record.ended.startswith("budget.patience: for 2 complete trials in a row")
    assert 6 <= record.count("complete") < 40

    interrupted = InMemoryStorage()
    create(interrupted, spec).close()
    while (found := load_study(interrupted, "limited")).ended is None and found.count("complete") < 40:
        conductor = Conductor(reopen(interrupted, spec))  # a new driver for each trial
        job = conductor.next_trial()
        assert job is not None
        for epoch in range(1, 17):
            noise = 0.02 * (-1) ** (epoch + job.number)
            conductor.on_epoch(job.number, EpochMetrics(epoch=epoch, val_accuracy=0.5 + noise))
        conductor.close()
    assert found.ended == record.ended
    assert found.count("complete") == record.count("complete")


def test_a_used_up_budget_is_no_error_unless_every_trial_failed() -> None:
    """Pruned and failed ones, or none at all: what ended it is told. Without a reason, none at all is a fault."""
    pruned, failed = trial(0, 4, ending=Ending.PRUNED), trial(1, 0, ending=Ending.FAILED, reason="Diverged: nan")
    for trials in ((pruned, failed), (trial(2, 3, ending=Ending.INTERRUPTED), failed), ()):
        record = dataclasses.replace(study(*trials), ended="budget.hours: reached the budget of 2.5 hours")
        assert succeeded(record) is record
        assert "Stopped: reached the budget of 2.5 hours." in closing(record, "")
        assert "No trial is complete yet." in closing(record, "")
    for without_result in (dataclasses.replace(study(failed), ended="budget.hours: …"), study(failed), study()):
        with pytest.raises(NoTrialSucceeded, match=r"trial 1 failed: Diverged: nan|no trial began"):
            succeeded(without_result)


def test_gpu_hours_without_a_gpu_are_refused() -> None:
    text = a_spec({}).to_yaml()
    with pytest.raises(SpecificationError, match="must be null if trials use no GPU"):
        parse_spec(text, "spec", ["budget.gpu_hours=2", "resources.gpus=0"])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["resources.gpus=0"], "must be null if trials use no GPU"),
        (["objectives=[val_accuracy, params]"], "must be null with several objectives"),
    ],
)
def test_a_price_of_gains_needs_gpus_and_a_single_objective(changes: list[str], problem: str) -> None:
    text = "study: x\nspace: {train.lr: {type: float, low: 1e-4, high: 1e-2}}\n"
    with pytest.raises(SpecificationError, match=f"(?s)budget.min_gain_per_gpu_hour.*{problem}"):
        parse_spec(text, "spec", ["budget.min_gain_per_gpu_hour=0.01", *changes])


def test_resuming_with_the_same_budget_says_why_not(home: Home) -> None:
    """Nothing is started, neither Ray nor MLflow; the record says what a person must raise."""
    storage = open_storage(home.ledger_url)
    Ledger.create(storage, a_spec({"hours": 1e-9}), {}).close()
    view = RecordingView()
    found = resume("limited", home, view=view, changes=lambda spec: spec)
    assert view.begun == []
    assert found.ended == "budget.hours: reached the budget of 1e-09 hours"
    assert load_study(storage, "limited").ended == found.ended


def test_a_worker_lost_after_the_budget_is_used_up_is_not_replaced() -> None:
    """Its trial waits for a greater budget."""
    world = World(partial(create, InMemoryStorage(), a_spec({"hours": 1})), slots=1)
    conductor = world.conductor
    assert conductor.next_trial() is not None
    world.now = HOUR
    conductor.tick()
    assert not conductor.exhausted
    conductor.on_lost(0, "gone")
    assert conductor.next_trial() is None
    assert conductor.exhausted


def test_the_incumbents_file_is_current_and_tells_its_fidelity(home: Home) -> None:
    """Ahead after four epochs, then complete; what is right already is not written again."""
    incumbent, path = Incumbent(home), home.incumbent("cifar10_b0")
    incumbent.update(study())
    assert not path.exists()
    incumbent.update(study(trial(0, 4)))
    assert "fidelity: partial" in path.read_text()
    assert "epochs: 4\n" in path.read_text()
    both = study(trial(0, 4), trial(1, 16, ending=Ending.COMPLETE))
    incumbent.update(both)
    assert "fidelity: full" in path.read_text()
    assert "trial: 1\n" in path.read_text()
    path.unlink()
    incumbent.update(both)
    assert not path.exists()
