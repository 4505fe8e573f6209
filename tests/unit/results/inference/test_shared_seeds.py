"""The statistics of a confirmation, against results by hand, tables, scipy, and simulations with a known truth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import optimize, special, stats

from hpo.results.inference.contrasts import contrasts, moderated
from hpo.results.inference.max_t import ALPHA, critical_value
from hpo.results.inference.means import mean_intervals
from hpo.results.inference.ranking import RACE_ALPHA, against_the_best, chances, gains, race
from hpo.results.intervals import Interval

STUDIES = 200
"""Simulated confirmations of each design. The binomial error of a rate of 5 % is then 1.5 points."""


def table(*rows: Sequence[float]) -> dict[int, dict[int, float]]:
    """Scores by configuration and seed."""
    return {number: dict(enumerate(row)) for number, row in enumerate(rows)}


def equal(count: int, *, two_sided: bool, freedom: int, alpha: float = ALPHA) -> float:
    """The critical value of `count` comparisons with one reference and as many seeds each."""
    correlation = np.full((count, count), 0.5)
    np.fill_diagonal(correlation, 1.0)
    return critical_value(correlation, freedom, alpha, two_sided=two_sided)


def test_critical_values_are_those_of_the_published_tables() -> None:
    """Dunnett 1955 (one-sided) and 1964 (two-sided), 5 %, by comparisons and degrees of freedom."""
    assert equal(3, two_sided=False, freedom=6) == pytest.approx(2.56, abs=0.02)
    assert equal(5, two_sided=False, freedom=20) == pytest.approx(2.39, abs=0.02)
    assert equal(3, two_sided=True, freedom=6) == pytest.approx(3.10, abs=0.02)
    assert equal(5, two_sided=True, freedom=10) == pytest.approx(2.99, abs=0.02)
    assert equal(1, two_sided=True, freedom=4) == pytest.approx(2.776, abs=0.001)
    assert equal(2, two_sided=True, freedom=4.9) == equal(2, two_sided=True, freedom=4), "degrees are rounded down"


def test_two_configurations_are_compared_by_the_paired_t_test() -> None:
    """Differences 1, 2, 3: their mean is 2, its standard error 1 / sqrt(3), with two degrees of freedom."""
    found = gains(table([1, 2, 3], [2, 4, 6]), 0)[1]
    assert isinstance(found, Interval)
    low, high = stats.ttest_rel([2, 4, 6], [1, 2, 3]).confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx((2, low, high))


def test_the_noise_is_that_of_the_two_way_layout() -> None:
    """Each of three configurations has 3 with another seed: all means are 1, the residuals are -1, -1 and 2, their mean
    square is 18 / 4. A shift of all configurations with one seed changes nothing."""
    for shift in (0, 50):
        found = contrasts(table([shift, 0, 3], [shift, 3, 0], [3 + shift, 0, 0]))
        assert found.errors[0, 1] ** 2 == pytest.approx(2 * 18 / 4 / 3)
        assert found.freedom[0, 1] == 4


def test_differences_are_over_the_seeds_in_common() -> None:
    """Whatever the others have more; one seed in common says nothing, two give no interval."""
    scores = {0: {0: 0.90, 1: 0.92, 2: 0.94}, 1: {1: 0.90, 2: 0.91, 7: 0.9}, 2: {2: 0.5, 9: 0.5}}
    found = contrasts(scores)
    assert found.means[0, 1] == pytest.approx(0.025)
    assert np.isnan(found.means[0, 2])
    said = gains(scores, 0)
    assert said == {1: pytest.approx(-0.025)}
    assert against_the_best(scores, ALPHA)[1].interval is None


def test_comparisons_with_one_reference_correlate_by_the_seeds_that_they_share() -> None:
    """0.5 where all have the same seeds; less where one of them was dropped after two of four."""
    scores = {0: dict.fromkeys(range(4), 0.1), 1: dict.fromkeys(range(4), 0.2), 2: dict.fromkeys(range(2), 0.3)}
    assert contrasts(scores).correlation(0, [1, 2])[0, 1] == pytest.approx(2 / (2 * math.sqrt(8)))
    assert contrasts(table(*[[0.1, 0.2]] * 3)).correlation(0, [1, 2])[0, 1] == pytest.approx(0.5)


def test_unequal_variances_stay_apart_and_equal_ones_become_the_common_one() -> None:
    """Smyth's estimator by hand: the variance of the logarithms of 1e-4 and 1e-2 is 8.96 in excess of chance."""
    assert moderated([1e-4, 4e-4], [2, 2], 2e-4, 6) == [(2e-4, 6), (2e-4, 6)]
    half = optimize.brentq(lambda x: special.polygamma(1, x) - (math.log(100) ** 2 / 2 - math.pi**2 / 6), 0.01, 9)
    common = math.exp(math.log(1e-3) - special.digamma(1) + special.digamma(half) - math.log(half))
    expected = [(2 * half * common + 2 * own) / (2 * half + 2) for own in (1e-4, 1e-2)]
    found = moderated([1e-4, 1e-2], [2, 2], 5e-3, 6)
    assert [variance for variance, _ in found] == pytest.approx(expected)
    assert [freedom for _, freedom in found] == pytest.approx([2 * half + 2] * 2)


