"""A pruned trial that is taken up again is the same trial, in every record, wherever its driver dies."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from hpo.driver.conductor import Conductor
from hpo.driver.decisions.landing import Costs
from hpo.driver.events import Event
from hpo.driver.listeners import BestFile
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.reader import load_study
from hpo.ledger.records import Attempt, EpochRecord, StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.results.gpu_hours import released
from hpo.search.asha import replay
from hpo.search.pruning_audit import audit
from hpo.search.unit_cube import UnitCube
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.integration.test_resume import Mortal
from tests.support.in_process_driver import Died, create, finish, reopen, steps, told
from trainers.api import EpochMetrics

TAKEN_UP, LEFT = 3, 4
"""Of the study below: the trial that landing takes up, and one that stays pruned."""


def a_spec(**changes: object) -> Spec:
    """Seven trials, of which some learn fast and some slowly, so that ASHA stops a good one early."""
    settings: dict[str, object] = {
        "train": {"epochs": 4, "progressive": {"stages": 1}},
        "extra": {"light": True},
        "search": {"policy": "gp", "landing": True},
        "space": {
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
            "extra.speed": {"type": "float", "low": 0.1, "high": 3.0},
        },
        "enqueue": [{"extra.quality": 0.2, "extra.speed": 3.0}],
        "budget": {"trials": 7},
    }
    return synthetic_spec("landing", **(settings | changes))


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    return Mortal() if request.param == "memory" else open_storage(f"sqlite:///{tmp_path / 'optuna.db'}")


def check(study: StudyRecord) -> None:
    """What holds of every study with landing once it has ended."""
    assert replay([(trial.number, rung) for trial in study.trials for rung in trial.rungs], 2) == []
    for trial in study.trials:
        assert trial.status in ("complete", "pruned")
        assert trial.outcome is not None
        assert trial.outcome.final
        assert (trial.status == "pruned") == (trial.pruned_at is not None)
        assert all(rung.keep for rung in trial.rungs[:-1]) or trial.control, "nothing is decided after the first stop"


def test_a_pruned_trial_that_promises_most_is_taken_up_and_completes(storage: BaseStorage, tmp_path: Path) -> None:
    events: list[Event] = []
    finish(create(storage, a_spec()), tmp_path, events.append)
    study = load_study(storage, "landing")
    told(storage, study)
    check(study)
    trial = study.trials[TAKEN_UP]
    assert trial.complete
    assert trial.taken_up == (1,)
    assert [rung.keep for rung in trial.rungs] == [False]
    first, second = trial.attempts
    assert (first.taken_up, second.taken_up) == (False, True)
    assert first.ended is not None
    assert released(trial, 0.0)[0] == first.ended <= second.started
    kinds = [event.kind for event in events if event.trial is not None and event.trial.number == TAKEN_UP]
    assert kinds == ["started", "epoch", "finished", "resumed", "epoch", "epoch", "epoch", "finished"]
    let_go = [event.trial for event in events if event.kind == "let_go"]
    assert [one.number for one in let_go if one is not None] == [LEFT]
    assert study.ended == "budget.trials: reached the budget of 7 trials"


def test_until_the_end_optuna_lets_it_wait_and_samplers_see_it_pruned(storage: BaseStorage, tmp_path: Path) -> None:
    conductor = Conductor(create(storage, a_spec()))
    for _ in steps(conductor, tmp_path):
        if any(trial.kept for trial in conductor.ledger.trials):
            break
    (kept,) = [trial for trial in conductor.ledger.trials if trial.kept]
    assert kept.outcome is not None
    assert kept.outcome.ending is Ending.PRUNED
    assert not kept.outcome.final
    assert kept.status == "pruned"
    assert not kept.unfinished
    stored = storage.get_all_trials(storage.get_study_id_from_name("landing"))
    assert stored[kept.number].state is TrialState.WAITING
    ahead = conductor._ahead
    assert ahead is not None
    ahead.peek(len(conductor.ledger.trials))
    assert ahead._history._trials[kept.number].state is TrialState.PRUNED


def test_an_interrupted_study_goes_on_with_landing(storage: BaseStorage, tmp_path: Path) -> None:
    """What one driver has pruned the next one takes up, and a trial that was taken up goes on."""
    conductor = Conductor(create(storage, a_spec()))
    for _ in steps(conductor, tmp_path):
        if any(trial.kept for trial in conductor.ledger.trials):
            conductor.stop("interrupted")
    conductor.close()
    waiting = [trial.number for trial in load_study(storage, "landing").trials if trial.kept]
    assert waiting, "the end of a driver is not the end of its study"
    conductor = Conductor(reopen(storage, a_spec()))
    for _ in steps(conductor, tmp_path):
        if any(trial.taken_up and trial.status == "running" for trial in conductor.ledger.trials):
            conductor.stop("interrupted")
    conductor.close()
    (again,) = [trial for trial in load_study(storage, "landing").trials if trial.taken_up]
    assert again.status == "interrupted"
    finish(reopen(storage, a_spec()), tmp_path)
    study = load_study(storage, "landing")
    told(storage, study)
    check(study)
    assert study.trials[again.number].complete
    assert study.trials[again.number].taken_up == again.taken_up, "what is interrupted is resumed, not taken up"


def test_a_driver_may_die_at_any_write_while_trials_are_taken_up(tmp_path: Path) -> None:
    spec, writes = a_spec(), 40
    while True:
        storage, folder = Mortal(), tmp_path / str(writes)
        ledger = create(storage, spec)
        storage.left = writes
        try:
            finish(ledger, folder)
            break
        except Died:
            storage.left = None
        finish(reopen(storage, spec), folder)
        study = load_study(storage, "landing")
        told(storage, study)
        check(study)
        assert len(study.trials) == 7, f"after {writes} writes"
        writes += 1
    assert writes > 100


def test_without_landing_nothing_is_kept_and_no_record_tells_of_it(storage: BaseStorage, tmp_path: Path) -> None:
    finish(create(storage, a_spec(search={"policy": "gp"})), tmp_path)
    study = load_study(storage, "landing")
    assert study.count("pruned") > 1
    assert not any(trial.taken_up for trial in study.trials)
    for trial in storage.get_all_trials(storage.get_study_id_from_name("landing")):
        assert "kept" not in trial.user_attrs["outcome"]
        assert all("taken_up" not in attempt for attempt in trial.system_attrs["start"]["attempts"])


def test_what_somebody_enqueued_goes_first(tmp_path: Path) -> None:
    """A configuration that a person asks for is not put off for a pruned one that promises more."""
    begun: list[int] = []
    conductor = Conductor(
        create(Mortal(), a_spec()),
        listener=lambda event: (
            begun.append(event.trial.number)
            if event.trial is not None and event.kind in ("started", "resumed")
            else None
        ),
    )
    choose = conductor._admission._landing
    added = None
    for _ in steps(conductor, tmp_path):
        if added is None and choose() is not None:
            before = len(begun)
            added, _ = conductor.steering.add({"extra.quality": 0.3, "extra.speed": 3.0}, "ann@login1", "request")
            assert choose() is None
    conductor.close()
    assert added is not None
    assert begun[before] == added


def test_the_audit_counts_a_trial_that_was_taken_up_apart(tmp_path: Path) -> None:
    """It trained to the end because it promised much: as a control it would flatter the pruning."""
    storage = Mortal()
    finish(create(storage, a_spec()), tmp_path)
    found = audit(load_study(storage, "landing"))
    assert found.controls == 1, "the baseline alone"
    assert found.pending == 0
    assert found.taken_up == 1
    assert found.mismatches == ()


def test_best_yaml_tells_the_predicted_end_until_a_trial_is_complete(home: Home, tmp_path: Path) -> None:
    spec = a_spec(asha={"reduction_factor": 4}, train={"epochs": 8, "progressive": {"stages": 1}})
    home.study(spec.study).mkdir(parents=True)
    files: list[BestFile] = []
    conductor = Conductor(create(Mortal(), spec), listener=lambda event: files[0](event))
    files.append(BestFile(conductor.ledger.study, conductor.tally, home))
    said: list[str] = []
    for _ in steps(conductor, tmp_path, slots=6):
        said.append(home.incumbent(spec.study).read_text())
    conductor.close()
    assert "epochs, predicted" not in said[0], "nothing is learned yet"
    assert any("of 8 epochs, predicted " in text for text in said)
    assert "predicted" not in home.incumbent(spec.study).read_text()


def test_what_is_left_of_a_training_is_not_measured_by_its_slow_first_epochs() -> None:
    costs = Costs(a_spec(train={"epochs": 8, "progressive": {"stages": 1}}), UnitCube({}))
    seconds = (10.0, 4.0, 2.0, 2.0)
    epochs = [
        EpochRecord(EpochMetrics(epoch=epoch, val_accuracy=0.5, seconds=took), 0.0)
        for epoch, took in enumerate(seconds, 1)
    ]
    trials = [TrialRecord(number, attempts=(Attempt(0.0),), epochs=tuple(epochs[:number])) for number in range(5)]
    assert costs.rest(trials[0]) == 0.0, "nothing is known"
    assert costs.rest(trials[1]) == pytest.approx(70.0)
    assert costs.rest(trials[4]) == pytest.approx(8.0)
    assert costs.whole(trials[4]) == pytest.approx(26.0)
