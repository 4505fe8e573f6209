"""Rungs in compute, at the ends of stages and beside controls, through the real ledger, conductor and Ray adapters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import optuna
import pytest

from hpo.driver.conductor import Conductor
from hpo.errors import UsageError
from hpo.ledger.records import EpochRecord, StudyRecord, TrialRecord
from hpo.results.best import incumbent
from hpo.results.summary import description
from hpo.search.asha import replay
from hpo.search.forecast import advice, plan
from hpo.search.rungs import rung_resource, training_rungs
from hpo.search.trial_views import by_rung, of_frozen, of_record
from hpo.spec.configure import configure
from hpo.spec.seeds import is_control
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.validation.revision import revise
from tests.conftest import synthetic_spec
from tests.support import in_process_driver
from trainers.api import EpochMetrics

STAGES = "train.progressive.stages"


def staged(trials: int = 12, train: dict[str, Any] | None = None, **asha: object) -> Spec:
    return synthetic_spec(
        extra={"seconds": 0.0, "light": True},
        train={"epochs": 16} | (train or {}),
        space={
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
            STAGES: {"type": "int", "low": 1, "high": 4},
        },
        enqueue=[{"extra.quality": 0.5, STAGES: 4}],
        asha={"reduction_factor": 2, **asha},
        budget={"trials": trials},
    )


def trained(spec: Spec, folder: Path) -> StudyRecord:
    return in_process_driver.finish(
        in_process_driver.create(optuna.storages.InMemoryStorage(), spec), folder
    ).ledger.study


def rungs_of(spec: Spec, trial: TrialRecord) -> dict[int, float]:
    return training_rungs(spec, configure(spec.base(), trial.values).train)


@pytest.mark.parametrize("align", ["none", "stages"])
@pytest.mark.parametrize("resource", ["epochs", "compute"])
def test_trials_are_judged_after_the_epochs_that_their_schedule_says(resource, align, tmp_path) -> None:
    spec = staged(resource=resource, align=align)
    study = trained(spec, tmp_path)
    assert study.count("pruned") > 0
    assert f"reduction factor 2 from {'epoch' if resource == 'epochs' else 'compute'} 1;" in description(study)
    assert {trial.values[STAGES] for trial in study.trials} == {1, 2, 3, 4}
    for trial in study.trials:
        expected = [(epoch, level) for epoch, level in rungs_of(spec, trial).items() if epoch <= len(trial.epochs)]
        decided = expected[: len(trial.rungs)]
        assert [level for _, level in decided] == [rung.rung for rung in trial.rungs]
        assert [trial.epochs[epoch - 1].metrics.val_accuracy for epoch, _ in decided] == [
            rung.value for rung in trial.rungs
        ]
        if not trial.control:
            assert len(expected) == len(trial.rungs)
        if trial.status == "pruned":
            assert len(trial.epochs) == decided[-1][0]
    decisions = [(trial.number, rung) for trial in study.trials for rung in trial.rungs]
    assert replay(decisions, spec.asha.reduction_factor) == []


def test_trials_with_small_images_are_judged_later_if_rungs_count_compute(tmp_path) -> None:
    spec = staged(resource="compute")
    by_stages = {stages: next(iter(rungs_of(spec, TrialRecord(0, values={STAGES: stages})))) for stages in (1, 2, 4)}
    assert by_stages == {1: 1, 2: 6, 4: 5}  # 300 px; 128 px counts 0.18 of an epoch; 4 at 128 and one at 185


def test_samplers_see_pruned_trials_by_rung_instead_of_epoch(tmp_path) -> None:
    """The epoch of a rung differs between trials."""
    storage, spec = optuna.storages.InMemoryStorage(), staged(24, resource="compute", grace_period=2)
    study = in_process_driver.finish(in_process_driver.create(storage, spec), tmp_path).ledger.study
    stored = optuna.load_study(study_name=spec.study, storage=storage).trials
    seen = [of_frozen(trial) for trial in stored]
    assert seen == [of_record(trial) for trial in study.trials]
    levels = sorted({rung.rung for trial in study.trials for rung in trial.rungs if trial.status == "pruned"})
    epochs: dict[int, set[int]] = {}
    for trial, before, after in zip(study.trials, seen, by_rung(seen), strict=True):
        if trial.status != "pruned":
            assert after is before
            continue
        last = trial.rungs[-1]
        assert after.last == (levels.index(last.rung), last.value)
        epochs.setdefault(levels.index(last.rung), set()).add(len(trial.epochs))
    assert len(epochs[0]) > 1, "one rung, decided after different epochs"


def test_the_incumbent_is_found_in_the_unit_of_the_rungs() -> None:
    """A trial of one stage has used as much compute after two epochs as a trial of four stages after six."""
    values = {"extra.quality": 0.5}
    few = _at(TrialRecord(0, values={**values, STAGES: 1}), 2, 2.0, 0.6)
    many = _at(TrialRecord(1, values={**values, STAGES: 4}), 7, 2.2, 0.5)
    further = _at(TrialRecord(2, values={**values, STAGES: 2}), 9, 4.0, 0.4)
    for resource, expected in (("compute", 0), ("epochs", 1)):
        study = StudyRecord("s", staged(resource=resource), {}, trials=(few, many))
        leader = incumbent(study)
        assert leader is not None
        assert leader.number == expected
    beyond = incumbent(StudyRecord("s", staged(resource="compute"), {}, trials=(few, many, further)))
    assert beyond is further


def _at(trial: TrialRecord, epochs: int, compute: float, value: float) -> TrialRecord:
    """The trial after so many epochs, which used so much compute."""
    metrics = [
        EpochMetrics(epoch=number, val_accuracy=value, compute=compute * number / epochs)
        for number in range(1, epochs + 1)
    ]
    return dataclasses.replace(trial, epochs=tuple(EpochRecord(entry, 0.0) for entry in metrics))


def test_a_study_with_aligned_rungs_resumes_after_its_driver_died(tmp_path) -> None:
    spec = staged(resource="compute", align="stages", controls=0.3)
    whole = trained(spec, tmp_path / "whole")
    storage = optuna.storages.InMemoryStorage()
    conductor = Conductor(in_process_driver.create(storage, spec))
    for rounds, _ in enumerate(in_process_driver.steps(conductor, tmp_path / "cut")):
        if rounds == 20:
            break
    study = in_process_driver.finish(in_process_driver.reopen(storage, spec), tmp_path / "cut").ledger.study
    assert [trial.control for trial in study.trials] == [trial.control for trial in whole.trials]
    assert {trial.status for trial in study.trials} == {"complete", "pruned"}
    decisions = [(trial.number, rung) for trial in study.trials for rung in trial.rungs]
    assert replay(decisions, spec.asha.reduction_factor) == []
    assert all(rung.rung in rungs_of(spec, study.trials[number]).values() for number, rung in decisions)


def test_a_trial_fails_if_rungs_count_compute_and_its_trainer_reports_none() -> None:
    conductor = Conductor(in_process_driver.create(optuna.storages.InMemoryStorage(), staged(resource="compute")))
    assignment = conductor.next_trial()
    assert assignment is not None
    assert not conductor.on_epoch(assignment.number, EpochMetrics(epoch=1, val_accuracy=0.5))
    outcome = conductor.ledger.trial(0).outcome
    assert outcome is not None
    assert "compute, which the trainer does not report" in outcome.reason


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trainer": SHIPPED_TRAINER}, "compute"),
        ({"trainer": SHIPPED_TRAINER, "space": {"train.lr": {"type": "float", "low": 1e-3, "high": 1e-2}}}, "compute"),
        ({"trainer": "tests.synthetic:train"}, "epochs"),
        ({"trainer": SHIPPED_TRAINER, "asha": {"resource": "epochs"}}, "epochs"),
        ({"trainer": "tests.synthetic:train", "asha": {"resource": "compute"}}, "compute"),
    ],
)
def test_rungs_count_compute_by_default_if_the_shipped_trainer_changes_image_sizes(changes, expected) -> None:
    spec = synthetic_spec(
        **{"train": {"epochs": 8}, "space": {STAGES: {"type": "int", "low": 1, "high": 4}}, "enqueue": []} | changes
    )
    assert rung_resource(spec) == expected


def test_rungs_count_epochs_by_default_if_all_images_have_one_size() -> None:
    space = {"train.lr": {"type": "float", "low": 1e-3, "high": 1e-2}}
    spec = synthetic_spec(trainer=SHIPPED_TRAINER, space=space, enqueue=[])
    assert rung_resource(spec) == "epochs"
    assert training_rungs(spec, spec.base().train) == {1: 1, 2: 2, 4: 4}


# ------------------------------------------------------------------------------------------- yardstick


def test_all_trials_are_scored_at_one_size_and_count_in_one_unit() -> None:
    spec = synthetic_spec(
        train={"epochs": 8, "progressive": {"stages": 1}},
        space={"train.progressive.size.end": {"type": "int", "low": 64, "high": 192, "step": 64}},
        enqueue=[{"train.progressive.size.end": 64}],
        asha={"reduction_factor": 2, "resource": "compute"},
    )
    small, large = (configure(spec.base(), {"train.progressive.size.end": size}).train for size in (64, 192))
    assert (small.eval_size, small.compute_size) == (large.eval_size, large.compute_size) == (192, 192)
    assert training_rungs(spec, large) == {1: 1, 2: 2, 4: 4}
    assert training_rungs(spec, small) == {}, "its whole training is less than one large epoch"


def test_a_given_evaluation_size_is_kept() -> None:
    size = {"train.progressive.size.end": {"type": "categorical", "choices": [64, 128]}}
    spec = synthetic_spec(train={"epochs": 8, "eval_size": 96, "progressive": {"stages": 1}}, space=size, enqueue=[])
    assert spec.base().train.eval_size == 96
    assert synthetic_spec().base().train.eval_size is None, "one size for all anyway"


# -------------------------------------------------------------------------------------------- controls


def test_controls_train_for_all_epochs_and_are_told_to_stop_at_most_once(tmp_path) -> None:
    spec = staged(trials=20, controls=0.3)
    study = trained(spec, tmp_path)
    controls = [trial for trial in study.trials if trial.control]
    expected = {0} | {number for number in range(20) if is_control(0, number, 0.3)}
    assert {trial.number for trial in controls} == expected
    assert all(trial.complete for trial in controls)
    told = [trial for trial in controls if any(not rung.keep for rung in trial.rungs)]
    assert told, "some would have been stopped"
    assert all(not trial.rungs[-1].keep and all(rung.keep for rung in trial.rungs[:-1]) for trial in told)


@pytest.mark.parametrize("share", [0, 0.1, 1 / 3, 0.25, 1])
@pytest.mark.parametrize("seed", range(20))
def test_every_stretch_of_trials_has_its_share_of_controls(share, seed) -> None:
    drawn = [is_control(seed, number, share) for number in range(1000)]
    for start in range(0, 900, 90):
        assert abs(sum(drawn[start : start + 60]) - 60 * share) <= 1
    assert drawn == [is_control(seed, number, share) for number in range(1000)]


def test_another_seed_draws_other_controls() -> None:
    assert len({tuple(is_control(seed, number, 0.1) for number in range(10)) for seed in range(200)}) == 10


def test_a_resumed_study_may_not_change_its_rungs() -> None:
    for change in ("asha.controls=0.5", "asha.align=stages", "asha.resource=compute"):
        with pytest.raises(UsageError, match="comparable"):
            revise(staged(), [change])


# ---------------------------------------------------------------------------------- plan and warnings


def test_the_forecast_counts_controls_and_says_when_trials_are_judged() -> None:
    without, beside = plan(staged(trials=40)), plan(staged(trials=40, controls=0.25))
    assert beside.complete > without.complete
    assert beside.share > without.share
    assert plan(staged(trials=40, controls=1)).share == 1
    aligned = plan(staged(trials=40, resource="compute", align="stages"))
    by_level = {rung.level: rung for rung in aligned.rungs}
    assert by_level[1].epoch == 4, "the baseline's first stage ends there"
    assert by_level[1].span == (1, 6), "one stage of 300 px; two, of which the first ends after 8, nearer to the next"
    assert [rung.span for rung in without.rungs] == [(1, 1), (2, 2), (4, 4), (8, 8)]


def test_a_grace_period_inside_the_warm_up_causes_a_warning() -> None:
    assert advice(staged(grace_period=2, train={"warmup_epochs": 2})) == []
    (warning,) = advice(staged(grace_period=2, train={"warmup_epochs": 3}))
    assert "after epoch 2, but the learning rate rises for 3 epochs" in warning
    assert "some" not in warning
    (warning,) = advice(staged(resource="compute", train={"warmup_epochs": 3}))
    assert "of some configurations" in warning, "only a single stage of 300 px is judged so early"
    (warning,) = advice(staged(train={"schedule": "onecycle"}))
    assert "rises for 4.8 epochs" in warning
    assert advice(staged(enabled=False, train={"warmup_epochs": 3})) == []


def test_a_searched_warm_up_causes_the_same_warning() -> None:
    warm_up = {"train.warmup_epochs": {"type": "float", "low": 0, "high": 4}}
    searched = synthetic_spec(space=warm_up, enqueue=[], asha={"grace_period": 2, "reduction_factor": 2})
    (warning,) = advice(searched)
    assert "of some configurations" in warning
    assert "rises for 4 epochs" in warning
