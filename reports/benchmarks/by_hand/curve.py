"""The learning curve that both stacks train: no network, so that only the stacks differ."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

from trainers.api import Context, EpochMetrics, TrialConfig

EPOCHS = 8
ENQUEUED = (0.5, 0.65)
"""Configurations that both stacks try first; the second one diverges."""


def curve(quality: float, epoch: int) -> float:
    """Validation accuracy after an epoch; grows towards `quality`, in [0, 1]."""
    return quality * (1 - math.exp(-3 * epoch / EPOCHS))


def diverges(quality: float, epoch: int) -> bool:
    """Whether the objective is NaN: configurations in one tenth of the space diverge in epoch 3."""
    return epoch >= 3 and 0.6 <= quality < 0.7


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """The curve as a trainer of this project."""
    loaded = context.checkpoints.load()
    first = loaded[0] + 1 if loaded else 1
    if loaded:
        yield EpochMetrics(**loaded[2]["metrics"])
    quality, seconds = float(config.extra["quality"]), float(config.extra["seconds"])
    for epoch in range(first, EPOCHS + 1):
        time.sleep(seconds)
        value = math.nan if diverges(quality, epoch) else curve(quality, epoch)
        metrics = {"epoch": epoch, "val_accuracy": value}
        context.checkpoints.save(epoch, {}, {"metrics": metrics})
        yield EpochMetrics(epoch=epoch, val_accuracy=value)
