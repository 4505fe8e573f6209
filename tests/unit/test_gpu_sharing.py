"""How many trials share a GPU, from what one of them needs, and what is expected of it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from hpo.gpu_sharing import MOST, Packing, describe, fitting, pace, packing, per_trial, worthwhile
from trainers.api import GpuUse

GB = 10**9
USE = GpuUse(gpu="G", total_bytes=80 * GB, free_bytes=79 * GB, memory_bytes=11 * GB, busy=0.31)


def test_the_pace_is_that_of_a_closed_queue() -> None:
    """By hand, for a busy share of a half: the queues that trials meet are 0, 1/2 and 6/5."""
    assert pace(1, 0.5) == pytest.approx(1)
    assert pace(2, 0.5) == pytest.approx(2 / 1.25)
    assert pace(3, 0.5) == pytest.approx(3 / 1.6)
    assert pace(4, 1.0) == pytest.approx(1), "a GPU that is always busy does no more"
    assert pace(4, 0.0) == pytest.approx(4), "a GPU that is never busy is in nobody's way"


@pytest.mark.parametrize("busy", [0.05, 0.2, 0.31, 0.5, 0.8, 1.0])
def test_the_pace_never_exceeds_the_trials_nor_the_gpu_and_never_falls(busy: float) -> None:
    paces = [pace(count, busy) for count in range(1, MOST + 1)]
    assert paces == sorted(paces)
    assert all(value <= min(count, 1 / busy) + 1e-9 for count, value in enumerate(paces, 1))


@pytest.mark.parametrize(
    ("busy", "trials"), [(1.0, 1), (0.93, 1), (0.6, 1), (0.5, 2), (0.4, 2), (0.31, 3), (0.2, 5), (0.0, MOST)]
)
def test_the_busier_the_gpu_the_fewer_share_it(busy: float, trials: int) -> None:
    assert worthwhile(busy) == trials


def test_memory_is_planned_with_a_reserve_of_what_is_free() -> None:
    assert fitting(USE) == 6  # 0.9 x 79 / 11 = 6.46
    assert fitting(dataclasses.replace(USE, free_bytes=24 * GB)) == 1  # two would need 22 of 21.6
    assert fitting(dataclasses.replace(USE, memory_bytes=78 * GB)) == 1, "the measurement has shown that one fits"


@pytest.mark.parametrize(
    ("changes", "most", "trials", "reason"),
    [
        ({}, 16, 3, "another trial would add less than half of the pace of one"),
        ({"memory_bytes": 30 * GB}, 16, 2, "no more fit into its memory"),
        ({}, 2, 2, "8 cores"),
        ({"busy": 0.0, "memory_bytes": GB}, 64, MOST, "more are never tried"),
    ],
)
def test_the_tightest_bound_decides_and_is_named(
    changes: dict[str, float], most: int, trials: int, reason: str
) -> None:
    decided = packing(dataclasses.replace(USE, **changes), most, "8 cores")  # type: ignore[arg-type]
    assert (decided.trials, decided.reason) == (trials, reason)


@pytest.mark.parametrize("trials", range(1, MOST + 1))
def test_so_many_shares_fit_on_a_gpu_as_ray_counts(trials: int) -> None:
    share = Packing(trials, "").share
    assert round(share * 10_000) == pytest.approx(share * 10_000)
    assert trials * share <= 1 < (trials + 1) * share


def test_the_settings_number_counts_and_auto_is_what_was_decided() -> None:
    assert per_trial(0.25, Packing(3, "")) == 0.25
    assert per_trial("auto", Packing(4, "")) == 0.25
    assert per_trial("auto", None) == 1.0


def test_the_decision_is_told_with_what_it_rests_on() -> None:
    assert describe(packing(USE, 16, "")) == (
        "3 trials per GPU: a trial needs 11.0 GB of the 79.0 GB that are free, and keeps the GPU 31 % busy; expected, "
        "by estimate: 2.4 times the trials per hour; another trial would add less than half of the pace of one"
    )
    busy = describe(packing(dataclasses.replace(USE, busy=0.9), 16, ""))
    assert busy.startswith("1 trial per GPU: a trial needs 11.0 GB")
    assert "expected" not in busy
    assert describe(Packing(1, "train.batch_size: auto fills it")) == "1 trial per GPU: train.batch_size: auto fills it"


@pytest.mark.parametrize("decided", [Packing(3, "why", USE), Packing(1, "why")])
def test_the_ledger_keeps_all_of_it(decided: Packing) -> None:
    assert Packing.from_json(json.loads(json.dumps(decided.to_json()))) == decided
