"""The search policies as Optuna samplers: determinism, conditions, and what they learn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from threadpoolctl import ThreadpoolController

from hpo.ledger.attributes import outcome_to_json
from hpo.ledger.outcome import Cause, Ending, Outcome
from hpo.search.policies import gp, tpe
from hpo.search.policies.history import MAX_ENDED
from hpo.search.policies.seeded import SeededSampler, Suggestion
from hpo.search.policies.tpe import TPE_DRAWS
from hpo.search.samplers import make_sampler
from hpo.search.unit_cube import UnitCube

POLICIES = ("random", "tpe", "gp")
HORIZON = 50
SPACE: dict[str, BaseDistribution] = {
    "optimizer": CategoricalDistribution(["sgd", "adamw", "lamb"]),
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "momentum": FloatDistribution(0.5, 0.99),
    "stages": IntDistribution(1, 4),
    "start_size": IntDistribution(96, 224, step=32),
    "mixup": FloatDistribution(0.0, 0.5, step=0.1),
    "ema": CategoricalDistribution([True, False]),
}


def active(values: Mapping[str, Any]) -> set[str]:
    names = set(SPACE)
    if values["optimizer"] != "sgd":
        names.discard("momentum")
    if values["stages"] < 2:
        names.discard("start_size")
    return names


def quality(values: Mapping[str, Any]) -> float:
    """Best at sgd with lr 0.01 and momentum 0.9 in several stages; other choices peak elsewhere and lower."""
    peak = {"sgd": -2.0, "adamw": -3.0, "lamb": -4.0}[values["optimizer"]]
    value = 0.9 - 0.1 * (math.log10(values["lr"]) - peak) ** 2
    if values["optimizer"] == "sgd":
        value += 0.05 - (values["momentum"] - 0.9) ** 2
    if values["stages"] > 1:
        value += 0.05 - 0.03 * abs(values["start_size"] - 128) / 96
    return value - 0.1 * values["mixup"]


def study(policy: str = "gp", *, seed: int = 0, direction: str = "maximize", **options: Any) -> optuna.Study:
    options = {"distributions": SPACE, "active": active, **options}
    sampler = make_sampler(policy, seed=seed, horizon=HORIZON, **options)
    return optuna.create_study(direction=direction, sampler=sampler, pruner=optuna.pruners.NopPruner())


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Draws the active parameters one by one, as a study's specification does."""
    values: dict[str, Any] = {}
    for name, distribution in SPACE.items():
        if name == "momentum" and values["optimizer"] != "sgd":
            continue
        if name == "start_size" and values["stages"] < 2:
            continue
        values[name] = draw(trial, name, distribution)
    return values


