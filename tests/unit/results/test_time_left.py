"""The time left: none before a trial has ended, then one that does not jump and is near the truth."""

from __future__ import annotations

import dataclasses
import functools
import statistics

import pytest

from hpo.cli.display.terminal.steady import Steady
from hpo.ledger.outcome import Ending
from hpo.ledger.records import Pause
from hpo.results.progress import progress
from hpo.results.sums.pace import Pace
from hpo.results.sums.parts import summed
from hpo.results.sums.study import Sums
from hpo.results.sums.time_left import _costs
from hpo.spec.study import Spec
from tests.support.sample_records import trial
from tests.support.simulated_study import simulate, specification
from trainers import schedule

STUDIES = {
    "pruned": specification(),
    "whole": specification(prune=False, trials=30),
    "stages": specification(stages=4),
    "stages, whole": specification(stages=4, prune=False, trials=30),
    "long": specification(epochs=64, trials=100, stages=4, factor=3),
    "short": specification(epochs=4, trials=24, factor=2),
}
HALF_TIME_FACTOR = 3.0
"""At half-time the estimate is within this factor of the truth, in each simulated study."""
TYPICAL_FACTOR = 1.25
"""And within this factor in half of them."""
LOOK_S = 10.0
"""Seconds of virtual time between two looks at the screen."""


def estimates(spec: Spec, slots: int, seed: int = 0) -> tuple[list[tuple[float, float]], float]:
    """(time, estimate) after each event that has one, and the time of the end. Sums are kept as a screen does."""
    found, time, sums = [], 0.0, Sums(spec)
    for time, record in simulate(spec, slots, seed=seed):
        sums.update(*record.trials)
        if (left := progress(record, counts=sums.counts, pace=sums.pace).left) is not None:
            found.append((time, left))
    return found, time


@functools.cache
def studies() -> list[tuple[str, list[tuple[float, float]], float]]:
    """(description, estimates, end) of all simulated studies."""
    return [
        (f"{name} on {slots}, seed {seed}", *estimates(spec, slots, seed))
        for name, spec in STUDIES.items()
        for slots in (1, 2, 8, 32)
        for seed in range(2)
    ]


def test_the_shown_estimate_never_jumps_by_half_from_one_look_to_the_next() -> None:
    """Against what it should be by then: the one before, less the time that has passed. No minute is divided."""
    for name, found, end in studies():
        steady, raw = Steady(), iter(found)
        at, left = next(raw)
        time = at
        upcoming, shown = next(raw, None), steady.show(left, time) or 0.0
        assert shown == left, "the first one is shown as it is"
        while time < end:
            time += LOOK_S
            while upcoming is not None and upcoming[0] <= time:
                (at, left), upcoming = upcoming, next(raw, None)
            now = max(0.0, left - (time - at if upcoming else 0.0))
            before, shown = shown, steady.show(now, time) or 0.0
            due = max(60.0, before - LOOK_S)
            assert abs(max(60.0, shown) - due) < due / 2, (name, time / end)


def test_at_half_time_the_estimate_is_near_the_truth() -> None:
    factors = {}
    for name, found, end in studies():
        half = [(time, left) for time, left in found if time >= end / 2]
        if found[0][0] < end / 2 and half:
            factors[name] = max(half[0][1] / (end - half[0][0]), (end - half[0][0]) / half[0][1])
    assert len(factors) > 35
    assert max(factors.values()) < HALF_TIME_FACTOR, factors
    assert statistics.median(factors.values()) < TYPICAL_FACTOR, factors


def test_an_epoch_that_no_trial_has_reached_costs_as_many_times_more_as_its_images_have_pixels() -> None:
    spec = STUDIES["stages, whole"]
    first, *_, last = schedule.stages(spec.base().train.progressive, spec.train.epochs)
    costs = _costs(spec, summed(Pace(), [trial(0, 4, ending=Ending.PRUNED)]), [])
    assert costs[:4] == [30.0] * 4
    assert costs[-1] == pytest.approx(30.0 * (last.size / first.size) ** 2)


def test_there_is_no_estimate_before_a_trial_has_ended_nor_while_the_study_is_paused() -> None:
    records = [record for _, record in simulate(STUDIES["pruned"], 4)]
    ended = [any(trial.outcome for trial in record.trials) for record in records]
    assert [progress(record).left is not None for record in records] == ended
    paused = dataclasses.replace(records[-50], paused=Pause("somebody@here", 0.0))
    assert progress(paused).left is None
