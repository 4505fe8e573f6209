"""GPU-hours have one definition: the budget, the report and MLflow show the same figure."""

from __future__ import annotations

import dataclasses

import pytest

from hpo.cli.display.plain import closing
from hpo.driver.decisions.stopping import used_up
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, Repeat, StudyRecord, TrialRecord
from hpo.results.gpu_hours import (
    confirmation_cost,
    confirmation_gpu_hours,
    confirmation_worker_seconds,
    gpu_hours,
    gpu_hours_until,
)
from hpo.results.summary import description
from hpo.spec.study import Spec
from hpo.tracking.study_content import course
from reports.analysis.answer import answer, cost
from reports.page.cards import cards
from tests.support.sample_records import BEGAN, SPEC, study, trial


def ended(number: int, *devices: str | None, seconds: float = 190.0) -> TrialRecord:
    """A complete trial of four epochs, 120 s of which it reported; its worker had it for 190 s."""
    attempts = tuple(Attempt(BEGAN, device=device, host="node") for device in devices)
    return trial(number, 4, ending=Ending.COMPLETE, attempts=attempts, finished=BEGAN + seconds)


def seconds(*trials: TrialRecord, spec: Spec = SPEC) -> float:
    return 3600 * gpu_hours(study(*trials, spec=spec))


def with_gpus(gpus: float | str, device: str = "auto") -> Spec:
    return Spec.model_validate(SPEC.model_dump() | {"resources": {"gpus": gpus, "device": device}})


@pytest.mark.parametrize(("devices", "expected"), [(("cuda", "cpu"), 190.0), (("cuda", "cuda"), 380.0)])
def test_budget_report_and_mlflow_charge_the_time_a_gpu_is_held(devices: tuple[str, str], expected: float) -> None:
    """Start-up and what comes after the last epoch included: 190 s a trial, not the 120 s that its epochs took; and
    not of the trial on the CPU."""
    record = study(*(ended(number, device) for number, device in enumerate(devices)))
    assert 3600 * gpu_hours(record) == pytest.approx(expected)
    assert 3600 * cost(record).gpu_hours == pytest.approx(expected)
    assert 3600 * list(course(record))[-1].values["spent/gpu_hours"] == pytest.approx(expected)
    for limit, is_reached in ((expected - 1, True), (expected + 1, False)):
        spec = SPEC.model_copy(update={"budget": SPEC.budget.model_copy(update={"gpu_hours": limit / 3600})})
        assert (used_up(dataclasses.replace(record, spec=spec), 0.0, BEGAN + 480) is not None) == is_reached


def test_a_share_of_a_gpu_counts_as_such() -> None:
    assert seconds(ended(0, "cuda"), spec=with_gpus(0.5)) == pytest.approx(95.0)
    assert seconds(ended(0, "cuda"), spec=with_gpus(2)) == pytest.approx(380.0)


def test_an_attempt_keeps_the_share_that_it_began_with() -> None:
    """A resume may ask for another one."""
    first = Attempt(BEGAN, device="cuda", gpus=0.5, ended=BEGAN + 100)
    second = Attempt(BEGAN + 100, device="cuda", gpus=1.0)
    record = trial(0, 4, ending=Ending.COMPLETE, attempts=(first, second), finished=BEGAN + 190)
    assert seconds(record, spec=with_gpus(1)) == pytest.approx(50.0 + 90.0)


def test_a_running_trial_counts_until_now_and_for_readers_until_the_newest_record() -> None:
    record = study(trial(0, 4), elapsed=480.0)
    assert 3600 * gpu_hours(record, BEGAN + 300) == pytest.approx(300.0)
    assert 3600 * gpu_hours(record) == pytest.approx(480.0)


