"""A study that begins with what earlier ones found: what fits, what is said of the rest, and what is recorded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from hpo.cli.display.status import study_json
from hpo.driver import run as launch
from hpo.driver.conductor import Conductor
from hpo.driver.warm_start import gather
from hpo.errors import HpoError, UsageError
from hpo.files import write_atomically
from hpo.home import Home
from hpo.ledger.reader import load_study, study_names
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.transfer import TRANSFER_KEY, Past, Source, Transfer
from hpo.ledger.writer import Ledger
from hpo.results.best import training
from hpo.results.warm_start_effect import best_by_origin, effect
from hpo.search.samplers import draw, make_sampler
from hpo.spec.study import Spec
from reports.analysis.answer import answer
from reports.page.cards import cards
from tests.conftest import synthetic_spec
from tests.support.views import RecordingView
from trainers.api import EpochMetrics

LR = {"type": "float", "low": 1e-4, "high": 1.0, "log": True}
DECAY = {"type": "float", "low": 0.0, "high": 0.5}


def spec(name: str, **changes: Any) -> Spec:
    """Learning rate and weight decay over four epochs; the learning rate decides, 0.01 is best."""
    settings: dict[str, Any] = {
        "train": {"epochs": 4, "progressive": {"stages": 1}},
        "extra": {},
        "space": {"train.lr": LR, "train.weight_decay": DECAY},
        "enqueue": [{"train.lr": 1e-4, "train.weight_decay": 0.05}],
        "search": {"policy": "gp", "startup_trials": 3},
        "budget": {"trials": 12},
    }
    return synthetic_spec(name, **{**settings, **changes})


def run(one: Spec, home: Home, trials: int | None = None, transfer: Transfer | None = None) -> StudyRecord:
    """Train it in no time, one trial after the other; opens it where it exists."""
    storage, sampler = open_storage(home.ledger_url), launch.study_sampler(one)
    if one.study in study_names(storage):
        ledger = Ledger.open(storage, one.study, sampler)
    else:
        transfer = gather(one, home) if transfer is None else transfer
        ledger = Ledger.create(storage, one, {}, sampler, transfer=transfer)
    conductor, begun = Conductor(ledger), 0
    while (trials is None or begun < trials) and (assignment := conductor.next_trial()) is not None:
        begun += 1
        train = assignment.config.train
        final = 0.9 - 0.1 * (math.log10(train.lr) + 2) ** 2 - 0.1 * train.weight_decay
        for epoch in range(1, train.epochs + 1):
            if train.lr > 0.5:
                conductor.on_failure(assignment.number, "Diverged: on demand")
                break
            value = final - 0.2 / epoch
            if not conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_accuracy=value)):
                break
    conductor.close()
    return load_study(storage, one.study)


@pytest.fixture
def earlier(home: Home) -> StudyRecord:
    return run(spec("earlier"), home)


def test_the_best_transferred_configurations_come_after_the_users_own(home: Home, earlier: StudyRecord) -> None:
    """Weight decay is fixed here; the learning rate may be smaller only, so some of the source lies outside."""
    narrow = spec(
        "later",
        space={"train.lr": {**LR, "high": 0.02}, "train.label_smoothing": {"type": "float", "low": 0.0, "high": 0.2}},
        enqueue=[{"train.lr": 1e-3, "train.label_smoothing": 0.0}, {"train.lr": 2e-3, "train.label_smoothing": 0.0}],
        warm_start=["earlier"],
    )
    study = run(narrow, home)
    fitting = [one for one in earlier.trials if one.complete and one.values["train.lr"] <= 0.02]
    best = sorted(fitting, key=lambda one: -(one.value or 0))[:4]
    assert [str(one.origin) for one in study.trials[: 2 + len(best)]] == [
        "baseline",
        "enqueued",
        *(f"from earlier trial {one.number}" for one in best),
    ]
    for new, old in zip(study.trials[2:], best, strict=False):
        # Label smoothing was not searched there: its fixed value, 0.1, comes with it.
        assert new.values == {"train.lr": old.values["train.lr"], "train.label_smoothing": 0.1}
    assert not any(one.enqueued for one in study.trials[2:]), "a person chose only the first two"
    rest = {one.origin.kind for one in study.trials[2 + len(best) :] if one.origin}
    assert rest <= {"sampler", "random"}
    (source,) = study.transfer.sources
    outside = sum(one.values["train.lr"] > 0.02 and one.status != "failed" for one in earlier.trials)
    failed = earlier.count("failed")
    assert (source.trials, source.enqueued, source.history) == (12, len(best), 12 - outside - failed)
    assert sum(source.left_out.values()) == outside + failed
    assert outside > 0
    assert f"{outside} left out: train.lr lies outside the space: must be a number from 0.0001 to 0.02" in str(source)


def test_a_resumed_study_needs_no_source(home: Home, earlier: StudyRecord, tmp_path: Path) -> None:
    later = spec("later", warm_start=["earlier"], search={"policy": "gp", "startup_trials": 5, "random_share": 0.3})
    steady = run(later, home)
    other = Home.at(tmp_path / "other").create()
    transfer = gather(later, home)
    run(later, other, trials=7, transfer=transfer)
    resumed = run(later, other)  # that home has no study named `earlier`
    assert study_names(open_storage(other.ledger_url)) == ["later"]
    assert [one.values for one in resumed.trials] == [one.values for one in steady.trials]
    assert [one.origin for one in resumed.trials] == [one.origin for one in steady.trials]
    assert {one.origin.kind for one in steady.trials if one.origin} == {"baseline", "transferred", "random", "sampler"}
    assert resumed.transfer == steady.transfer == transfer
    cold = run(spec("cold", search=later.search.model_dump()), home)
    assert cold.trials[-1].values != steady.trials[-1].values


def test_an_origin_survives_a_driver_that_dies_while_asking(home: Home) -> None:
    one = spec("cut", search={"policy": "gp", "startup_trials": 5, "random_share": 0.0})
    run(one, home, trials=8)
    ledger = Ledger.open(open_storage(home.ledger_url), "cut", launch.study_sampler(one))
    with pytest.raises(ZeroDivisionError):
        ledger.ask(lambda asked: draw(asked, one.space), lambda number: number // 0)
    again = run(one, home)
    assert [trial.origin.kind for trial in again.trials if trial.origin] == [
        "baseline",
        *["random"] * 4,
        *["sampler"] * 7,
    ]


def test_exported_files_and_several_sources_take_turns(home: Home, earlier: StudyRecord, tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    third = sorted((one for one in earlier.trials if one.complete), key=lambda one: -(one.value or 0))[2]
    write_atomically(file, training(earlier, third.number).to_yaml())
    transfer = gather(spec("later", warm_start=["earlier", str(file)], search={"transferred": 3}), home)
    assert [one.source for one in transfer.first] == ["earlier", str(file), "earlier"]
    assert (transfer.first[1].trial, transfer.first[1].values) == (third.number, third.values)
    assert [one.history > 0 for one in transfer.sources] == [True, False], "one number says nothing of a space"
    assert len({repr(one.values) for one in transfer.first}) == 3


def test_a_choice_that_is_fixed_otherwise_here_leaves_trials_out(home: Home) -> None:
    """A learning rate found beside another optimiser says little."""
    searched = {"train.lr": LR, "train.optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]}}
    source = run(spec("both", space=searched, enqueue=[]), home)
    transfer = gather(spec("later", warm_start=["both"], space={"train.lr": LR}, enqueue=[]), home)
    assert 0 < len(transfer.history) < 12
    assert {source.trials[one.trial or 0].values["train.optimizer"] for one in transfer.history} == {"adamw"}
    assert "train.optimizer was sgd there and is fixed at adamw here" in transfer.sources[0].left_out


def test_transferred_configurations_follow_the_conditions_of_the_new_space(home: Home, earlier: StudyRecord) -> None:
    when = {"train.lr": {"le": 0.01}}
    conditional = {"train.lr": LR, "train.weight_decay": {**DECAY, "when": when}}
    (source,), history = _taken(gather(spec("later", warm_start=["earlier"], space=conditional, enqueue=[]), home))
    searched = [one for one in earlier.trials if one.status != "failed"]
    small = [one.number for one in searched if one.values["train.lr"] <= 0.01]
    assert sorted(one.trial for one in history) == small
    # Beside greater learning rates weight decay is the baseline's, which none of them was trained with.
    reason = "train.weight_decay is inactive and stays at 0.0 here, but had another value there"
    assert source.left_out[reason] == len(searched) - len(small) > 0


def test_results_are_not_taken_over_for_another_configuration(home: Home) -> None:
    """Mixup's end has an effect in one stage too; its start, and the first size, have none there."""
    stages, ramp = "train.progressive.stages", "train.progressive.mixup"
    mixup = {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25}
    size = {"type": "int", "low": 64, "high": 128, "step": 32}
    names = [stages, f"{ramp}.start", f"{ramp}.end", "train.progressive.size.start"]
    parameters = dict(zip(names, [{"type": "int", "low": 1, "high": 2}, mixup, mixup, size], strict=True))
    rows = [(1, 0.25, 0.5, 96), (1, 0.25, 0.0, 96), (2, 0.25, 0.5, 96)]
    enqueued = [dict(zip(names, row, strict=True)) for row in rows]
    run(spec("source", space=parameters, enqueue=enqueued, budget={"trials": 3}), home)
    when: dict[str, Any] = {"when": {stages: {"ge": 2}}}
    conditional = {name: one if name == stages else {**one, **when} for name, one in parameters.items()}
    (source,), history = _taken(gather(spec("later", warm_start=["source"], space=conditional, enqueue=[]), home))
    assert [(one.trial, one.values[stages]) for one in history] == [(1, 1), (2, 2)]
    assert list(source.left_out) == [f"{ramp}.end is inactive and stays at 0.0 here, but had another value there"]


