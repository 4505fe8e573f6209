"""The statistics of rungs, against cases worked out by hand and against SciPy."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hpo.search.rank_statistics import jeffreys, kendall_tau, resamples, tau, taus, winner_share, winner_weights

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=25)


def test_tau_is_the_one_computed_by_hand() -> None:
    # Of the six pairs of 1, 2, 3, 4 only the last two items stand in another order.
    assert kendall_tau([1, 2, 3, 4], [0.1, 0.2, 0.4, 0.3]) == pytest.approx((5 - 1) / 6)
    # One tie on the left: 3 - 0 pairs agree, of sqrt((6 - 1) * 6)... with 5 comparable pairs all agreeing.
    assert kendall_tau([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(5 / math.sqrt(5 * 6))
    assert math.isnan(kendall_tau([1, 1], [1, 2]))
    assert math.isnan(kendall_tau([1], [1]))


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_tau_agrees_with_scipy(pairs) -> None:
    early, late = zip(*pairs, strict=True)
    expected = stats.kendalltau(early, late).statistic
    assert kendall_tau(early, late) == pytest.approx(expected, nan_ok=True)


@given(PAIRS, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_weighted_tau_is_that_of_repeated_items(pairs, seed) -> None:
    early, late = (np.array(side) for side in zip(*pairs, strict=True))
    weights = resamples(len(early), 3, seed)
    for found, row in zip(taus(early, late, weights), weights, strict=True):
        drawn = np.repeat(np.arange(len(early)), row.astype(int))
        assert found == pytest.approx(stats.kendalltau(early[drawn], late[drawn]).statistic, nan_ok=True)


def test_resamples_draw_as_many_items_as_there_are_and_are_repeatable() -> None:
    drawn = resamples(7, 50)
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn == resamples(7, 50)).all()
    assert (drawn != resamples(7, 50, seed=1)).any()


def test_the_interval_of_tau_covers_the_true_value_as_often_as_it_claims() -> None:
    """Of correlated normal pairs tau is 2/pi * arcsin(rho); 95 % intervals of samples of 30 must mostly hold it."""
    random = np.random.RandomState(0)
    truth = 2 / math.pi * math.asin(0.7)
    hits = 0
    for _ in range(100):
        early = random.normal(size=30)
        estimate = tau(early, 0.7 * early + math.sqrt(1 - 0.49) * random.normal(size=30))
        assert estimate.low <= estimate.value <= estimate.high
        hits += estimate.low <= truth <= estimate.high
    assert 85 <= hits <= 100


def test_too_few_items_have_no_interval() -> None:
    for items in ([], [0.5]):
        assert math.isnan(tau(items, items).low)
    assert math.isnan(tau([1, 1, 1], [1, 2, 3]).low)


def test_winner_weights_are_the_chances_in_all_resamples() -> None:
    late = [0.3, 0.9, 0.5]
    wins = np.zeros(3)
    for drawn in itertools.product(range(3), repeat=3):
        wins[max(drawn, key=lambda item: late[item])] += 1 / 27
    assert winner_weights(late) == pytest.approx(wins)
    assert winner_weights([0.5, 0.5]) == pytest.approx([0.75, 0.25]), "ties go to the earlier one"
    assert winner_weights(np.arange(40.0))[::-1][:3] == pytest.approx([0.63, 0.23, 0.09], abs=0.01)


def test_the_share_of_winners_is_weighted_by_their_chances() -> None:
    share = winner_share([False, True, True], [0.3, 0.9, 0.5])
    assert share.value == pytest.approx(26 / 27)
    weights = np.array([1, 19, 7]) / 27
    count = 1 / (weights**2).sum()
    hits = 26 / 27 * count
    assert share.low == pytest.approx(stats.beta.ppf(0.025, hits + 0.5, count - hits + 0.5))
    assert winner_share([True, True], [1, 2]).high == 1
    nothing = winner_share([], [])
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0, 1)


def test_jeffreys_interval_agrees_with_published_figures() -> None:
    # Brown, Cai and DasGupta's table: 3 of 10.
    assert jeffreys(0.3, 10).low == pytest.approx(0.093, abs=1e-3)
    assert jeffreys(0.3, 10).high == pytest.approx(0.606, abs=1e-3)
    assert jeffreys(0, 5).low == 0
    assert 0.3 < jeffreys(0, 5).high < 0.5, "none of five is no proof"
    for share, count in ((0.5, 0), (1.1, 3), (math.nan, 3)):
        with pytest.raises(ValueError, match="no interval"):
            jeffreys(share, count)
