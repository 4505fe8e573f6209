"""The search that pauses trials: its rule, what it takes trainings to cost, and studies of it on simple curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from hpo.search.policies.acquisition import Prediction
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.policies.gp import EndModel
from hpo.search.policies.gp_regression import Kernel, Posterior
from hpo.search.policies.seeded import SamplerOptions
from hpo.search.policies.seen import Seen
from reports.benchmarks.search.freeze_thaw.costs import FLOOR, Costs
from reports.benchmarks.search.freeze_thaw.rule import AT_THE_END, COST_POWER, Choice, Outlook, log_rates, next_up
from reports.benchmarks.search.freeze_thaw.search import DECISIONS, STARTUP_TRIALS, FreezeThawSearch
from reports.benchmarks.search.lcbench import EPOCHS, Curve
from reports.benchmarks.search.simulation import simulate

GOOD = Choice(Prediction(2.0, 0.2), shown=0.1, stretch=10.0, to_end=100.0)
FAIR = replace(GOOD, end=Prediction(1.2, 0.2))
NOW = Outlook.of(1.0, [], math.inf)


def test_the_trial_that_adds_most_per_second_goes_on() -> None:
    unfinished = {3: GOOD, 5: FAIR}
    assert next_up(unfinished, None, NOW, math.inf) == 3
    assert next_up({3: FAIR, 5: GOOD}, None, NOW, math.inf) == 5
    cheap = replace(FAIR, stretch=0.5, to_end=5.0)
    assert next_up({3: GOOD, 8: cheap}, None, NOW, math.inf) == 8, "a fifth of the gain, in a twentieth of the time"


def test_only_what_can_be_complete_in_time_goes_on() -> None:
    quick = replace(FAIR, to_end=30.0)
    assert next_up({3: GOOD, 5: quick}, None, NOW, left=50.0) == 5
    assert next_up({3: GOOD, 5: quick}, None, NOW, left=20.0) is None
    assert next_up({}, GOOD, NOW, left=20.0) is None
    late = replace(GOOD, end=Prediction(9.0, 0.2))
    assert next_up({5: quick}, late, NOW, left=50.0) == 5, "the new trial would be cut off"


def test_a_new_trial_has_to_beat_the_best_unfinished_one_too() -> None:
    new = replace(GOOD, end=Prediction(1.9, 0.2), stretch=8.0, to_end=80.0)
    assert log_rates([new], NOW, math.inf)[0] > log_rates([GOOD], NOW, math.inf)[0]
    assert next_up({3: GOOD}, new, NOW, math.inf) == 3
    much_better = replace(new, end=Prediction(3.5, 0.2))
    assert next_up({3: GOOD}, much_better, NOW, math.inf) is None


def test_what_a_stretch_shows_is_worth_something() -> None:
    unsure = Choice(Prediction(0.5, 0.5), shown=0.0, stretch=2.0, to_end=100.0)
    shown = [log_rates([replace(unsure, shown=share * 0.5)], NOW, math.inf)[0] for share in (0.0, 0.5, 0.9)]
    assert shown[0] < shown[1] < shown[2]


def test_the_rate_is_the_gain_by_the_time_if_nothing_is_left_to_learn() -> None:
    gain = 1.0
    sure = Choice(Prediction(2.0, 1e-6), shown=0.0, stretch=100.0, to_end=100.0)
    expected = math.log(AT_THE_END * gain / 100.0**COST_POWER)
    assert log_rates([sure], NOW, math.inf)[0] == pytest.approx(expected, abs=1e-3)


def test_a_price_is_found_at_which_the_stretch_is_just_worth_it() -> None:
    """The integral of the rule, by simulation."""
    choice = Choice(Prediction(0.8, 0.5), shown=0.4, stretch=5.0, to_end=60.0)
    rate = math.exp(log_rates([choice], NOW, math.inf)[0])
    rng, scale = np.random.default_rng(0), 60.0 ** (COST_POWER - 1)
    means = 0.8 + 0.4 * rng.standard_normal(4_000)
    ends = means[:, None] + 0.3 * rng.standard_normal(300)
    gains = AT_THE_END * np.maximum(ends - 1.0, 0.0).mean(axis=1)
    worth = np.maximum(gains - rate * 55.0 * scale, 0.0).mean()
    assert worth == pytest.approx(rate * 5.0 * scale, rel=0.15)


def test_what_runs_counts_from_the_time_at_which_it_is_complete() -> None:
    outlook = Outlook.of(1.0, [(40.0, 1.5), (20.0, 1.2), (30.0, 0.5), (90.0, 3.0)], left=80.0)
    assert (outlook.times, outlook.bests) == ((0.0, 20.0, 40.0), (1.0, 1.2, 1.5)), "the last one would be too late"
    np.testing.assert_allclose(
        outlook.weights(np.array([10.0, 60.0]), 80.0),
        (1 - AT_THE_END) * np.array([[10, 20, 40], [0, 0, 20]]) / 80 + [[0, 0, AT_THE_END]] * 2,
    )


def test_the_seconds_of_later_epochs_do_not_include_the_start() -> None:
    start = [11.0] + [1.0] * 9
    costs = Costs({0: start, 1: start[:1], 2: [33.0], 3: start[:2]})
    assert costs.per_epoch(3) == pytest.approx(1.0)
    assert costs.per_epoch(0) == pytest.approx(1.0)
    assert costs.per_epoch(1) == pytest.approx(1.0)
    assert costs.per_epoch(2) == pytest.approx(3.0), "as trial 0 after its first epoch"
    assert costs.first_epoch == pytest.approx(11.0)
    assert Costs({0: [4.0]}).per_epoch(0) == 4.0, "nothing else is known"
    assert Costs({0: [4.0, 2.0]}).per_epoch(0) == 2.0
    assert Costs({0: [4.0, 0.0]}).per_epoch(0) > 0, "no training is free"


def test_an_epoch_counts_as_at_least_a_share_of_the_median_one() -> None:
    costs = Costs({0: [1.0] * 8, 1: [1.0] * 8, 2: [0.001] * 8})
    assert costs.per_epoch(0) == pytest.approx(1.0)
    assert costs.per_epoch(2) == pytest.approx(FLOOR)


def test_covariances_are_those_of_the_posterior() -> None:
    """Against the variance of a sum: var(a + b) - var(a) - var(b) = 2 cov(a, b)."""
    kernel = Kernel(np.array([0.3]), 1.3, 0.01, np.array([0]))
    rng = np.random.default_rng(0)
    x, a = rng.random((6, 1)), rng.random((4, 1))
    posterior = Posterior(kernel, x, rng.standard_normal(6))
    _, deviation = posterior.predict(a)
    np.testing.assert_allclose(posterior.covariances(a, a), deviation**2, atol=1e-9)
    gram = kernel(x, x) + 0.01 * np.eye(6)
    b = rng.random((4, 1))
    expected = kernel(a, b) - kernel(a, x) @ np.linalg.solve(gram, kernel(x, b))
    np.testing.assert_allclose(posterior.covariances(a, b), np.diag(expected), atol=1e-4)


class Slope:
    """Accuracy rises to 1 - |x - 0.3|. An epoch takes 1 second at x = 0 and 3 at x = 1, the first one 5 more."""

    name = "slope"
    distributions: ClassVar = {"x": FloatDistribution(0.0, 1.0)}
    full_training = 2.0 * EPOCHS

    def curve(self, params: Mapping[str, Any]) -> Curve:
        epochs = np.arange(1.0, EPOCHS + 1)
        return Curve(5 + (1 + 2 * params["x"]) * epochs, (1 - abs(params["x"] - 0.3)) * (1 - 0.5 / epochs))

    def regret(self, accuracy: float) -> float:
        return (0.99 - accuracy) / 0.25


def search(seed: int = 0) -> FreezeThawSearch:
    options = SamplerOptions(
        seed=seed, horizon=EPOCHS, distributions=Slope.distributions, startup_trials=STARTUP_TRIALS
    )
    return FreezeThawSearch(CurveGPSampler(options))


def test_a_study_finishes_the_best_trials_that_it_knows() -> None:
    paused = search()
    run = simulate(Slope(), paused, full_trainings=6)
    assert paused.resumed, "in this study, trials are taken up again"
    lengths = [len(trial.values) for trial in paused.trials.values()]
    assert lengths.count(EPOCHS) >= 2
    assert sum(length in DECISIONS for length in lengths) > lengths.count(EPOCHS), "most trials are given up"
    assert run.delivered.regret_at(1.0) == run.known.regret_at(1.0)
    assert run.delivered.regret_at(1.0) < 0.1
    for trial in paused.trials.values():
        assert list(trial.values) == list(range(1, len(trial.values) + 1))


def test_a_study_is_the_same_when_it_is_repeated() -> None:
    first, second = search(), search()
    for one in (first, second):
        simulate(Slope(), one, full_trainings=3)
    assert [trial.params for trial in first.trials.values()] == [trial.params for trial in second.trials.values()]
    assert first.resumed == second.resumed


def test_a_model_takes_over_the_kernel_of_an_earlier_one() -> None:
    sampler = CurveGPSampler(SamplerOptions(seed=1, horizon=16, distributions=Slope.distributions))
    history = sampler.history()
    history.take_in([Seen(n, {"x": n / 7}, TrialState.PRUNED, {1: n * (7 - n)}) for n in range(7)])
    view = history.spread_over_values()
    curves = [dict(trial.values) for trial in view.trials]
    first = EndModel.of(view, curves, horizon=16)
    assert first is not None
    other = replace(first.kernel, scale=2 * first.kernel.scale)
    second = EndModel.of(view, curves, horizon=16, kernel=other)
    assert second is not None
    assert second.kernel is other
    assert not np.allclose(second.final, first.final)