def _taken(transfer: Transfer) -> tuple[tuple[Source, ...], tuple[Past, ...]]:
    return transfer.sources, transfer.history


@pytest.mark.parametrize(
    ("source", "space", "message"),
    [
        ("earlyer", {}, "earlyer is neither a study nor a file; studies: earlier"),
        ("missing.yaml", {}, "does not exist"),
        ("broken.yaml", {}, "must be a mapping"),
        ("earlier", {"train.lr": {**LR, "low": 0.6}}, "no configuration of earlier fits the space of later"),
        ("earlier", {"extra.depth": {"type": "int", "low": 1, "high": 2}}, "it has no setting extra.depth"),
    ],
)
def test_an_unusable_warm_start_is_refused_before_anything_is_spent(
    home: Home, earlier: StudyRecord, tmp_path: Path, source: str, space: dict[str, Any], message: str
) -> None:
    (tmp_path / "broken.yaml").write_text("- 1\n")
    name = str(tmp_path / source) if source.endswith(".yaml") else source
    later = spec("later", warm_start=[name], space=space or {"train.lr": LR}, enqueue=[], tracking={"enabled": False})
    with pytest.raises(UsageError, match=message) as caught:
        launch.run(later, home, view=RecordingView())
    assert isinstance(caught.value, HpoError)
    assert caught.value.exit_code == 2
    assert study_names(open_storage(home.ledger_url)) == ["earlier"]


