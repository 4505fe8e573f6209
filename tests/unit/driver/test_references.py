"""Enqueued configurations with settings outside the space: trained as they say, named, and no lesson for a sampler."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from hpo.driver.conductor import Conductor
from hpo.driver.decisions.rounds import candidates, repeats
from hpo.driver.warm_start import gather
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.best import training
from hpo.results.summary import description
from hpo.results.tables.trials import trial_table
from hpo.search.prospect import prospect
from hpo.search.samplers import study_space
from hpo.spec.study import Spec
from hpo.tracking.runs import parameters
from hpo.validation.problems import SpecificationError
from hpo.validation.revision import assignments
from reports.analysis.stages import reached
from reports.figures.trials import hover
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, reopen
from tests.support.instant_study import train
from trainers.api import EpochMetrics, TrialConfig

RECIPE = {"label": "the recipe", "extra.quality": 0.5, "train.optimizer": "rmsprop", "train.clip_grad": 0.0}
OWN = {"label": "our own", "extra.quality": 0.25}


def spec(name: str = "compared", **changes: Any) -> Spec:
    """A study with a reference as its baseline, and another named configuration."""
    return synthetic_spec(name, enqueue=[RECIPE, OWN], asha={"enabled": False}, **changes)


def measured(home: Home, value: float, *, optimizer: str = "rmsprop", policy: str = "random") -> StudyRecord:
    """A study in which the baseline has this result."""

    def metrics(config: TrialConfig, epoch: int) -> EpochMetrics:
        reference = config.train.optimizer == "rmsprop" or config.extra["quality"] == 0.5
        good = 1 - abs(float(config.extra["quality"]) - 0.8)
        return EpochMetrics(epoch=epoch, val_accuracy=value if reference else good)

    search = {"policy": policy, "startup_trials": 3, "random_share": 0.0}
    enqueue = (RECIPE if optimizer == "rmsprop" else {"extra.quality": 0.5}, OWN)
    return train(spec(search=search).model_copy(update={"enqueue": enqueue}), home, metrics)


def test_a_reference_trains_with_its_own_settings_and_no_other_trial_does() -> None:
    storage, study = InMemoryStorage(), spec()
    conductor = Conductor(create(storage, study))
    first, second = conductor.next_trial(), conductor.next_trial()
    assert first is not None
    assert second is not None
    assert (first.config.train.optimizer, first.config.train.clip_grad, first.config.extra["quality"]) == (
        "rmsprop",
        0.0,
        0.5,
    )
    assert (second.config.train.optimizer, second.config.train.clip_grad) == ("adamw", 1.0)
    recorded = reopen(storage, study).study
    reference, named = recorded.trials[:2]
    assert (dict(reference.values), dict(named.values)) == ({"extra.quality": 0.5}, {"extra.quality": 0.25})
    assert (dict(reference.settings), named.settings) == ({"train.optimizer": "rmsprop", "train.clip_grad": 0.0}, {})
    assert (reference.title, named.title, recorded.spec.baseline_name) == (
        "the recipe",
        "our own",
        "baseline (the recipe)",
    )
    assert storage.get_all_trials(0)[0].params == {"extra.quality": 0.5}, "Optuna knows only what is searched"


def test_a_reference_that_is_not_the_baseline_is_a_control_and_a_named_configuration_is_not() -> None:
    ledger = create(InMemoryStorage(), synthetic_spec(enqueue=[{"extra.quality": 0.1}, RECIPE, OWN]))
    conductor = Conductor(ledger)
    for _ in range(3):
        conductor.next_trial()
    assert [trial.control for trial in ledger.trials] == [True, True, False]


def test_the_result_of_a_reference_changes_no_suggestion(tmp_path: Any) -> None:
    def suggestions(value: float, optimizer: str) -> list[float]:
        home = Home.at(tmp_path / f"{value}{optimizer}").create()
        study = measured(home, value, optimizer=optimizer, policy="gp")
        return [float(trial.values["extra.quality"]) for trial in study.trials[2:]]

    assert suggestions(0.0, "rmsprop") == suggestions(0.99, "rmsprop")
    assert suggestions(0.0, "adamw") != suggestions(0.99, "adamw"), "of a searched configuration it does"


def test_models_of_the_space_leave_references_out(home: Home) -> None:
    study = measured(home, 0.99)
    complete = [trial for trial in study.trials if trial.complete]
    assert study.best is study.trials[0], "it may still be the best"
    assert reached(study, 8) == complete[1:]
    cube = study_space(study.spec)
    assert prospect(cube, 0, complete) == prospect(cube, 0, complete[1:])


def test_a_confirmation_repeats_a_reference_with_its_settings(home: Home) -> None:
    study = measured(home, 0.99)
    planned = repeats(study, candidates(study, 1), 2)
    ledger = Ledger.create(open_storage(home.ledger_url), study.spec, {}, name="compared.confirm")
    ledger.plan(planned)
    assert [dict(trial.settings) for trial in ledger.trials] == [dict(study.trials[0].settings)] * 2
    assert [dict(trial.values) for trial in ledger.trials] == [{"extra.quality": 0.5}] * 2


def test_a_configuration_that_differs_only_outside_the_space_is_not_the_same_candidate(home: Home) -> None:
    study = measured(home, 0.99)
    twin = dataclasses.replace(study.trials[1], values=study.trials[0].values)
    changed = dataclasses.replace(study, trials=(study.trials[0], twin))
    assert [trial.number for trial in candidates(changed, 2)] == [0, 1]


def test_the_export_of_a_reference_has_its_settings_and_its_name(home: Home) -> None:
    found = training(measured(home, 0.99))
    assert (found.train.optimizer, found.train.clip_grad) == ("rmsprop", 0.0)
    assert found.description.startswith("Trial 0 of study compared (the recipe), validation accuracy 99.00 %")


def test_settings_and_names_are_shown_wherever_a_trial_is(home: Home) -> None:
    study = measured(home, 0.99)
    reference, named = study.trials[:2]
    assert parameters(reference.assigned)["train.optimizer"] == "rmsprop"
    assert "| train.optimizer | not searched | rmsprop |" in description(study)
    assert "baseline (the recipe)" in hover(study, reference, False)
    assert "our own" in hover(study, named, False)
    assert "optimizer = rmsprop" in hover(study, reference, False)
    table = trial_table([study])
    rows = [dict(zip([column.name for column in table.columns], row, strict=True)) for row in table.rows]
    assert [row["label"] for row in rows[:3]] == ["the recipe", "our own", None]
    assert [row["train.optimizer"] for row in rows[:2]] == ["rmsprop", None]


def test_a_person_adds_a_reference_to_a_study_that_runs() -> None:
    ledger = create(InMemoryStorage(), spec())
    added = assignments(ledger.spec, ["train.optimizer=sgd", "label=plain SGD"], ledger.spec.baseline_values())
    number = ledger.enqueue(added, "ann", "r1")
    assert (ledger.trial(number).settings, ledger.trial(number).title) == ({"train.optimizer": "sgd"}, "plain SGD")
    like = assignments(ledger.spec, ["extra.quality=0.75"], ledger.trial(number).assigned)
    assert like == {"train.optimizer": "sgd", "extra.quality": 0.75}


def test_a_later_study_does_not_start_from_a_reference(home: Home) -> None:
    measured(home, 0.99)
    later = synthetic_spec("later", warm_start=["compared"])
    assert 0 not in [past.trial for past in gather(later, home).first]
    only = synthetic_spec("only", enqueue=[RECIPE], budget={"trials": 1})
    train(only, home, lambda config, epoch: EpochMetrics(epoch=epoch, val_accuracy=0.5))
    with pytest.raises(UsageError, match="it has settings outside the space there"):
        gather(synthetic_spec("last", warm_start=["only"]), home)


def test_larger_images_of_a_reference_count_in_the_studys_unit_of_compute() -> None:
    study = synthetic_spec(
        train={"epochs": 8, "progressive": {"stages": 1, "size": {"start": 32, "end": 32}}},
        enqueue=[{"extra.quality": 0.5, "train.progressive.size.end": 64}],
    )
    assignment = Conductor(create(InMemoryStorage(), study)).next_trial()
    assert assignment is not None
    settings = assignment.config.train
    assert (settings.progressive.size.end, settings.compute_size) == (64, 32)


def test_larger_images_cannot_be_added_to_a_study_that_counts_compute_in_smaller_ones() -> None:
    with pytest.raises(SpecificationError, match="counts compute in epochs of its own last image size"):
        assignments(spec(), ["train.progressive.size.end=64"], spec().baseline_values())


def test_a_record_without_settings_is_what_it_was() -> None:
    assert TrialRecord(0, values={"extra.quality": 0.5}).assigned == {"extra.quality": 0.5}