def test_a_dropped_configuration_stays_dropped_when_more_seeds_come() -> None:
    """The looks are at the first seeds, so later ones do not change what they said."""
    scores = table([0.9, 0.901, 0.5], [0.8985, 0.9015, 0.9], [0.6, 0.601, 0.99])
    assert race(scores, dict.fromkeys(scores, 3)) == {2: 2}
    assert race(scores, dict.fromkeys(scores, 3), spared=[2]) == {}
    assert race({**scores, 3: {0: 0.9}}, {**dict.fromkeys(scores, 3), 3: 3}) == {}, "the look waits for all"
    assert race(scores, dict.fromkeys(scores, 2)) == {}, "two seeds are all that was asked for"


class Rates:
    """How often the statements about simulated confirmations are wrong. All configurations are equal, so that every
    difference is luck; seeds act on all of them alike, as strongly as the noise."""

    def __init__(self, top: int, seeds: int) -> None:
        random = np.random.default_rng(100 * top + seeds)
        self.significant = self.gained = self.missed = self.means = self.excluded = self.family = 0
        for _ in range(STUDIES):
            noise = random.normal(0, 0.003, (top + 1, seeds)) + random.normal(0, 0.003, seeds)
            self._judge(table(*(0.9 + noise).tolist()), seeds)

    def _judge(self, scores: dict[int, dict[int, float]], seeds: int) -> None:
        dropped = race(scores, dict.fromkeys(scores, seeds), [0])
        trained = {one: dict(list(own.items())[: dropped.get(one, seeds)]) for one, own in scores.items()}
        chosen = max((one for one in scores if one not in dropped), key=lambda one: sum(scores[one].values()))
        found = gains(trained, 0)
        self.family += any(isinstance(gain, Interval) and gain.significant for gain in found.values())
        if isinstance(gain := found.get(chosen), Interval):
            self.gained += 1
            self.significant += gain.low > 0
            self.missed += gain.significant
        mean = mean_intervals(trained)[chosen]
        self.means += not mean.low <= 0.9 <= mean.high
        best = 1  # as good as all others
        self.excluded += best in dropped or not against_the_best(trained, ALPHA - RACE_ALPHA)[best].may_be_best


@pytest.mark.parametrize(("top", "seeds"), [(3, 3), (5, 3), (10, 3), (3, 5), (5, 5), (10, 5)])
def test_size_and_coverage_are_nominal_whatever_was_chosen(top: int, seeds: int) -> None:
    """Each bound is 5 % and three binomial errors; the gain was significant in up to 13.6 % of cases, and its interval
    missed in up to 15.1 % of those with a gain, when each difference had a test of its own."""
    rates = Rates(top, seeds)

    def nominal(wrong: int, cases: int) -> bool:
        return wrong / cases <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / cases)

    assert nominal(rates.significant, STUDIES), "size"
    assert nominal(rates.missed, rates.gained), "coverage of the gain"
    assert nominal(rates.means, STUDIES), "coverage of the mean"
    assert nominal(rates.excluded, STUDIES), "the best is not called worse"
    assert nominal(rates.family, STUDIES), "any gain of any configuration"
    assert rates.family > 0, "the tests are not blind"


def test_the_probability_of_being_the_best_comes_true() -> None:
    """Over configurations that differ about as much as seeds do: the leader is the best as often as is said."""
    random = np.random.default_rng(5)
    said, true = [], []
    for _ in range(250):
        truth = random.normal(0, 1, 4)
        scores = table(*(truth[:, None] + random.normal(0, 1, (4, 3))).tolist())
        found = chances(scores, finest=1e-9)
        leader = max(found, key=lambda one: found[one])
        said.append(found[leader])
        true.append(leader == int(truth.argmax()))
        assert sum(found.values()) == pytest.approx(1)
    assert np.mean(said) == pytest.approx(np.mean(true), abs=3 * 0.5 / math.sqrt(250))