def test_status_and_report_say_whether_the_warm_start_helped(home: Home, earlier: StudyRecord) -> None:
    later = spec("later", warm_start=["earlier"], budget={"trials": 30}, search={"startup_trials": 20})
    study = run(later, home)
    found = effect(study)
    assert found is not None
    assert len(found.transferred) == 4
    assert len(found.random) >= 15
    assert found.verdict == "helped"
    assert "the transfer helped" in str(found)
    shown = study_json(study, home)
    assert shown["warm_start"]["effect"]["verdict"] == "helped"
    assert shown["trials"][1]["origin"] == {
        "kind": "transferred",
        "source": "earlier",
        "trial": study.transfer.first[0].trial,
    }
    (card,) = [one for one in cards(answer(study)) if one.label == "Warm start"]
    assert card.value == "helped"
    assert "4 configurations enqueued" in card.note
    assert {one.origin.kind for one in best_by_origin(study) if one.origin} >= {"transferred", "baseline"}
    assert effect(earlier) is None


def test_a_bad_source_is_said_to_mislead_and_too_few_trials_decide_nothing(home: Home) -> None:
    run(spec("bad", space={"train.lr": {**LR, "high": 1.5e-4}, "train.weight_decay": DECAY}, enqueue=[]), home)
    space = {"train.lr": {**LR, "high": 0.4}, "train.weight_decay": DECAY}
    later = spec("later", warm_start=["bad"], space=space, budget={"trials": 30}, search={"startup_trials": 30})
    study = run(later, home)
    found = effect(study)
    assert found is not None
    assert found.verdict == "misled"
    few = run(spec("few", warm_start=["bad"], budget={"trials": 4}), home)
    only = effect(few)
    assert only is not None
    assert (only.p, only.verdict) == (None, "undecided")


# --------------------------------------------------------------------------------------------- the sampler


def proposals(past: list[Past], own: list[float], peak: float) -> np.ndarray[Any, Any]:
    """Six suggestions after complete trials at `own`, which are best at `peak`."""
    space = {"x": FloatDistribution(0, 1)}
    sampler = make_sampler("gp", seed=0, horizon=16, distributions=space, startup_trials=0, random_share=0.0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.set_user_attr(TRANSFER_KEY, Transfer(history=tuple(past)).to_json())
    for x in own:
        distribution = {"x": FloatDistribution(0, 1)}
        curve = {epoch: 0.5 - (x - peak) ** 2 - 0.1 / epoch for epoch in range(1, 17)}
        study.add_trial(
            optuna.trial.create_trial(
                params={"x": x}, distributions=distribution, value=curve[16], intermediate_values=curve
            )
        )
    return np.array([study.ask(space).params["x"] for _ in range(6)])


def past_of(peak: float, horizon: int = 50) -> list[Past]:
    """Twenty trials of a study whose accuracies are low, and whose full length is another."""
    return [
        Past("old", number, {"x": x}, horizon, {1: 0.05 - 0.1 * (x - peak) ** 2, horizon: 0.1 - 0.1 * (x - peak) ** 2})
        for number, x in enumerate(np.linspace(0, 1, 20).tolist())
    ]


def test_the_gp_begins_where_an_earlier_study_was_good() -> None:
    near = np.abs(proposals(past_of(0.8), [0.1, 0.3], 0.8) - 0.8)
    blind = np.abs(proposals([], [0.1, 0.3], 0.8) - 0.8)
    assert near[0] < 0.1
    assert np.median(near) < np.median(blind)


def test_a_studys_own_trials_outweigh_a_misleading_source() -> None:
    """The source says 0.9; ten complete trials of its own say 0.2."""
    own = np.linspace(0.05, 0.95, 10).tolist()
    assert np.median(np.abs(proposals(past_of(0.9), own, 0.2) - 0.2)) < 0.12
