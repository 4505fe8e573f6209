"""What a suggestion costs when a study has many trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    FloatDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from hpo.search.policies import gp, tpe
from hpo.search.policies.history import MAX_ENDED
from hpo.search.policies.seeded import SeededSampler, Suggestion
from hpo.search.policies.tpe import TPE_DRAWS
from hpo.search.samplers import make_sampler
from hpo.search.unit_cube import UnitCube
from tests.support.sampled_studies import (
    seen,
    study,
)


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
