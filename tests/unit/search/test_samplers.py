"""The search policies as Optuna samplers: determinism, conditions, repeats, and what they refuse."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from hpo.search.samplers import make_sampler
from hpo.search.unit_cube import UnitCube
from tests.support.sampled_studies import (
    HORIZON,
    POLICIES,
    SPACE,
    active,
    quality,
    search,
    study,
    suggest,
    train,
)


@pytest.mark.parametrize("policy", POLICIES)
def test_suggestions_fit_the_space_and_its_conditions(policy: str) -> None:
    one = study(policy)
    search(one, 25)
    for trial in one.trials:
        assert set(trial.params) == active(trial.params)
        assert len(trial.params) >= len(SPACE) - 2


@pytest.mark.parametrize("policy", POLICIES)
def test_a_resumed_study_gets_the_same_suggestions(policy: str) -> None:
    """A fresh sampler over the recorded trials continues where the first stopped."""
    steady = study(policy, seed=7)
    search(steady, 14)
    for stop in (3, 13):
        resumed = study(policy, seed=7)
        resumed.add_trials(steady.trials[:stop])
        assert search(resumed, 14 - stop) == [trial.params for trial in steady.trials[stop:]]
    other = study(policy, seed=8)
    assert search(other, 2) != [trial.params for trial in steady.trials[:2]]


def test_a_study_in_a_database_gets_the_same_suggestions_after_a_resume(tmp_path: Path) -> None:
    """Numbers survive SQLite, and a running trial left behind counts as it did."""
    options: dict[str, Any] = {"startup_trials": 4, "random_share": 0.0}
    steady = study("gp", **options)
    for _ in range(5):
        trial = steady.ask()
        train(steady, trial, suggest(trial), 1)
    suggest(steady.ask())
    url = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="s", storage=url, direction="maximize").add_trials(steady.trials)
    sampler = make_sampler("gp", seed=0, horizon=HORIZON, distributions=SPACE, active=active, **options)
    resumed = optuna.load_study(study_name="s", storage=url, sampler=sampler)
    assert resumed.trials[5].state == TrialState.RUNNING
    assert suggest(resumed.ask()) == suggest(steady.ask())


def test_start_up_trials_are_spread_evenly_and_never_repeat() -> None:
    space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    one = study("gp", distributions=space, active=None, startup_trials=16)
    for _ in range(16):  # none of them ever reports
        trial = one.ask(space)
        cells = {(int(other.params["x"] * 4), int(other.params["y"] * 4)) for other in one.trials}
        assert len(cells) == trial.number + 1, "16 Sobol points fill a 4 by 4 grid"


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_random_share_ignores_results(share: float) -> None:
    one, other = study(random_share=share), study(random_share=share)
    for which, sign in ((one, 1), (other, -1)):
        for _ in range(12):
            trial = which.ask()
            trial.report(sign * quality(suggest(trial)), 1)
            which.tell(trial, state=TrialState.PRUNED)
    same = [a.params == b.params for a, b in zip(one.trials, other.trials, strict=True)]
    assert all(same[:8])
    assert all(same[8:]) == (share == 1.0)


@pytest.mark.parametrize(("policy", "seed", "first"), [("gp", 0, 24), ("tpe", 3, 120)])
def test_no_two_workers_get_near_identical_configurations(policy: str, seed: int, first: int) -> None:
    """TPE's constant liar alone would put two of the latter eight within 4 % of each other."""
    one = study(policy, seed=seed, random_share=0.0)
    search(one, first)
    space = UnitCube(SPACE, active)
    for _ in range(8):
        suggest(one.ask())
    points = space.features(space.encode([trial.params for trial in one.trials[first:]]))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)[np.triu_indices(8, 1)]
    assert apart.min() >= 0.05


def test_a_space_with_fewer_points_than_workers_still_gets_suggestions() -> None:
    space = {"x": IntDistribution(1, 2)}
    one = study("gp", distributions=space, active=None, startup_trials=0, random_share=0.0)
    for _ in range(4):
        trial = one.ask(space)
        trial.report(trial.params["x"], 1)
        one.tell(trial, state=TrialState.PRUNED)
    assert {one.ask(space).params["x"] for _ in range(6)} <= {1, 2}


@pytest.mark.parametrize("policy", ["gp", "tpe"])
def test_no_configuration_is_tried_again_while_there_is_a_new_one(policy: str) -> None:
    """Nine points; whichever way a trial is drawn, and whether or not others still run. Then repeats are welcome."""
    space = {"x": IntDistribution(1, 3), "y": CategoricalDistribution(["a", "b", "c"])}
    one = study(policy, distributions=space, active=None, startup_trials=4, random_share=0.3)
    running: list[optuna.Trial] = []
    for _ in range(25):
        running.append(one.ask(space))
        if len(running) > 2:
            trial = running.pop(0)
            trial.report(trial.params["x"] / 3, 1)
            one.tell(trial, state=TrialState.PRUNED)
    points = [(trial.params["x"], trial.params["y"]) for trial in one.trials]
    assert len(set(points[:9])) == 9
    assert len(points) == 25


@pytest.mark.parametrize("policy", ["gp", "tpe"])
def test_configurations_that_conditions_make_equal_are_tried_once(policy: str) -> None:
    """Three points: `y` exists beside `x` = 2 only."""
    space = {"x": IntDistribution(1, 2), "y": IntDistribution(1, 2)}

    def together(values: Mapping[str, Any]) -> set[str]:
        return {"x", "y"} if values["x"] == 2 else {"x"}

    one = study(policy, distributions=space, active=together, startup_trials=1, random_share=0.0)
    for _ in range(8):
        trial = one.ask()
        if trial.suggest_int("x", 1, 2) == 2:
            trial.suggest_int("y", 1, 2)
        trial.report(-trial.params["x"], 1)
        one.tell(trial, state=TrialState.PRUNED)
    assert {tuple(trial.params.values()) for trial in one.trials[:3]} == {(1,), (2, 1), (2, 2)}


@pytest.mark.parametrize("policy", POLICIES)
def test_enqueued_trials_come_first_and_count(policy: str) -> None:
    one = study(policy)
    wanted = {
        "optimizer": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "stages": 2,
        "start_size": 128,
        "mixup": 0.0,
        "ema": True,
    }
    one.enqueue_trial(wanted)
    one.enqueue_trial({"lr": 0.5})
    first, second = search(one, 2)
    assert first == wanted
    assert second["lr"] == 0.5
    assert len(search(one, 12)) == 12


@pytest.mark.parametrize("policy", POLICIES)
def test_a_sampler_without_a_space_takes_that_of_the_trials(policy: str) -> None:
    one = study(policy, distributions=None, active=None)
    suggested = search(one, 12)
    assert len({values["lr"] for values in suggested}) == 12
    assert all(set(trial.params) == active(trial.params) for trial in one.trials)


def test_no_warnings_and_no_global_random_state() -> None:
    state = np.random.get_state()[1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for policy in POLICIES:
            search(study(policy), 12)
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize(
    "wrong", [{"policy": "grid"}, {"seed": -1}, {"horizon": 0}, {"random_share": 1.5}, {"startup_trials": -1}]
)
def test_sampler_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"range|policies are"):
        make_sampler(**{"policy": "gp", "seed": 0, "horizon": 50, **wrong})


def test_samplers_do_not_change_the_trials_of_the_study() -> None:
    one = study("gp")
    search(one, 12)
    before: list[FrozenTrial] = one.get_trials()
    one.ask()
    assert one.get_trials()[:12] == before