def test_what_happens_later_does_not_change_what_had_been_charged() -> None:
    """MLflow cannot take a value back."""
    before = study(ended(0, "cuda"), trial(1, 4))
    after = study(ended(0, "cuda"), ended(1, "cuda", seconds=400.0))
    moments = [BEGAN + 60, BEGAN + 190]
    assert gpu_hours_until(before, moments) == pytest.approx(gpu_hours_until(after, moments))
    assert 3600 * gpu_hours_until(after, moments)[1] == pytest.approx(380.0)


def test_lost_and_interrupted_attempts_count_until_their_worker_was_free() -> None:
    """The night between two drivers does not."""
    lost = Attempt(BEGAN, device="cuda", lost="died", ended=BEGAN + 130)
    cut = Attempt(BEGAN + 200, resumed_after=4, device="cuda", ended=BEGAN + 250)
    last = Attempt(BEGAN + 90_000, resumed_after=4, device="cuda")
    record = trial(0, 4, ending=Ending.FAILED, attempts=(lost, cut, last), finished=BEGAN + 90_010)
    assert seconds(record) == pytest.approx(130.0 + 50.0 + 10.0)
    waiting = dataclasses.replace(record, attempts=(lost, cut), outcome=Outcome(Ending.INTERRUPTED, ""), finished=None)
    assert seconds(waiting) == pytest.approx(180.0)


def test_older_records_count_lost_attempts_until_the_next_and_others_until_their_last_report() -> None:
    """They do not say when an attempt ended."""
    attempts = (
        Attempt(BEGAN, device="cuda", lost="died"),
        Attempt(BEGAN + 200, resumed_after=4, device="cuda"),
        Attempt(BEGAN + 90_000, resumed_after=4, device="cuda"),
    )
    record = trial(0, 4, ending=Ending.COMPLETE, attempts=attempts, finished=BEGAN + 90_010)
    assert seconds(record) == pytest.approx(200.0 + 0.0 + 10.0)


def test_an_attempt_that_never_reported_is_charged_like_its_neighbours() -> None:
    """Out of memory before the first epoch: the GPU was held, but nobody said so."""
    failed = trial(0, 0, ending=Ending.FAILED, attempts=(Attempt(BEGAN),), finished=BEGAN + 50)
    assert seconds(failed, ended(1, "cuda")) == pytest.approx(240.0)
    assert seconds(failed, ended(1, "cpu")) == 0.0
    assert seconds(failed) == 0.0
    assert seconds(failed, spec=with_gpus(1)) == pytest.approx(50.0)
    assert seconds(failed, spec=with_gpus("auto", "cuda")) == pytest.approx(50.0)


def test_a_confirmation_is_charged_apart() -> None:
    repeat = dataclasses.replace(ended(0, "cuda"), repeat=Repeat(0, 0, 1, baseline=False))
    record = dataclasses.replace(study(ended(0, "cuda")), repeats=(repeat,))
    assert 3600 * gpu_hours(record) == pytest.approx(190.0)
    assert 3600 * confirmation_gpu_hours(record) == pytest.approx(190.0)
    assert cost(record).confirmation_gpu_hours == confirmation_gpu_hours(record)
    assert confirmation_worker_seconds(record) == pytest.approx(190.0)
    said = "the confirmation took 0:03:10 of worker time, 0.05 GPU-hours more"
    assert f"- {said}" in description(record)
    assert f"T{said[1:]}." in closing(record, "")
    assert [card for card in cards(answer(record)) if said in card.note]


def test_a_confirmation_on_the_cpu_costs_worker_time() -> None:
    repeat = dataclasses.replace(ended(0, "cpu"), repeat=Repeat(0, 0, 1, baseline=False))
    assert confirmation_cost(dataclasses.replace(study(ended(0, "cpu")), repeats=(repeat,))) == "0:03:10 of worker time"
    assert confirmation_cost(study(ended(0, "cpu"))) == ""


def test_a_study_without_trials_costs_nothing() -> None:
    assert gpu_hours(StudyRecord("empty", SPEC, {})) == 0.0
