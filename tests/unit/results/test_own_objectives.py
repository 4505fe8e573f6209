"""Studies of an own trainer whose objective is no accuracy: a loss to minimise, or any other number."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from hpo.cli.display.plain import closing
from hpo.cli.display.status import study_json
from hpo.driver.conductor import Conductor
from hpo.driver.ray_backend.trainer_report import checked
from hpo.driver.warm_start import gather
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.outcome import Cause, Ending
from hpo.ledger.records import Repeat, StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.best import training
from hpo.results.confirmation import confirmation
from hpo.results.confirmation_text import confirmation_json
from hpo.results.summary import best_line, description
from hpo.results.winner import winner
from hpo.search.samplers import study_sampler
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from reports.drawing.plot import Plot, Surface
from reports.figures.contours import contours
from reports.figures.scales import scales
from tests.conftest import synthetic_spec
from tests.support import instant_study
from tests.support.specifications import GOOD, only
from tests.support.undrawn_report import write_undrawn
from trainers.api import EpochMetrics

LOSS = {"metric": "rmse", "direction": "minimize"}


def spec(name: str = "loss", **changes: Any) -> Spec:
    settings: dict[str, Any] = {
        "train": {"epochs": 4, "progressive": {"stages": 1}},
        "extra": {},
        "space": {"extra.x": {"type": "float", "low": 0.0, "high": 10.0}},
        "enqueue": [{"extra.x": 9.0}],
        "objectives": [LOSS],
        "search": {"policy": "gp", "startup_trials": 6},
        "budget": {"trials": 24},
    }
    return synthetic_spec(name, **{**settings, **changes})


def metrics(config: Any, epoch: int) -> EpochMetrics:
    """The error falls with the epochs, and is smallest at x = 3: 20 there, up to 75 elsewhere."""
    return EpochMetrics(epoch=epoch, own={"rmse": 20 + (config.extra["x"] - 3) ** 2 + 10 / epoch}, seconds=1.0)


def run(one: Spec, home: Home, trials: int | None = None) -> StudyRecord:
    return instant_study.train(one, home, metrics, trials)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home.at(tmp_path_factory.mktemp("own") / "home")
    home.create()
    return home


@pytest.fixture(scope="module")
def study(home: Home) -> StudyRecord:
    """Run in two parts, as after a kill."""
    run(spec(), home, trials=10)
    return run(spec(), home)


def test_the_smallest_value_of_a_minimised_objective_is_the_best(study: StudyRecord) -> None:
    complete = [trial for trial in study.trials if trial.complete]
    assert study.best is min(complete, key=lambda trial: trial.metrics[-1].own["rmse"])  # type: ignore[index]
    assert 22.5 <= study.spec.objective.score(study.best.value or 0) < 23
    assert study.baseline is not None
    assert study.baseline.number == 0


def test_asha_stops_the_trials_with_large_values_of_a_minimised_objective(study: StudyRecord) -> None:
    errors = {
        ending: [abs(float(trial.values["extra.x"]) - 3) for trial in study.trials if trial.status == ending.value]
        for ending in (Ending.COMPLETE, Ending.PRUNED)
    }
    assert errors[Ending.PRUNED]
    late = [trial for trial in study.trials if trial.number > 6 and trial.pruned_at is not None]
    for trial in late:
        decision = next(decision for decision in trial.rungs if not decision.keep)
        assert decision.cutoff is not None
        assert decision.value < decision.cutoff


def test_the_search_goes_to_small_values_of_a_minimised_objective(study: StudyRecord) -> None:
    learned = [trial for trial in study.trials if trial.origin and trial.origin.kind == "sampler"]
    distances = [abs(float(trial.values["extra.x"]) - 3) for trial in learned[-6:]]
    assert learned
    assert sum(distances) / len(distances) < 2


@pytest.mark.parametrize("policy", ["gp", "tpe"])
def test_a_loss_and_its_negative_are_searched_alike(policy: str, home: Home) -> None:
    search = {"policy": policy, "startup_trials": 6}
    down = run(spec(f"down_{policy}", search=search), home)
    storage = open_storage(home.ledger_url)
    assert optuna.load_study(study_name=down.name, storage=storage).direction.name == "MAXIMIZE"
    up = spec(f"up_{policy}", search=search, objectives=[{"metric": "gain", "direction": "maximize"}])
    other = instant_study.train(
        up,
        home,
        lambda config, epoch: EpochMetrics(epoch=epoch, own={"gain": -metrics(config, epoch).own["rmse"]}),  # type: ignore[index]
    )
    pairs = zip(down.trials, other.trials, strict=True)
    assert all(a.values == b.values and a.status == b.status for a, b in pairs)


def test_each_output_names_the_objective_and_no_accuracy(study: StudyRecord, home: Home, tmp_path: Path) -> None:
    best = winner(study)
    assert best is not None
    assert best_line(best).startswith(f"trial {best.trial.number}, rmse 2")
    answer = study_json(study, home)
    assert answer["objective"] == "rmse"
    assert answer["best_value"] == pytest.approx(best.trial.metrics[-1].own["rmse"])  # type: ignore[index]
    assert answer["best_val_accuracy"] is None
    assert answer["trials"][0]["value"] == answer["trials"][0]["history"][-1] == pytest.approx(58.5)
    json.dumps(answer, allow_nan=False)
    page = write_undrawn([study], tmp_path)
    texts = [closing(study, ""), description(study), (tmp_path / "report.md").read_text(), page.read_text()]
    for text in texts:
        assert "rmse" in text
        assert "alidation accuracy" not in text.split("<script")[0]
        assert f"-{58.5 - answer['best_value']:.3g} (lower is better)" in text.replace("−", "-")


def test_a_confirmation_has_the_values_of_a_minimised_objective_as_json(study: StudyRecord) -> None:
    repeats = tuple(
        dataclasses.replace(trial, number=index, repeat=Repeat(trial.number, index, index, baseline=False))
        for index, trial in enumerate(trial for trial in (study.best,) * 3 if trial)
    )
    answer = confirmation_json(confirmation(dataclasses.replace(study, repeats=repeats)))
    assert answer is not None
    (entry,) = answer["ranking"]
    assert study.best is not None
    value = study.best.metrics[-1].own["rmse"]  # type: ignore[index]
    assert entry["accuracies"] == {str(seed): pytest.approx(value) for seed in range(3)}
    assert entry["mean"] == pytest.approx(value)
    assert entry["interval"]["mean"] == pytest.approx(value)


def test_the_effect_of_a_warm_start_is_valid_json_where_a_trial_of_a_loss_failed(
    study: StudyRecord, home: Home
) -> None:
    later = spec("later", warm_start=["loss"], search={"policy": "random", "transferred": 2}, budget={"trials": 5})
    ledger = Ledger.create(open_storage(home.ledger_url), later, {}, study_sampler(later), None, gather(later, home))
    conductor = Conductor(ledger)
    while (assignment := conductor.next_trial()) is not None:
        if assignment.number == 1:
            conductor.on_failure(assignment.number, "ValueError: x", Cause.UNCLEAR)
            continue
        for epoch in range(1, 5):
            if not conductor.on_epoch(assignment.number, metrics(assignment.config, epoch)):
                break
    conductor.close()
    answer = study_json(ledger.study, home)
    json.dumps(answer, allow_nan=False)
    effect = answer["warm_start"]["effect"]
    assert effect["transferred"][0] is None
    assert all(value > 0 for value in [*effect["transferred"][1:], *effect["random"]])


def test_the_contours_of_a_small_loss_are_not_rounded_away(home: Home) -> None:
    space = {f"extra.{name}": {"type": "float", "low": 0.0, "high": 10.0} for name in "xy"}
    one = spec("small", space=space, enqueue=[], search={"policy": "random"}, asha={"enabled": False})
    ledger = Ledger.create(open_storage(home.ledger_url), one, {}, study_sampler(one))
    conductor = Conductor(ledger)
    while (assignment := conductor.next_trial()) is not None:
        for epoch in range(1, 5):
            value = 1e-6 * assignment.config.extra["x"]  # type: ignore[operator]
            conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, own={"rmse": value}))
    figure = contours([ledger.study], scales([ledger.study]), list(space))
    assert isinstance(figure, Plot)
    (surface,) = [mark for mark in figure.panels[0].marks if isinstance(mark, Surface)]
    assert len({value for row in surface.z for value in row}) > 100


def test_an_exported_configuration_says_which_value_it_had(study: StudyRecord) -> None:
    provenance = training(study).provenance
    assert provenance is not None
    assert study.best is not None
    assert (provenance.objective, provenance.val_accuracy) == ("rmse", None)
    assert provenance.value == pytest.approx(study.best.metrics[-1].own["rmse"])  # type: ignore[index]


def test_a_field_of_the_report_may_be_the_objective(home: Home) -> None:
    one = spec("field", objectives=[{"metric": "val_loss", "direction": "minimize"}], budget={"trials": 3})
    conductor = Conductor(Ledger.create(open_storage(home.ledger_url), one, {}, study_sampler(one)))
    for loss in (0.7, 0.5, 0.6):
        assignment = conductor.next_trial()
        assert assignment is not None
        for epoch in range(1, 5):
            conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_loss=loss, val_accuracy=loss))
    best = conductor.ledger.study.best
    assert best is not None
    assert best.metrics[-1].val_loss == 0.5


def test_means_over_the_classes_may_be_the_objective_of_the_shipped_trainer(home: Home) -> None:
    text = """
