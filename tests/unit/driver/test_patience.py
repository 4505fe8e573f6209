"""Studies that end because there is little left to gain, and where the model that says so is fitted."""

from __future__ import annotations

import dataclasses
import functools
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from hpo.driver.conductor import Assignment, Conductor
from hpo.driver.decisions.patience import Patience
from hpo.ledger.outcome import Ending
from hpo.ledger.reader import load_study
from hpo.ledger.records import EpochRecord, StudyRecord, TrialRecord
from hpo.results.progress import undecided
from hpo.search import prospect as prospects
from hpo.search.distributions import distributions
from hpo.search.prospect import prospect
from hpo.search.unit_cube import UnitCube
from hpo.spec.parameters import FloatParameter
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create
from tests.support.sample_records import study, trial
from trainers.api import EpochMetrics

SPACE = UnitCube(distributions({"extra.x": FloatParameter(type="float", low=0.0, high=1.0)}))
EPOCHS = 8


def a_spec(budget: dict[str, Any], policy: str = "gp") -> Spec:
    return synthetic_spec(
        "limited",
        train={"epochs": EPOCHS, "progressive": {"stages": 1}},
        space={"extra.x": {"type": "float", "low": 0.0, "high": 1.0}},
        enqueue=[],
        asha={"enabled": False},
        search={"policy": policy},
        budget={"trials": 30, **budget},
    )


def run(spec: Spec, height: Callable[[Assignment], float], workers: int = 1) -> StudyRecord:
    """Train trials in turn. The last epochs of all differ by 0.01, as trainings with other seeds would."""
    storage, busy = InMemoryStorage(), list[Assignment]()
    conductor = Conductor(create(storage, spec))
    while True:
        while len(busy) < workers and (job := conductor.next_trial()) is not None:
            busy.append(job)
        if not busy:
            break
        job = busy.pop(0)
        for epoch in range(1, EPOCHS + 1):
            value = height(job) + 0.005 * (-1) ** epoch
            conductor.on_epoch(job.number, EpochMetrics(epoch=epoch, val_accuracy=value))
    conductor.close()
    return load_study(storage, "limited")


@pytest.mark.parametrize("policy", ["gp", "tpe", "random"])
def test_a_study_whose_trials_are_all_equally_good_ends(policy: str) -> None:
    """Whatever policy suggests them."""
    record = run(a_spec({"patience": 2}, policy), lambda job: 0.5 + 0.002 * (-1) ** job.number)
    assert record.ended is not None
    assert record.ended.startswith("budget.patience: for 2 complete trials in a row the possible improvement (now at")
    assert 6 <= record.count("complete") < 30


def test_a_study_that_still_improves_goes_on() -> None:
    """Each trial is better than all before it by far more than seeds differ, wherever it is in the space."""
    record = run(a_spec({"patience": 2, "trials": 15}), lambda job: 0.3 + 0.03 * job.number)
    assert record.ended == "budget.trials: reached the budget of 15 trials"


@pytest.mark.parametrize("workers", [1, 4])
def test_nothing_is_fitted_in_the_thread_that_schedules(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    fit = prospects.fit

    def counted(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return fit(*arguments)

    monkeypatch.setattr(prospects, "fit", counted)
    record = run(
        a_spec({"patience": 3, "trials": 12}, "random"), lambda job: random.Random(job.number).random(), workers
    )
    assert record.count("complete") == 12
    assert 1 <= len(threads) <= 12, "once for a complete trial at most"
    assert all(name.startswith("patience") for name in threads)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("patience")], "they have ended"


def complete(count: int, height: Callable[[float], float]) -> list[TrialRecord]:
    """Complete trials at even distances."""
    made = []
    for number in range(count):
        place = (number + 0.5) / count
        metrics = EpochMetrics(epoch=1, val_accuracy=height(place))
        one = trial(number, 1, ending=Ending.COMPLETE, values={"extra.x": place})
        made.append(dataclasses.replace(one, epochs=(EpochRecord(metrics, 0.0),)))
    return made


def test_the_bound_holds_and_shrinks_as_trials_show_the_space() -> None:
    """The best of all configurations is 0.9, at a place that no trial has."""

    def height(place: float) -> float:
        return 0.9 - (place - 0.5) ** 2

    left = []
    for count in (6, 10, 20):
        trials = complete(count, height)
        found = prospect(SPACE, 0, trials)
        assert found is not None
        assert found.possible >= 0.9 - max(one.value or 0.0 for one in trials)
        assert 0 <= found.expected <= found.possible
        left.append(found.possible)
    assert left[2] < left[0] / 2


def test_nothing_is_said_of_few_trials_or_of_a_space_without_parameters() -> None:
    assert prospect(SPACE, 0, complete(4, lambda place: place)) is None
    assert prospect(SPACE, 0, complete(5, lambda place: place)) is not None
    assert prospect(UnitCube({}), 0, complete(9, lambda place: place)) is None


def test_status_says_why_it_is_not_known_what_a_study_may_gain() -> None:
    spec = a_spec({"patience": 2})
    trained = [trial(number, 6, ending=Ending.COMPLETE) for number in range(5)]
    assert undecided(study(*trained[:3], spec=spec)) == (
        "budget.patience: not known before 5 trials are complete; 3 are"
    )
    short = [dataclasses.replace(one, epochs=one.epochs[:1]) for one in trained]
    assert "nothing says how much seeds differ" in str(undecided(study(*short, spec=spec)))
    assert undecided(study(*trained, spec=spec)) is None
    assert undecided(study(*trained[:3], spec=a_spec({}))) is None


@pytest.mark.parametrize(("price", "ends"), [(1e-6, False), (1e6, True)])
def test_a_study_ends_where_a_gpu_hour_is_expected_to_gain_less_than_its_price(price: float, ends: bool) -> None:
    trained = complete(8, lambda place: 0.9 - (place - 0.5) ** 2)
    spec = a_spec({"min_gain_per_gpu_hour": price})
    patience = Patience(study(*trained[:-1], spec=spec), functools.partial(prospect, SPACE, 0))
    patience.notice(trained[-1], cost=0.5)
    reason = patience.exhausted(wait=True)
    patience.close()
    assert (reason is not None) == ends
    if reason is not None:
        assert reason.startswith(
            "budget.min_gain_per_gpu_hour: another GPU-hour is expected to improve the best trial by"
        )
