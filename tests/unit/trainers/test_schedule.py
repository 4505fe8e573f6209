"""Progressive stages against the published tables, and the shapes of the learning-rate curves."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.api import AlphaRamp, MagnitudeRamp, Progressive, RateRamp, SizeRamp, TrainConfig
from trainers.rng import derive
from trainers.schedule import (
    ONECYCLE_RISE,
    Stage,
    batch_lr_factor,
    batch_size,
    compute,
    curve,
    lr_factor,
    stage_of,
    stages,
)

# arXiv 2104.00298, Table 6: (size, RandAugment, mixup, dropout), each (start, end), over four stages.
PAPER = {
    "S": ((128, 300), (5, 15), (0.0, 0.0), (0.1, 0.3)),
    "M": ((128, 380), (5, 20), (0.0, 0.2), (0.1, 0.4)),
    "L": ((128, 380), (5, 25), (0.0, 0.5), (0.1, 0.5)),
}


def ramps(form: str, size: tuple, randaugment: tuple, mixup: tuple, dropout: tuple, count: int = 4) -> Progressive:
    return Progressive(
        form=form,
        stages=count,
        size=SizeRamp(start=size[0], end=size[1]),
        randaugment=MagnitudeRamp(start=randaugment[0], end=randaugment[1]),
        mixup=AlphaRamp(start=mixup[0], end=mixup[1]),
        dropout=RateRamp(start=dropout[0], end=dropout[1]),
    )


def column(plan: tuple[Stage, ...], name: str) -> list[float]:
    return [getattr(stage, name) for stage in plan]


@pytest.mark.parametrize("model", PAPER)
def test_the_paper_form_spans_the_published_ranges_in_equal_stages(model: str) -> None:
    size, randaugment, mixup, dropout = PAPER[model]
    plan = stages(ramps("paper", *PAPER[model]), 350)
    ranges = (("size", size), ("randaugment", randaugment), ("mixup", mixup), ("dropout", dropout))
    for name, (start, end) in ranges:
        values = column(plan, name)
        assert (values[0], values[-1]) == pytest.approx((start, end))
        assert values == pytest.approx([start + (end - start) * i / 3 for i in range(4)], abs=0.5)
    assert [stage.last_epoch - stage.first_epoch + 1 for stage in plan] == [87, 88, 87, 88]


def test_the_paper_form_of_the_small_model_has_the_published_sizes() -> None:
    plan = stages(ramps("paper", *PAPER["S"]), 8)
    assert column(plan, "size") == [128, 185, 243, 300]
    assert column(plan, "randaugment") == pytest.approx([5, 8 + 1 / 3, 11 + 2 / 3, 15])
    assert column(plan, "dropout") == pytest.approx([0.1, 0.1 + 0.2 / 3, 0.1 + 0.4 / 3, 0.3])


@pytest.mark.parametrize(
    ("form", "size", "expected"),
    [
        ("paper", (128, 300), [128, 192, 256, 300]),
        ("google", (128, 300), [160, 224, 256, 300]),
        ("paper", (100, 110), [100, 100, 100, 110]),
        ("paper", (224, 224), [224] * 4),
    ],
)
def test_sizes_between_the_first_and_the_last_are_rounded_to_multiples(
    form: str, size: tuple[int, int], expected: list[int]
) -> None:
    plain = ramps(form, size, (5, 15), (0.0, 0.2), (0.1, 0.3))
    assert column(stages(replace(plain, size_multiple=32), 8), "size") == expected


def test_the_google_form_starts_one_step_above_the_start_and_keeps_dropout_constant() -> None:
    plan = stages(ramps("google", (128, 300), (5, 15), (0.0, 0.2), (0.1, 0.3)), 8)
    assert column(plan, "size") == [171, 214, 257, 300]
    assert column(plan, "randaugment") == pytest.approx([5, 8 + 1 / 3, 11 + 2 / 3, 15])
    assert column(plan, "mixup") == pytest.approx([0, 0.2 / 3, 0.4 / 3, 0.2])
    assert column(plan, "dropout") == [0.3] * 4


@pytest.mark.parametrize("form", ["paper", "google"])
def test_a_training_of_one_stage_has_the_end_values(form: str) -> None:
    (only,) = stages(ramps(form, (128, 300), (5, 15), (0.0, 0.2), (0.1, 0.3), count=1), 3)
    assert only == Stage(0, 1, 3, 300, 15, 0.3, 0.2)


def test_explicit_sizes_replace_the_size_ramp() -> None:
    plan = stages(Progressive(stages=3, sizes=(32, 32, 80)), 3)
    assert column(plan, "size") == [32, 32, 80]


@given(count=st.integers(1, 16), extra=st.integers(0, 400))
def test_stages_divide_the_epochs_without_gaps_as_equally_as_possible(count: int, extra: int) -> None:
    epochs = count + extra
    plan = stages(Progressive(stages=count), epochs)
    lengths = [stage.last_epoch - stage.first_epoch + 1 for stage in plan]
    assert plan[0].first_epoch == 1
    assert plan[-1].last_epoch == epochs
    assert all(b.first_epoch == a.last_epoch + 1 for a, b in itertools.pairwise(plan))
    assert max(lengths) - min(lengths) <= 1
    assert all(stage_of(plan, epoch).first_epoch <= epoch for epoch in range(1, epochs + 1))


def test_more_stages_than_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match="4 stages"):
        stages(Progressive(stages=4), 3)


def test_compute_counts_pixels_in_epochs_of_the_largest_size() -> None:
    plan = stages(Progressive(stages=2, sizes=(32, 64)), 4)
    assert [compute(plan, epoch) for epoch in (1, 2, 3, 4)] == [0.25, 0.5, 1.5, 2.5]


def test_growing_batches_keep_the_pixels_and_scale_the_rate() -> None:
    assert batch_size(100, 64, 128) == 400
    assert batch_size(100, 128, 128) == 100
    assert batch_lr_factor(4.0, "sgd") == batch_lr_factor(4.0, "rmsprop") == 4.0
    assert batch_lr_factor(4.0, "adamw") == batch_lr_factor(4.0, "muon") == 2.0


def test_the_cosine_schedule_falls_from_the_peak_to_its_minimum_after_the_warm_up() -> None:
    train = TrainConfig(epochs=10, warmup_epochs=2, min_lr_ratio=0.05)
    assert lr_factor(train, 0) == pytest.approx(0.01)
    assert lr_factor(train, 1) == pytest.approx((0.01 + 1) / 2)
    assert lr_factor(train, 2) == 1
    assert lr_factor(train, 6) == pytest.approx((1 + 0.05) / 2)
    assert lr_factor(train, 10) == pytest.approx(0.05)


def test_the_constant_schedule_stays_at_its_peak() -> None:
    assert {curve("constant", step, 7) for step in range(8)} == {1.0}


def test_the_onecycle_schedule_agrees_with_torch() -> None:
    total = 50
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=total + 1, pct_start=0.3)
    # torch puts its peak at pct_start * total_steps - 1 steps and its end at total_steps - 1.
    peak = ONECYCLE_RISE * (total + 1) - 1
    for step in range(total):
        ours = curve("onecycle", step, total, warmup=peak)
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-6), step
        optimizer.step()
        theirs.step()


def test_the_onecycle_schedule_without_warm_up_peaks_at_thirty_percent() -> None:
    values = [curve("onecycle", step, 100) for step in range(101)]
    assert max(range(101), key=values.__getitem__) == 30
    assert values[0] == pytest.approx(1 / 25)


@given(
    schedule=st.sampled_from(["cosine", "onecycle", "constant"]),
    share=st.floats(0, 1),
    total=st.floats(1, 1e6),
    warmup=st.floats(0, 0.9),
    floor=st.floats(0, 1),
)
def test_learning_rate_factors_stay_between_zero_and_one(
    schedule: str, share: float, total: float, warmup: float, floor: float
) -> None:
    assert 0 <= curve(schedule, share * total, total, warmup=warmup * total, min_ratio=floor) <= 1 + 1e-12


def test_schedules_need_no_torch() -> None:
    code = "import sys, trainers.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_seeds_differ_by_purpose_and_epoch() -> None:
    drawn = {derive(seed, purpose, epoch) for seed in (0, 1) for purpose in ("a", "b") for epoch in (1, 2, 12)}
    assert len(drawn) == 12
    assert all(0 <= seed < 2**63 for seed in drawn)
    assert derive(7, "order", 3) == derive(7, "order", 3)
