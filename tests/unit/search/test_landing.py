"""Landing: which unfinished trial is taken up, and what the models say that it is decided by."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from hpo.search.landing import Choice, EpochSeconds, incumbent, next_up
from hpo.search.policies.acquisition import Prediction
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.policies.seeded import SamplerOptions
from hpo.search.policies.seen import Seen
from hpo.search.unit_cube import UnitCube

GOOD, FAIR, POOR = Prediction(2.0, 0.2), Prediction(1.2, 0.2), Prediction(-1.0, 0.2)
SPACE = {"x": FloatDistribution(0.0, 1.0)}
HORIZON = 16


def test_the_unfinished_trial_with_the_greatest_gain_per_second_is_taken_up() -> None:
    unfinished = {3: Choice(GOOD, 100.0), 5: Choice(FAIR, 100.0), 8: Choice(GOOD, 60.0)}
    assert next_up(unfinished, None, best=1.0, left=math.inf) == 8, "as good as trial 3, and cheaper"
    del unfinished[8]
    assert next_up(unfinished, None, best=1.0, left=math.inf) == 3
    assert next_up(unfinished | {9: Choice(FAIR, 10.0)}, None, best=1.0, left=math.inf) == 9, "a fifth, in a tenth"
    assert next_up({7: Choice(GOOD, 100.0), 3: Choice(GOOD, 100.0)}, None, best=1.0, left=math.inf) == 3


def test_a_new_trial_that_is_worth_more_per_second_goes_first() -> None:
    unfinished = {3: Choice(FAIR, 100.0)}
    assert next_up(unfinished, Choice(GOOD, 200.0), best=1.0, left=math.inf) is None
    assert next_up(unfinished, Choice(POOR, 200.0), best=1.0, left=math.inf) == 3
    # A new trial that ASHA will probably stop costs less than its whole training.
    assert next_up(unfinished, Choice(FAIR, 200.0), best=1.0, left=math.inf) == 3
    assert next_up(unfinished, Choice(FAIR, 200.0, cost=40.0), best=1.0, left=math.inf) is None


def test_only_what_can_be_complete_in_time_counts() -> None:
    unfinished = {3: Choice(GOOD, 100.0), 5: Choice(FAIR, 30.0)}
    new = Choice(GOOD, 110.0, cost=10.0)
    assert next_up(unfinished, new, best=1.0, left=200.0) is None
    assert next_up(unfinished, new, best=1.0, left=105.0) == 3, "the new trial would be cut off"
    assert next_up(unfinished, new, best=1.0, left=50.0) == 5
    assert next_up(unfinished, new, best=1.0, left=20.0) is None
    assert next_up({}, None, best=1.0, left=math.inf) is None


def test_far_below_the_best_the_order_is_still_right() -> None:
    unfinished = {number: Choice(Prediction(-30.0 + number, 0.1), 100.0) for number in range(5)}
    assert next_up(unfinished, None, best=2.0, left=math.inf) == 4


def test_the_best_certain_trial_is_to_be_beaten_and_without_one_the_worst() -> None:
    ends = {0: POOR, 1: GOOD, 2: FAIR}
    assert incumbent(ends, [0, 2]) == FAIR.mean
    assert incumbent(ends, [2, 77]) == FAIR.mean, "trial 77 is not among those that the model sees"
    assert incumbent(ends, []) == POOR.mean


def test_the_seconds_of_an_epoch_are_learned_from_configurations() -> None:
    space, cube = UnitCube(SPACE), np.linspace(0, 1, 12)[:, None]
    seconds = EpochSeconds(space, cube, np.exp(3 * cube[:, 0]))
    np.testing.assert_allclose(seconds.predict(np.array([[0.25], [0.77]])), np.exp([0.75, 2.31]), rtol=0.05)
    equal = EpochSeconds(space, cube, np.full(12, 7.0))
    np.testing.assert_allclose(equal.predict(np.array([[0.3]])), 7.0, rtol=1e-6)


def pruned(number: int, x: float, epochs: int = 4) -> Seen:
    """A trial with a peak at 0.3, and less the fewer epochs it has trained."""
    values = {epoch: (1 - abs(x - 0.3)) * (1 - 0.5 / epoch) for epoch in range(1, epochs + 1)}
    return Seen(number, {"x": x}, TrialState.PRUNED, values)


def complete(number: int, x: float) -> Seen:
    whole = pruned(number, x, HORIZON)
    return replace(whole, state=TrialState.COMPLETE, final=whole.values[HORIZON])


@pytest.fixture
def sampler() -> CurveGPSampler:
    return CurveGPSampler(SamplerOptions(seed=1, horizon=HORIZON, distributions=SPACE))


def test_the_model_predicts_the_ends_of_stopped_and_of_new_trials(sampler: CurveGPSampler) -> None:
    history = sampler.history()
    history.take_in([complete(0, 0.9), complete(1, 0.6), pruned(2, 0.32), pruned(3, 0.95, 1), complete(4, 0.1)])
    expected = sampler.ends(history, [{"x": 0.31}, {"x": 1.0}])
    assert expected is not None
    ends, (near, far) = expected
    assert max(ends, key=lambda number: ends[number].mean) == 2, "it has the best configuration, and is not complete"
    assert ends[2].deviation > ends[1].deviation, "its end has not been seen"
    assert near.mean > far.mean


def test_without_enough_trials_there_is_no_prediction(sampler: CurveGPSampler) -> None:
    history = sampler.history()
    history.take_in([complete(0, 0.9), pruned(1, 0.6)])
    assert sampler.ends(history, [{"x": 0.31}]) is None


def test_a_trial_that_was_taken_up_is_seen_as_it_is_now(sampler: CurveGPSampler) -> None:
    others = [complete(0, 0.9), complete(1, 0.6), complete(4, 0.1), pruned(3, 0.95, 1)]
    before, after = sampler.history(), sampler.history()
    before.take_in([*others, pruned(2, 0.32, 1)])
    after.take_in([*others, complete(2, 0.32)])
    unsure, sure = (sampler.ends(history, []) for history in (before, after))
    assert unsure is not None
    assert sure is not None
    assert sure[0][2].deviation < unsure[0][2].deviation
    fresh = CurveGPSampler(SamplerOptions(seed=1, horizon=HORIZON, distributions=SPACE)).ends(after, [])
    assert fresh == sure, "what the sampler saw of the stopped trial is forgotten"
