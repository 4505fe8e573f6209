"""What the search policies learn from trials, by how they ended."""

from __future__ import annotations

import math

import numpy as np
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.trial import TrialState, create_trial

from hpo.ledger.attributes import outcome_to_json
from hpo.ledger.outcome import Cause, Ending, Outcome
from tests.support.sampled_studies import (
    quality,
    search,
    seen,
    study,
)


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
