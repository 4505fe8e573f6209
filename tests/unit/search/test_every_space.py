"""Every policy takes every valid space: spaces drawn at random, and single values of every kind.

`python -m tests.unit.search.test_every_space 1000` tries more spaces.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hpo.search.samplers import draw, study_sampler
from hpo.spec.configure import configure
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from tests.support import generated_spaces

SPACES = {"random": 20, "tpe": 20, "gp": 8}
"""How many spaces each policy searches."""
TRIALS, STARTUP, EPOCHS = 9, 3, 4
SINGLE: dict[str, dict[str, Any]] = {
    "real": {"type": "float", "low": 0.3, "high": 0.3},
    "real_log": {"type": "float", "low": 0.3, "high": 0.3, "log": True},
    "real_grid": {"type": "float", "low": 0.3, "high": 0.3, "step": 0.1},
    "whole": {"type": "int", "low": 3, "high": 3},
    "whole_log": {"type": "int", "low": 3, "high": 3, "log": True},
    "whole_grid": {"type": "int", "low": 3, "high": 3, "step": 5},
    "choice": {"type": "categorical", "choices": ["one"]},
}


def specification(policy: str, space: dict[str, Any], objectives: int = 1) -> Spec:
    text = {
        "study": "generated",
        "trainer": "tests.synthetic:train",
        "train": {"epochs": EPOCHS, "progressive": {"stages": 1}},
        "search": {"policy": policy, "startup_trials": STARTUP, "random_share": 0.0},
        "objectives": ["val_accuracy", "params"][:objectives],
        "space": space,
    }
    return parse_spec(json.dumps(text), "generated")  # JSON is YAML


def search(spec: Spec, rng: np.random.Generator) -> None:
    """Some trials that end in every way; each active parameter has a value that it may take."""
    study = optuna.create_study(
        directions=["maximize", "minimize"][: len(spec.objectives)],
        sampler=study_sampler(spec),
        pruner=optuna.pruners.NopPruner(),
    )
    for number in range(TRIALS):
        trial = study.ask()
        values, _ = draw(trial, spec.space)
        assert values.keys() == {name for name, parameter in spec.space.items() if parameter.is_active(values)}
        wrong = {name: value for name, value in values.items() if not spec.space[name].contains(value)}
        assert wrong == {}, f"in trial {number} of {spec.space}"
        configured = configure(spec.base(), values).extra
        assert {name: configured[name.removeprefix("extra.")] for name in values} == values
        end(study, trial, rng)


def end(study: optuna.Study, trial: optuna.Trial, rng: np.random.Generator) -> None:
    """Record some epochs as the ledger does; a trial of all epochs is complete, others end in other ways."""
    last = int(rng.integers(0, EPOCHS + 1))
    for epoch in range(1, last + 1):
        study._storage.set_trial_intermediate_value(trial._trial_id, epoch, float(rng.random()))
    if last == EPOCHS:
        study.tell(trial, [float(rng.random()), 5.0][: len(study.directions)])
    elif rng.random() < 0.9:  # the others stay as they are: running
        study.tell(trial, state=TrialState.PRUNED if last else TrialState.FAIL)


def check(policy: str, seed: int) -> None:
    """Search the space of a seed."""
    rng = np.random.default_rng(seed)
    spec = specification(policy, generated_spaces.space(rng), objectives=int(rng.integers(1, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna warns of a value outside of its distribution
        search(spec, rng)


@pytest.mark.parametrize("policy", SPACES)
def test_every_policy_takes_every_valid_space(policy: str) -> None:
    for seed in range(SPACES[policy]):
        check(policy, seed)


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("policy", SPACES)
def test_every_policy_takes_parameters_of_a_single_value(policy: str, objectives: int) -> None:
    single = {f"extra.{name}": parameter for name, parameter in SINGLE.items()}
    lr = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}
    below = {"type": "float", "low": 0.5, "high": 0.5, "when": {"extra.real": {"eq": 0.3}}}
    for space in ({"extra.real": SINGLE["real"]}, {**single, "extra.below": below, "extra.lr": lr}):
        search(specification(policy, space, objectives), np.random.default_rng(0))


if __name__ == "__main__":
    for chosen in range(int(sys.argv[1])):
        for name in SPACES:
            check(name, chosen)