study: rare
data: {name: shapes}
model: {name: test_efficientnet, pretrained: false}
train: {epochs: 4, progressive: {stages: 1, size: {end: 32}}}
space: {train.lr: {type: float, low: 0.001, high: 0.01}}
objectives: [val_macro_f1, params]
budget: {trials: 3}
"""
    one = parse_spec(text, "rare.yaml")
    conductor = Conductor(Ledger.create(open_storage(home.ledger_url), one, {}, study_sampler(one)))
    for f1 in (0.7, 0.9, 0.6):
        assignment = conductor.next_trial()
        assert assignment is not None
        for epoch in range(1, 5):
            report = EpochMetrics(epoch=epoch, val_accuracy=1 - f1, params=5, own={"val_macro_f1": f1})
            conductor.on_epoch(assignment.number, checked(report, objective=one.objective.field))
    best = conductor.ledger.study.best
    assert best is not None
    assert one.objective.show_score(best.value) == "0.9"


def test_an_objective_that_is_not_finite_fails_its_trial_and_teaches(home: Home) -> None:
    one = spec("diverges", budget={"trials": 1})
    conductor = Conductor(Ledger.create(open_storage(home.ledger_url), one, {}, study_sampler(one)))
    assignment = conductor.next_trial()
    assert assignment is not None
    assert not conductor.on_epoch(assignment.number, EpochMetrics(epoch=1, own={"rmse": math.inf}))
    outcome = conductor.ledger.trial(0).outcome
    assert outcome is not None
    assert outcome.reason == "the objective is inf after epoch 1"
    assert outcome.cause is Cause.CONFIGURATION


def test_a_target_is_a_value_of_the_objective(home: Home) -> None:
    reached = run(spec("target", budget={"trials": 24, "target": 25.0}), home)
    assert reached.ended is not None
    assert reached.ended.startswith("budget.target: ")
    assert len(reached.trials) < 24


def test_studies_with_another_objective_are_no_warm_start(study: StudyRecord, home: Home) -> None:
    other = spec("accuracy", objectives=["val_accuracy"], warm_start=["loss"])
    with pytest.raises(UsageError, match="loss optimised rmse, and accuracy optimises validation accuracy"):
        gather(other, home)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            GOOD.replace("trainer: tests.synthetic:train", "") + "objectives: [{metric: x, direction: minimize}]",
            "for the shipped trainer",
        ),
        (GOOD + "objectives: [{metric: x, direction: minimize}, params]", "must be a single one"),
        (
            GOOD + "objectives: [{metric: checkpoint, direction: minimize}]",
            "must not be val_accuracy, epoch, checkpoint",
        ),
        (GOOD + "objectives: [{metric: val_accuracy, direction: minimize}]", "must not be val_accuracy"),
        (GOOD + "objectives: [params]", "must start with val_accuracy"),
        (GOOD + "objectives: []", "must start with val_accuracy"),
        (GOOD + "objectives: [val_macro_f1]", "must not be val_macro_f1 for your own trainer"),
        (GOOD + "budget: {target: 2}", "must be > 0 and <= 1"),
    ],
)
def test_a_wrong_objective_is_named(text: str, rule: str) -> None:
    assert rule in only(text).rule


@pytest.mark.parametrize(
    "entry", ["{metric: 1x, direction: minimize}", "{metric: x, direction: down}", "{metric: x}", "speed", "7"]
)
def test_a_malformed_objective_is_named(entry: str) -> None:
    problem = only(f"{GOOD}objectives: [{entry}]\n")
    assert problem.path.startswith("objectives")
    assert "Literal" not in problem.rule
    assert "OwnObjective" not in problem.rule
