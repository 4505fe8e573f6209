"""Studies with several objectives: the front, what the ledger tells Optuna, what is suggested, exported and shown."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from hpo.cli.display.plain import closing
from hpo.cli.display.status import study_json
from hpo.driver.conductor import Conductor
from hpo.errors import UsageError
from hpo.export.files import Request, chosen_trial, export
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.pareto import choose, front, knee
from hpo.results.summary import description
from hpo.search.samplers import study_sampler
from hpo.spec.objectives import OBJECTIVES, values
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from hpo.validation.problems import SpecificationError
from reports.page.render import write_report
from tests.conftest import synthetic_spec
from tests.support import instant_study, sample_records
from tests.support.undrawn_report import write_undrawn
from trainers.api import EpochMetrics

NAMES = ("val_accuracy", "params")
SPACE = {
    "train.lr": {"type": "float", "low": 1e-4, "high": 1.0, "log": True},
    "extra.width": {"type": "int", "low": 1, "high": 100},
}


def spec(name: str = "both", **changes: Any) -> Spec:
    settings: dict[str, Any] = {
        "train": {"epochs": 4, "progressive": {"stages": 1}},
        "extra": {},
        "space": SPACE,
        "enqueue": [],
        "objectives": list(NAMES),
        "search": {"policy": "gp", "startup_trials": 4},
        "budget": {"trials": 24},
    }
    return synthetic_spec(name, **{**settings, **changes})


def metrics(config: Any, epoch: int) -> EpochMetrics:
    """Wide networks are more accurate, with less and less gain; the learning rate has its best at 0.01."""
    width = config.extra["width"]
    value = 0.9 * width / (width + 10) - 0.02 * (math.log10(config.train.lr) + 2) ** 2 - 0.1 / epoch
    return EpochMetrics(epoch=epoch, val_accuracy=value, params=1000 * width, seconds=0.1 * width)


def run(one: Spec, home: Home, trials: int | None = None) -> StudyRecord:
    return instant_study.train(one, home, metrics, trials)


def test_the_ledger_stores_a_direction_and_a_value_for_each_objective(home: Home) -> None:
    study = run(spec(objectives=["val_accuracy", "seconds_per_epoch", "params"]), home)
    stored = optuna.load_study(study_name="both", storage=open_storage(home.ledger_url))
    assert [one.name for one in stored.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert study.count("pruned") > 0
    for record, frozen in zip(study.trials, stored.trials, strict=True):
        assert frozen.intermediate_values == {one.metrics.epoch: one.metrics.val_accuracy for one in record.epochs}
        if record.complete:
            width = record.values["extra.width"]
            assert isinstance(width, int)
            assert frozen.values == pytest.approx([record.value, 0.1 * width, 1000 * width])
        else:  # as `Study.tell` leaves them
            assert (frozen.state, frozen.values) == (TrialState.PRUNED, None)
    assert {trial.number for trial in stored.best_trials} == {trial.number for trial in front(study)}


def test_asha_prunes_by_the_first_objective(home: Home) -> None:
    study = run(spec(), home)
    for trial in study.trials:
        for decision in trial.rungs:
            assert decision.value == trial.epochs[int(decision.rung) - 1].metrics.val_accuracy


@pytest.mark.parametrize("policy", ["gp", "tpe", "random"])
def test_a_resumed_study_gets_the_suggestions_of_an_uninterrupted_one(home: Home, tmp_path: Path, policy: str) -> None:
    one = spec(search={"policy": policy, "startup_trials": 4})
    steady = run(one, home)
    other = Home.at(tmp_path / "other").create()
    run(one, other, trials=9)
    resumed = run(one, other)
    assert [trial.values for trial in resumed.trials] == [trial.values for trial in steady.trials]
    assert len({repr(trial.values) for trial in steady.trials}) == 24


def test_the_gp_searches_the_whole_pareto_front(home: Home) -> None:
    """The learning rate is best at 0.01 whatever the width, and no width is better than another."""
    study = run(spec(budget={"trials": 60}, asha={"enabled": False}), home)
    learned = [trial for trial in study.trials[20:] if trial.origin and trial.origin.kind == "sampler"]
    off = sorted(abs(math.log10(float(str(trial.values["train.lr"]))) + 2) for trial in learned)
    assert off[len(off) // 2] < 0.5, "drawn at random it were 1"
    widths = [int(str(trial.values["extra.width"])) for trial in learned]
    assert min(widths) <= 10
    assert max(widths) >= 60
    assert len(front(study)) >= 8


def points(*pairs: tuple[float, float], names: tuple[str, ...] = NAMES) -> StudyRecord:
    """Complete trials of these accuracies and parameters."""
    trials = []
    for number, (accuracy, params) in enumerate(pairs):
        trial = sample_records.trial(number, 16, ending=Ending.COMPLETE)
        last = dataclasses.replace(trial.epochs[-1].metrics, val_accuracy=accuracy, params=int(params))
        epochs = (*trial.epochs[:-1], dataclasses.replace(trial.epochs[-1], metrics=last))
        trials.append(dataclasses.replace(trial, epochs=epochs))
    return sample_records.study(*trials, spec=sample_records.SPEC.model_copy(update={"objectives": names}))


def test_the_front_holds_the_trials_that_no_other_dominates() -> None:
    study = points((0.9, 100), (0.8, 50), (0.7, 60), (0.95, 300), (0.5, 10), (0.9, 100))
    assert [trial.number for trial in front(study)] == [3, 0, 5, 1, 4]
    pruned = dataclasses.replace(sample_records.trial(6, 4, ending=Ending.PRUNED))
    failed = sample_records.trial(7, 16, ending=Ending.FAILED, reason="late")
    whole = dataclasses.replace(study, trials=(*study.trials, pruned, failed))
    assert front(whole) == front(study), "only trials of full length"
    assert front(points()) == []


def test_a_trial_of_the_front_is_chosen_by_knee_extreme_or_place() -> None:
    study = points((0.9, 100), (0.95, 300), (0.5, 10), (0.4, 90))
    assert [trial.number for trial in front(study)] == [1, 0, 2]
    assert knee(front(study), NAMES).number == 0
    assert [choose(study, pick).number for pick in ("knee", "max:val_accuracy", "min:params", "2")] == [0, 1, 2, 2]
    rule = "must be knee, max:val_accuracy, min:params, or a place on the front from 0 to 2"
    for wrong in ("best", "min:val_accuracy", "max:macs", "3", "-1", "²"):
        with pytest.raises(UsageError, match=rule):
            choose(study, wrong)
    with pytest.raises(UsageError, match="no complete trial"):
        choose(points(), "knee")
    assert choose(points((0.5, 1), names=("val_accuracy",)), "knee").number == 0


def test_speeds_are_means_over_epochs_and_sizes_are_the_newest() -> None:
    assert OBJECTIVES["seconds_per_epoch"].value([1.0, None, 3.0]) == 2.0
    assert OBJECTIVES["images_per_s"].value([100.0, 300.0, math.nan]) == 200.0
    assert OBJECTIVES["val_accuracy"].value([0.1, 0.5]) == 0.5
    assert OBJECTIVES["params"].value([None]) is None
    trial = points((0.5, 7)).trials[0]
    assert values(trial.metrics, ("images_per_s", "params", "macs")) == [1234.5, 7]


def test_a_trainer_that_does_not_report_an_objective_fails_with_the_reason(home: Home) -> None:
    one = spec(objectives=["val_accuracy", "macs"])
    ledger = Ledger.create(open_storage(home.ledger_url), one, {}, study_sampler(one))
    conductor = Conductor(ledger)
    assignment = conductor.next_trial()
    assert assignment is not None
    assert not conductor.on_epoch(assignment.number, metrics(assignment.config, 1))
    outcome = ledger.trial(assignment.number).outcome
    assert outcome is not None
    assert outcome.reason == "the trainer did not report macs, which objectives asks for, after epoch 1"
    conductor.close()


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("[params, val_accuracy]", "must start with val_accuracy"),
        ("[]", "must start with val_accuracy"),
        ("[val_accuracy, params, params]", "must not contain an objective twice"),
        ("[val_loss]", "must be val_accuracy, val_balanced_accuracy, val_macro_f1, seconds_per_epoch"),
        ("[val_accuracy, latency]", "must be val_accuracy, val_balanced_accuracy, val_macro_f1, "),
    ],
)
def test_wrong_objectives_are_refused_with_the_rule(given: str, rule: str) -> None:
    with pytest.raises(SpecificationError, match=rule):
        parse_spec(spec().to_yaml(), "spec.yaml", [f"objectives={given}"])


def test_export_status_report_and_mlflow_show_the_front(home: Home, tmp_path: Path) -> None:
    study = run(spec(), home)
    places = {place: trial.number for place, trial in enumerate(front(study))}
    (written,) = export(home, Request("both", pick="min:params"))
    assert written.trial == places[len(places) - 1]
    assert written.file.name == f"trial-{written.trial:05d}.yaml"
    assert chosen_trial(study, Request("both", pick="0")).number == study.best.number if study.best else False
    with pytest.raises(UsageError, match="leave one of them out"):
        export(home, Request("both", pick="knee", trial=1))
    with pytest.raises(UsageError, match="leave one of them out"):
        export(home, Request("both", pick="knee", top=2))
    shown = study_json(study, home)["front"]
    assert [(one["place"], one["trial"]) for one in shown] == list(places.items())
    assert shown[0]["values"][0] == study.trials[places[0]].value
    note = description(study)
    assert "| place | trial | validation accuracy | parameters |" in note
    assert note.count("\n| ") >= len(places)
    assert f"Pareto front: {len(places)} trials" in closing(study, "")
    page = write_report([study], tmp_path).read_text(encoding="utf-8")
    assert '<section id="front-1">' in page
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Pareto front\n" in text
    assert (tmp_path / "report-figures" / "front-1.png").stat().st_size > 1000
    alone = run(spec("alone", objectives=["val_accuracy"]), home)
    assert "Pareto" not in description(alone)
    assert "Pareto" not in write_undrawn([alone], tmp_path).read_text(encoding="utf-8")
