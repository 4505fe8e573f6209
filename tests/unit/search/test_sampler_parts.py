"""The encoding of spaces and the regression below the Gaussian-process policy, against independent sources."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from scipy.integrate import quad
from scipy.optimize import check_grad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from hpo.search.policies.acquisition import log_expected_improvement
from hpo.search.policies.gp import normal_scores, observations, thin
from hpo.search.policies.gp_regression import Kernel, Posterior, _loss, fit
from hpo.search.policies.history import History, shares
from hpo.search.policies.seen import Seen
from hpo.search.unit_cube import UnitCube

AXES = {
    "choice": CategoricalDistribution(["a", "b", None]),
    "flag": CategoricalDistribution([True, False]),
    "rate": FloatDistribution(1e-5, 0.1, log=True),
    "share": FloatDistribution(0.1, 0.99),
    "grid": FloatDistribution(0.0, 0.5, step=0.1),
    "count": IntDistribution(1, 5),
    "size": IntDistribution(96, 224, step=32),
    "batch": IntDistribution(16, 512, log=True),
    "only": IntDistribution(3, 3),
    "fixed": FloatDistribution(0.5, 0.5),
}


@given(st.lists(st.floats(0, 1), min_size=len(AXES), max_size=len(AXES)))
@settings(max_examples=60, deadline=None)
def test_every_point_settles_on_parameters_that_encode_to_it(point):
    space = UnitCube(AXES)
    settled = space.settle(np.array([point]))
    (values,) = space.decode(settled)
    for name, distribution in AXES.items():
        internal = distribution.to_internal_repr(values[name])
        assert distribution._contains(internal)
        if name != "grid":
            assert type(values[name]) is type(distribution.to_external_repr(internal))
    np.testing.assert_allclose(space.encode([values]), settled, atol=1e-9)
    np.testing.assert_allclose(space.settle(settled), settled, atol=1e-9)


def test_all_steps_and_choices_are_equally_likely():
    cube = np.random.default_rng(0).random((3000, len(AXES)))
    rows = UnitCube(AXES).decode(UnitCube(AXES).settle(cube))
    for name, choices in (("choice", 3), ("count", 5), ("size", 5), ("grid", 6)):
        _, counts = np.unique([str(row[name]) for row in rows], return_counts=True)
        assert len(counts) == choices
        assert counts.min() > 0.8 * 3000 / choices


def test_inactive_parameters_are_left_out_and_conditions_chain():
    """`c` needs `b`, `b` needs `a`: without `a` both are inactive, though `b` has a value that `c` would accept."""
    axes = {"a": CategoricalDistribution([False, True]), "b": IntDistribution(1, 2), "c": FloatDistribution(0, 1)}

    def active(values):
        return {"a"} | ({"b"} if values.get("a") else set()) | ({"c"} if values.get("b") == 2 else set())

    space = UnitCube(axes, active)
    rows = space.decode(space.settle(np.array([[0.1, 0.9, 0.3], [0.9, 0.1, 0.3], [0.9, 0.9, 0.3]])))
    assert rows == [{"a": False}, {"a": True, "b": 1}, {"a": True, "b": 2, "c": pytest.approx(0.3)}]
    encoded = space.encode(rows)
    assert np.isnan(encoded).sum(1).tolist() == [2, 1, 0]
    features = space.features(encoded)
    assert np.isfinite(features).all()
    assert len(space.owners()) == features.shape[1]


def test_choices_are_one_apart_and_inactive_parameters_half_a_range_away():
    space = UnitCube({"kind": CategoricalDistribution(["a", "b", "c"]), "x": FloatDistribution(0, 1)})
    rows = [{"kind": "a", "x": 0.5}, {"kind": "c", "x": 0.5}, {"kind": "a"}, {"kind": "a", "x": 1.0}]
    points = space.features(space.encode(rows))
    apart = np.linalg.norm(points[0] - points, axis=1)
    assert apart == pytest.approx([0, 1, 0.5, 0.5])


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    x = rng.random((25, 4))
    return x, np.sin(4 * x[:, 0]) + x[:, 1] ** 2 + 0.05 * rng.normal(size=25), np.array([0, 1, 2, 2])


def test_predictions_agree_with_scikit_learn(data):
    x, y, owners = data
    kernel = Kernel(np.array([0.4, 0.8, 2.0]), 1.7, 0.01, owners)
    reference = GaussianProcessRegressor(
        ConstantKernel(1.7) * Matern([0.4, 0.8, 2.0, 2.0], nu=2.5), alpha=0.01, optimizer=None
    ).fit(x, y)
    at = np.random.default_rng(2).random((40, 4))
    mean, deviation = Posterior(kernel, x, y).predict(at)
    expected_mean, expected_deviation = reference.predict(at, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(deviation, expected_deviation, rtol=1e-6)


def test_the_gradient_of_the_fit_agrees_with_finite_differences(data):
    x, y, owners = data
    gaps = np.zeros((3, 25, 25))
    for feature, owner in enumerate(owners):
        gaps[owner] += (x[:, None, feature] - x[None, :, feature]) ** 2
    theta, centre, width = np.array([-0.5, 0.3, 0.8, 0.2, -2.0]), np.zeros(5), np.ones(5)
    loss = _loss
    error = check_grad(
        lambda t: loss(t, gaps, y, centre, width)[0], lambda t: loss(t, gaps, y, centre, width)[1], theta
    )
    assert error < 1e-4


def test_the_fit_tells_important_parameters_from_unimportant_ones(data):
    x, y, owners = data
    kernel = fit(x, (y - y.mean()) / y.std(), owners)
    assert kernel.lengths[2] > 2 * kernel.lengths[0]
    mean, _ = Posterior(kernel, x, y).predict(x)
    assert np.corrcoef(mean, y)[0, 1] > 0.98


def test_repeated_and_constant_observations_can_be_fitted():
    x = np.zeros((30, 2))
    kernel = fit(x, np.zeros(30), np.array([0, 1]))
    mean, deviation = Posterior(kernel, x, np.zeros(30)).predict(np.ones((1, 2)))
    assert mean[0] == pytest.approx(0)
    assert np.isfinite(deviation).all()


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 1.0, 0.0), (2.0, 0.5, 0.0), (-1.0, 0.3, 0.5)])
def test_expected_improvement_agrees_with_numerical_integration(mean, deviation, best):
    expected, _ = quad(lambda f: (f - best) * norm.pdf(f, mean, deviation), best, mean + 12 * deviation)
    value = log_expected_improvement(np.array([mean]), np.array([deviation]), best)[0]
    assert math.exp(value) == pytest.approx(expected, rel=1e-6)


def test_expected_improvement_ranks_points_far_below_the_best():
    values = log_expected_improvement(-np.array([0.0, 1, 5, 30, 300, 3000]), np.ones(6), 0.0)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()


def test_normal_scores_share_ranks_and_accept_infinity():
    scores = normal_scores(np.array([-math.inf, 0.5, 0.5, 2.0, -math.inf]))
    assert scores[0] == scores[4] < scores[1] == scores[2] < scores[3]
    assert np.isfinite(scores).all()


def test_observations_are_at_powers_of_four_and_the_last_epoch():
    trial, epoch, value = observations([{e: e / 100 for e in range(1, 21)}, {}, {1: 0.3, 2: 0.4}])
    assert list(zip(trial, epoch, value, strict=True)) == [
        (0, 1, 0.01),
        (0, 4, 0.04),
        (0, 16, 0.16),
        (0, 20, 0.2),
        (2, 1, 0.3),
        (2, 2, 0.4),
    ]


def test_thinning_shares_the_places_that_full_trainings_leave():
    epoch = np.array([*[50] * 40, *[16] * 3, *[4] * 20, *[1] * 20])
    kept = epoch[thin(epoch, np.linspace(-2, 2, len(epoch)), 40, at_end=24)]
    assert [int((kept == level).sum()) for level in (50, 16, 4, 1)] == [24, 3, 6, 7]
    kept = epoch[thin(epoch, np.linspace(-2, 2, len(epoch)), 40)]
    assert (kept == 50).all()


@pytest.mark.parametrize(
    ("sizes", "most", "given"),
    [([5, 100, 20], 60, [5, 35, 20]), ([5, 3], 60, [5, 3]), ([50, 50, 50], 60, [20, 20, 20]), ([], 4, [])],
)
def test_groups_share_places_equally_and_leave_what_they_do_not_need(sizes, most, given):
    assert shares(sizes, most) == given


def test_a_history_forgets_the_points_of_suggestions_that_were_not_used():
    history = History(UnitCube({"x": FloatDistribution(0, 1)}), horizon=50)
    for number, x in ((0, 0.25), (1, 0.25), (2, 0.5)):
        history.take_in([Seen(number, {"x": x}, TrialState.RUNNING)])
    history.forget(1)
    assert len(history.tried) == 2, "trial 0 has the same point"
    history.take_in([Seen(2, {"x": 0.75}, TrialState.COMPLETE, {50: 0.1}, 0.1)])
    history.forget(2)
    assert [trial.number for trial in history.spread_over_numbers().trials] == [0, 2]
    assert len(history.tried) == 2


def test_a_history_with_trials_that_were_taken_up_is_that_of_one_that_sees_only_their_ends():
    """Also if it missed that they went on, and where it saw them in between."""

    def seen(number, epochs, state=TrialState.PRUNED):
        values = {epoch: 0.1 * number + 0.01 * epoch for epoch in range(1, epochs + 1)}
        final = values[epochs] if state is TrialState.COMPLETE else None
        return Seen(number, {"x": 0.1 * number}, state, values, final, rungs={1.0: values[1]})

    def views(history):
        shown = history.spread_over_numbers(), history.spread_over_values()
        return [[trial.number for trial in view.trials] for view in shown]

    pruned = [seen(number, 1 + number % 2 * 4) for number in range(9)]
    ends = [seen(2, 50, TrialState.COMPLETE), seen(3, 50, TrialState.COMPLETE)]
    history, fresh = (History(UnitCube({"x": FloatDistribution(0, 1)}), horizon=50) for _ in range(2))
    history.take_in(pruned)
    history.take_in([seen(3, 10, TrialState.RUNNING)])
    assert not history.has_ended(3)
    assert len(history.spread_over_values().trials) == 9, "it is seen, as one that runs"
    history.take_in(ends)
    fresh.take_in([trial for trial in pruned if trial.number not in (2, 3)] + ends)
    assert (history._comparable, history._ranked) == (fresh._comparable, fresh._ranked)
    assert {level: order for level, order in history._levels.items() if order} == fresh._levels
    assert views(history) == views(fresh)
    assert history.has_ended(3)


def test_thinning_keeps_long_trainings_and_both_extremes_of_the_short_ones():
    epoch = np.array([50, 16, *[1] * 100])
    scores = np.array([0.0, 1.0, *np.linspace(-2, 2, 100)])
    kept = thin(epoch, scores, 12)
    assert len(set(kept)) == 12
    assert {0, 1, 2, 101} <= set(kept.tolist())
    assert sorted(thin(epoch, scores, 500)) == list(range(102))