def draw(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    method = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return method(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def train(one: optuna.Study, trial: optuna.Trial, values: Mapping[str, Any], epochs: int) -> None:
    for epoch in range(1, epochs + 1):
        trial.report(quality(values) - 0.3 / epoch, epoch)
    if epochs == HORIZON:
        one.tell(trial, quality(values) - 0.3 / HORIZON)
    else:
        one.tell(trial, state=TrialState.PRUNED)


def search(one: optuna.Study, trials: int) -> list[dict[str, Any]]:
    """Trials one after the other, of 1, 4, 16 or 50 epochs by their number."""
    suggested = []
    for _ in range(trials):
        trial = one.ask()
        suggested.append(suggest(trial))
        train(one, trial, suggested[-1], (1, 4, 1, 16, 1, 50)[trial.number % 6])
    return suggested


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


def test_the_gp_learns_a_mixed_conditional_space() -> None:
    def best(policy: str) -> float:
        return float(np.mean([max(map(quality, search(study(policy, seed=seed), 45))) for seed in (1, 3)]))

    found = best("gp")
    assert found > 0.96, "1.0 is the best there is"
    assert found > best("random") + 0.01


def test_samplers_follow_the_direction_of_the_study() -> None:
    one = study("gp", direction="minimize", distributions={"x": FloatDistribution(0, 1)}, active=None)
    for _ in range(20):
        trial = one.ask()
        x = trial.suggest_float("x", 0, 1)
        one.tell(trial, (x - 0.3) ** 2)
    assert min(trial.value for trial in one.trials if trial.value is not None) < 1e-3


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


def seen(one: optuna.Study, x: float, state: TrialState, curve: dict[int, float], **attributes: Any) -> None:
    one.add_trial(
        create_trial(
            state=state,
            params={"x": x},
            distributions={"x": FloatDistribution(0, 1)},
            intermediate_values=curve,
            value=curve[max(curve)] if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
            user_attrs=attributes,
        )
    )


def test_the_gp_avoids_regions_where_trials_fail() -> None:
    """Values rise towards x = 1, but above 0.7 every trial fails, with NaN or without a word."""
    one = study("gp", random_share=0.0, distributions={"x": FloatDistribution(0, 1)}, active=None)
    for i in range(8):
        seen(one, i / 10, TrialState.COMPLETE, {1: i / 10, 50: 0.2 + i / 10})
    for i, curve in enumerate([{}, {1: 0.9}, {1: math.nan}, {}]):
        seen(one, 0.75 + i / 14, TrialState.FAIL, curve)
    for _ in range(3):
        trial = one.ask()
        assert 0.3 < trial.suggest_float("x", 0, 1) < 0.77
        one.tell(trial, state=TrialState.FAIL)


def test_a_lost_worker_does_not_count_against_a_configuration() -> None:
    """Values rise towards x = 1, and a cluster lost what was tried above 0.7. The gp continues there, though not at the
    very points; it would not where a trial failed by itself."""
    suggested, tried = {}, (0.75, 0.8, 0.9)
    for reason in ("its node was lost", None):
        one = study("gp", random_share=0.0, distributions={"x": FloatDistribution(0, 1)}, active=None)
        for i in range(8):
            seen(one, i / 10, TrialState.COMPLETE, {1: i / 10, 50: 0.2 + i / 10})
        for x in tried:
            seen(one, x, TrialState.FAIL, {}, start={"attempts": [{"lost": "killed"}, {"lost": reason}]})
        suggested[reason] = one.ask().suggest_float("x", 0, 1)
    assert suggested[None] < 0.75 < suggested["its node was lost"]
    assert min(abs(suggested["its node was lost"] - x) for x in tried) >= 0.05


@pytest.mark.parametrize("cause", list(Cause))
def test_only_a_failure_that_a_configuration_can_cause_teaches_the_gp(cause: Cause) -> None:
    """Values rise towards x = 1, where trials failed. A node without the data is no reason to stay away."""
    one = study("gp", random_share=0.0, distributions={"x": FloatDistribution(0, 1)}, active=None)
    for i in range(8):
        seen(one, i / 10, TrialState.COMPLETE, {1: i / 10, 50: 0.2 + i / 10})
    for x in (0.75, 0.8, 0.9):
        stored = outcome_to_json(Outcome(Ending.FAILED, "because", cause))
        seen(one, x, TrialState.FAIL, {}, outcome=stored)
    assert (one.ask().suggest_float("x", 0, 1) < 0.75) == (cause in (Cause.CONFIGURATION, Cause.UNCLEAR))


def test_the_gp_trusts_long_trainings_over_short_ones() -> None:
    """What leads after one epoch loses in the end; the model is told by the few that got there."""
    one = study("gp", random_share=0.0, distributions={"x": FloatDistribution(0, 1)}, active=None)
    for i in range(10):
        seen(one, i / 10, TrialState.PRUNED, {1: 0.2 + 0.01 * i})
    for x in (0.05, 0.25, 0.45, 0.65, 0.85):
        seen(one, x, TrialState.COMPLETE, {1: 0.2 + 0.1 * x, 4: 0.6 - 0.1 * x, 16: 0.8 - 0.3 * x, 50: 0.9 - 0.4 * x})
    assert one.ask().suggest_float("x", 0, 1) < 0.2


def test_tpe_compares_pruned_trials_at_their_rung() -> None:
    """All were stopped at one rung, which those of four stages reach after six epochs instead of one, and worse."""
    space = {"stages": CategoricalDistribution([1, 4]), "x": FloatDistribution(0, 1)}
    one = study("tpe", random_share=0.0, startup_trials=0, distributions=space, active=None)
    for i in range(40):
        stages, epochs, value = (1, 1, 0.5) if i % 4 == 0 else (4, 6, 0.3)
        rung = {"rung": 1.0, "value": value + i / 1000, "cutoff": 0.9, "order": i, "keep": False}
        trial = create_trial(
            state=TrialState.PRUNED,
            params={"stages": stages, "x": i / 40},
            distributions=space,
            intermediate_values=dict.fromkeys(range(1, epochs + 1), value + i / 1000),
            user_attrs={"progress": {"rungs": [rung]}},
        )
        one.add_trial(trial)
    suggested = [one.ask(space).params["stages"] for _ in range(10)]
    assert suggested.count(1) > 5 > suggested.count(4)


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


def many(policy: str, count: int, **options: Any) -> optuna.Study:
    """A study without running trials: seven of ten trials stop after an epoch, three train to the end."""
    one = study(policy, random_share=0.0, distributions={"x": FloatDistribution(0, 1)}, active=None, **options)
    for i in range(count):
        x = i / count
        curve = {1: x, 4: x, 16: x, 50: x} if i % 10 < 3 else {1: x - 1}
        seen(one, x, TrialState.COMPLETE if i % 10 < 3 else TrialState.PRUNED, curve)
    return one


@pytest.mark.parametrize("policy", ["gp", "tpe"])
def test_a_trial_is_encoded_once_however_many_suggestions_follow(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = UnitCube.encode
    monkeypatch.setattr(UnitCube, "encode", lambda self, rows: (encoded.append(len(rows)), encode(self, rows))[1])
    one = many(policy, 300)
    one.ask().suggest_float("x", 0, 1)
    assert sum(encoded) >= 300
    for _ in range(4):
        encoded.clear()
        trial = one.ask()
        trial.report(trial.suggest_float("x", 0, 1), 1)
        one.tell(trial, state=TrialState.PRUNED)
        assert sum(encoded) <= 1 + TPE_DRAWS, "the newest trial, and what tpe drew"


def test_the_gp_keeps_what_pruned_trials_say_when_many_trials_are_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 256 observations, of which a quarter are from before the last epoch, good ones and bad ones."""
    observed: list[tuple[np.ndarray, np.ndarray]] = []
    made = gp.Posterior
    monkeypatch.setattr(
        gp, "Posterior", lambda kernel, x, y, **o: (observed.append((x, y)), made(kernel, x, y, **o))[1]
    )
    for count in (900, 3000):
        observed.clear()
        many("gp", count).ask().suggest_float("x", 0, 1)
        epoch, score = observed[0][0][:, -1], observed[0][1]
        assert len(epoch) == 256
        assert (epoch < 0.5).sum() == 64
        assert {-0.5, 0.5} <= set(epoch.round(3)), "epoch 1 and epoch 50"
        assert score[epoch < 0.5].min() < -1 < 1 < score[epoch < 0.5].max()


def test_tpe_sees_a_bounded_number_of_trials_with_the_best_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[FrozenTrial]] = []
    show = tpe.shown
    monkeypatch.setattr(tpe, "shown", lambda trials, direction: (shown.append(trials), show(trials, direction))[1])
    one = many("tpe", 2500)
    for _ in range(5):
        one.ask().suggest_float("x", 0, 1)
    best = sorted((trial for trial in one.trials[:2500] if trial.values), key=lambda trial: -trial.values[0])[:25]
    for asked, trials in enumerate(shown):
        numbers = [trial.number for trial in trials]
        assert len(numbers) <= MAX_ENDED + asked, "and those that run"
        assert {trial.number for trial in best} <= set(numbers)
        assert numbers == sorted(numbers)
        parts = np.histogram(numbers, bins=10, range=(0, 2500))[0]
        assert parts.min() > 0.09 * MAX_ENDED, "they are spread over the whole study"


def test_samplers_do_not_change_the_trials_of_the_study() -> None:
    one = study("gp")
    search(one, 12)
    before: list[FrozenTrial] = one.get_trials()
    one.ask()
    assert one.get_trials()[:12] == before


@pytest.mark.parametrize("policy", ["tpe", "gp"])
def test_a_suggestion_is_made_with_one_thread_of_linear_algebra(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more threads each waits for the others, on a busy machine for most of the time."""
    libraries, threads = ThreadpoolController().select(user_api="blas"), []
    space: Mapping[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}

    def counted(*arguments: Any) -> Suggestion:
        threads.append([library["num_threads"] for library in libraries.info()])
        return Suggestion({"x": 0.5}, learned=True)

    monkeypatch.setattr(SeededSampler, "_suggest", counted)
    with libraries.limit(limits=2):
        optuna.create_study(sampler=make_sampler(policy, seed=0, horizon=4, distributions=space)).ask(dict(space))
        before = [library["num_threads"] for library in libraries.info()]
    assert [set(made) for made in [*threads, before]] == [{1}, {2}]
