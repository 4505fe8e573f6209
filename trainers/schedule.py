"""Progressive stages, compute and learning-rate curves as pure functions, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainers.api import Progressive, TrainConfig

ONECYCLE_RISE = 0.3
"""Share of a one-cycle schedule in which the rate rises, if no warm-up is set (torch's `pct_start`)."""
ONECYCLE_START = 1 / 25
"""One-cycle: first learning rate divided by the largest (torch's 1 / `div_factor`)."""
ONECYCLE_END = ONECYCLE_START / 1e4
"""One-cycle: last learning rate divided by the largest (torch's 1 / (`div_factor` * `final_div_factor`))."""
WARMUP_START = 0.01
"""Linear warm-up: first learning rate divided by the largest. A first step at rate 0 would change nothing."""


@dataclass(frozen=True)
class Stage:
    """One stage of progressive learning: successive epochs at one image size and one strength of regularisation."""

    index: int
    """From 0."""
    first_epoch: int
    """From 1."""
    last_epoch: int
    """Inclusive."""
    size: int
    """Training image size, pixels."""
    randaugment: float
    """Canonical magnitude, 0 to 30."""
    dropout: float
    """Rate, 0 to below 1."""
    mixup: float
    """Alpha of the Beta distribution; 0: no mixup."""


def stages(progressive: Progressive, epochs: int) -> tuple[Stage, ...]:
    """Divide a training of `epochs` epochs into stages, as equally as whole epochs allow.

    `paper` interpolates linearly from start to end over the stages (arXiv 2104.00298, Algorithm 1) and rounds sizes to
    whole pixels. `google` follows google/automl's efficientnetv2 (main.py): its first size is one step above the start,
    and its dropout is constant. A single stage has the end values.

    Raises:
        ValueError: there are fewer epochs than stages.
    """
    count = progressive.stages
    if epochs < count:
        raise ValueError(f"{count} stages need at least {count} epochs, got {epochs}")
    return tuple(
        Stage(
            index=index,
            first_epoch=index * epochs // count + 1,
            last_epoch=(index + 1) * epochs // count,
            size=_size(progressive, index),
            randaugment=_ramp(progressive.randaugment.start, progressive.randaugment.end, index, count),
            dropout=_dropout(progressive, index),
            mixup=_ramp(progressive.mixup.start, progressive.mixup.end, index, count),
        )
        for index in range(count)
    )


def stage_of(plan: tuple[Stage, ...], epoch: int) -> Stage:
    """Return the stage of `epoch` (from 1)."""
    return next(stage for stage in plan if stage.first_epoch <= epoch <= stage.last_epoch)


def compute(plan: tuple[Stage, ...], epoch: int, size: int | None = None) -> float:
    """Return the compute (images x px^2) up to the end of `epoch`, from 1.

    The unit is one epoch at `size` pixels; by default at the size of the largest stage.
    """
    unit = size or max(stage.size for stage in plan)
    pixels = sum(stage_of(plan, earlier).size ** 2 for earlier in range(1, epoch + 1))
    return pixels / unit**2


def batch_size(base: int, size: int, last_size: int) -> int:
    """Return how many images of `size` px have the pixels of `base` images of `last_size` px; at least `base`."""
    return max(base, int(base * (last_size / size) ** 2))


def batch_lr_factor(ratio: float, optimizer: str) -> float:
    """Return the factor of the learning rate for a batch that is `ratio` times as large.

    Linear for SGD and RMSprop (arXiv 1706.02677), the square root for the other optimisers, whose updates are
    normalised (arXiv 2205.10287; LAMB, arXiv 1904.00962).
    """
    return ratio if optimizer in ("sgd", "rmsprop") else math.sqrt(ratio)


def rising_epochs(train: TrainConfig) -> float:
    """Return the number of epochs until the learning rate is largest."""
    if train.schedule == "onecycle" and not train.warmup_epochs:
        return ONECYCLE_RISE * train.epochs
    return train.warmup_epochs


def lr_factor(train: TrainConfig, progress: float) -> float:
    """Return the learning rate, divided by the largest, after `progress` epochs (0 to `train.epochs`)."""
    return curve(train.schedule, progress, train.epochs, warmup=train.warmup_epochs, min_ratio=train.min_lr_ratio)


def curve(
    schedule: Literal["cosine", "onecycle", "constant"],
    step: float,
    total: float,
    *,
    warmup: float = 0.0,
    min_ratio: float = 0.0,
) -> float:
    """Return the learning rate, divided by the largest, after `step` of `total`.

    `step`, `total` and `warmup` have the same unit (epochs or steps). `cosine` falls from 1 to `min_ratio` and
    `constant` stays at 1, both after a linear rise over `warmup`. `onecycle` (arXiv 1708.07120, with torch's defaults
    and constant momentum) rises along a cosine over `warmup`, or over the first 30 % if `warmup` is 0, and falls along
    a cosine to nearly 0.
    """
    if schedule == "onecycle":
        rise = warmup or ONECYCLE_RISE * total
        if step < rise:
            return _anneal(ONECYCLE_START, 1.0, step / rise)
        return _anneal(1.0, ONECYCLE_END, (step - rise) / (total - rise))
    if step < warmup:
        return WARMUP_START + (1 - WARMUP_START) * step / warmup
    if schedule == "constant":
        return 1.0
    return _anneal(1.0, min_ratio, (step - warmup) / (total - warmup))


def _anneal(start: float, end: float, share: float) -> float:
    """Half a cosine from `start` (`share` 0) to `end` (`share` 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def _ramp(start: float, end: float, index: int, count: int) -> float:
    return end if count == 1 else start + (end - start) * index / (count - 1)


def _size(progressive: Progressive, index: int) -> int:
    if progressive.sizes is not None:
        return progressive.sizes[index]
    start, end, count = progressive.size.start, progressive.size.end, progressive.stages
    if progressive.form == "google":
        size = int(start + (end - start) * (index + 1) / count)
    else:
        size = round(_ramp(start, end, index, count))
    return size if size in (start, end) else _multiple(size, progressive)


def _multiple(size: int, progressive: Progressive) -> int:
    """The nearest multiple of `size_multiple`, not beyond the first and the last size."""
    unit = progressive.size_multiple
    return min(max(round(size / unit) * unit, progressive.size.start), progressive.size.end)


def _dropout(progressive: Progressive, index: int) -> float:
    if progressive.form == "google":
        return progressive.dropout.end
    return _ramp(progressive.dropout.start, progressive.dropout.end, index, progressive.stages)
