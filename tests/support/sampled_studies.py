"""Studies of a mixed, conditional space with a known best, for tests of the samplers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from hpo.search.samplers import make_sampler

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
