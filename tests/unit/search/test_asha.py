"""The pure ASHA against Ray's scheduler, and its memory across a crash."""

import dataclasses
import math
import random
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.ledger.records import RungDecision
from hpo.search.asha import AshaPruner, cutoff, replay, rung_levels

FACTORS = st.sampled_from([1.5, 2, 3, 4, 5, 10])
VALUES = st.one_of(st.floats(0, 1), st.sampled_from([0.1, 0.5, 0.9]))  # the latter make ties
REPORTS = st.lists(st.tuples(st.integers(0, 15), st.floats(0.01, 20), VALUES), max_size=120)


def decisions_of(asha: AshaPruner) -> list[tuple[int, RungDecision]]:
    """All (trial, decision), in order of arrival."""
    decisions = ((trial, decision) for at in asha._at.values() for trial, decision in at.items())
    return sorted(decisions, key=lambda item: item[1].order)


def survival(asha: AshaPruner) -> list[tuple[float, int, int]]:
    """Per rung, ascending: (level, trials that reached it, trials told to stop there)."""
    return [(rung, len(at), sum(not decision.keep for decision in at.values())) for rung, at in asha._at.items()]


def test_the_rungs_of_fifty_epochs_lie_at_powers_of_the_reduction_factor():
    assert rung_levels(1, 4, 50) == (1, 4, 16)
    assert rung_levels(1, 4, 64) == (1, 4, 16)
    assert rung_levels(5, 4, 5) == ()
    assert rung_levels(0.5, 2, 3) == (0.5, 1, 2)


@pytest.mark.parametrize(("grace", "factor", "maximum"), [(0, 4, 50), (51, 4, 50), (1, 1, 50), (math.nan, 4, 5)])
def test_impossible_rungs_are_refused(grace, factor, maximum):
    with pytest.raises(ValueError, match=r"grace period|reduction factor"):
        rung_levels(grace, factor, maximum)


@given(st.integers(1, 20), FACTORS, st.integers(1, 500))
@settings(max_examples=60, deadline=None)
def test_rungs_lie_where_ray_tune_has_them(grace, factor, maximum):
    schedulers = pytest.importorskip("ray.tune.schedulers")
    if grace > maximum:
        return
    scheduler = schedulers.ASHAScheduler(max_t=maximum, grace_period=grace, reduction_factor=factor)
    levels = sorted(level for level, _ in scheduler._brackets[0]._rungs if level < maximum)
    assert rung_levels(grace, factor, maximum) == pytest.approx(levels)


def ray_scheduler(factor, maximum, **options):
    schedulers = pytest.importorskip("ray.tune.schedulers")
    return schedulers.ASHAScheduler(
        time_attr="t",
        metric="v",
        mode="max",
        max_t=maximum,
        grace_period=1,
        reduction_factor=factor,
        **options,
    )


def ray_keeps(scheduler, trial, resource, value):
    handle = SimpleNamespace(trial_id=str(trial))
    if handle.trial_id not in scheduler._trial_info:
        scheduler.on_trial_add(None, handle)
    return scheduler.on_trial_result(None, handle, {"t": resource, "v": value}) == "CONTINUE"


@given(FACTORS, REPORTS)
@settings(max_examples=100, deadline=None)
def test_decisions_agree_with_ray_tune(factor, steps):
    """Any interleaving, fractional resources, several rungs passed at once, ties."""
    maximum = 1000
    scheduler = ray_scheduler(factor, maximum, stop_last_trials=False)
    asha = AshaPruner(rung_levels(1, factor, maximum), factor)
    reached, stopped = {}, set()
    for trial, step, value in steps:
        if trial in stopped:
            continue
        reached[trial] = reached.get(trial, 0.0) + step
        decision = asha.decide(trial, reached[trial], value)
        keep = decision is None or decision.keep
        assert keep == ray_keeps(scheduler, trial, reached[trial], value)
        if not keep:
            stopped.add(trial)
    assert replay(decisions_of(asha), factor) == []


@given(FACTORS, st.lists(st.tuples(st.integers(0, 9), VALUES), max_size=200))
@settings(max_examples=60, deadline=None)
def test_decisions_agree_with_ray_tune_epoch_by_epoch(factor, reports):
    """Ray's default settings, one report per epoch."""
    scheduler, asha = ray_scheduler(factor, 27), AshaPruner(rung_levels(1, factor, 27), factor)
    epochs, stopped = {}, set()
    for trial, value in reports:
        epoch = epochs[trial] = epochs.get(trial, 0) + 1
        if trial in stopped or epoch >= 27:
            continue
        decision = asha.decide(trial, epoch, value)
        keep = decision is None or decision.keep
        assert keep == ray_keeps(scheduler, trial, epoch, value)
        if not keep:
            stopped.add(trial)


@given(FACTORS, REPORTS, st.integers(0, 119), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_crash_changes_no_decision(factor, reports, at, random):
    """Restored from its records in any order, with every report so far repeated, it continues as before."""
    levels = rung_levels(0.1, factor, 20)
    steady, before = AshaPruner(levels, factor), AshaPruner(levels, factor)
    reports = sorted(reports, key=lambda report: report[1])
    for report in reports[:at]:
        steady.decide(*report)
        before.decide(*report)
    records = decisions_of(before)
    random.shuffle(records)
    after = AshaPruner(levels, factor)
    for trial, decision in records:
        after.restore(trial, decision)
    for report in reports[:at]:
        after.decide(*report)
    assert decisions_of(after) == decisions_of(steady)
    for report in reports[at:]:
        assert after.decide(*report) == steady.decide(*report)


def test_a_repeated_report_gets_the_recorded_decision():
    asha = AshaPruner([1, 4], 2)
    first = asha.decide(0, 1, 0.5)
    assert first == RungDecision(rung=1, value=0.5, cutoff=None, order=0, keep=True)
    second = asha.decide(1, 1, 0.4)
    assert second == RungDecision(rung=1, value=0.4, cutoff=0.5, order=1, keep=False)
    assert asha.decide(0, 1, 0.5) is first
    assert asha.decide(0, 2, 0.6) is None
    assert asha.decide(1, 2, 0.9) is second, "a stopped trial stays stopped, whatever it does next"
    assert survival(asha) == [(1, 2, 1), (4, 0, 0)]


def test_a_report_that_passes_several_rungs_is_decided_at_the_highest():
    asha = AshaPruner([1, 4, 16], 4)
    assert asha.decide(0, 5, 0.5).rung == 4
    assert asha.decide(0, 6, 0.6) is None
    assert survival(asha) == [(1, 0, 0), (4, 1, 0), (16, 0, 0)]
    assert asha.decide(1, 0.5, 0.5) is None


def test_the_cutoff_counts_earlier_arrivals_only():
    asha = AshaPruner([1], 4)
    decisions = [asha.decide(trial, 1, value) for trial, value in enumerate([0.1, 0.2, 0.3, 0.4, 0.35])]
    assert [one.keep for one in decisions] == [True, True, True, True, True]
    assert decisions[4].cutoff == pytest.approx(0.325)
    assert asha.decide(5, 1, 0.3).keep is False
    assert cutoff([], 4) is None


def test_the_cutoff_is_the_percentile_of_numpy_to_the_last_bit():
    draw = random.Random(0)
    for count in (1, 2, 3, 7, 40, 1_001):
        for factor in (1.1, 2, 3, 4, 7.5):
            values = sorted(draw.gauss(0, 1) for _ in range(count))
            assert cutoff(values, factor) == float(np.percentile(values, (1 - 1 / factor) * 100))


def test_a_cutoff_looks_at_two_values_however_many_there_are():
    looked: list[int] = []

    class Values(Sequence[float]):
        def __len__(self) -> int:
            return 10_000

        def __getitem__(self, place: int) -> float:
            looked.append(place)
            return place / len(self)

    assert cutoff(Values(), 4) == pytest.approx(0.749925)
    assert len(looked) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused(value):
    asha = AshaPruner([1], 4)
    with pytest.raises(ValueError, match="trial 3 reported"):
        asha.decide(3, 1, value)
    assert survival(asha) == [(1, 0, 0)]


def test_records_of_other_rungs_and_contradicting_records_are_refused():
    asha = AshaPruner([1, 4], 4)
    with pytest.raises(ValueError, match="the rungs are"):
        asha.restore(0, RungDecision(2, 0.5, None, 0, True))
    decision = RungDecision(1, 0.5, None, 0, True)
    asha.restore(0, decision)
    asha.restore(0, decision)
    with pytest.raises(ValueError, match="two different decisions"):
        asha.restore(0, dataclasses.replace(decision, value=0.6))


def test_replay_finds_decisions_that_were_tampered_with():
    asha = AshaPruner([1, 4], 2)
    for trial, value in enumerate([0.5, 0.4, 0.6, 0.55]):
        asha.decide(trial, 1, value)
    asha.decide(0, 4, 0.7)
    records = decisions_of(asha)
    assert replay(records, 2) == []
    trial, fourth = records[3]
    for change in ({"keep": not fourth.keep}, {"cutoff": 0.1}, {"value": 0.01}):
        forged = [*records[:3], (trial, dataclasses.replace(fourth, **change)), records[4]]
        assert [one.trial for one in replay(forged, 2)] == [3]
    assert replay(records, 4), "another reduction factor would have decided otherwise"
    assert {one.trial for one in replay(records[1:], 2)} == {0, 1, 2, 3}
