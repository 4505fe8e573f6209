"""A trainer without a model: a learning curve from its settings, with faults on demand.

`extra` settings: `quality` (0 to 1, final accuracy), `speed` (of the curve), `seconds` per epoch, `nan_at`, `crash_at`,
`exit_at` (epochs at which it misbehaves), `exit_once` (only on the first attempt).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

import torch

from trainers.api import Context, EpochMetrics, TrialConfig


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """Follows the `Trainer` protocol; state is one number, checkpointed like any trainer's."""
    extra = config.extra
    loaded = context.checkpoints.load()
    first = 1
    if loaded is not None:
        epoch, _, state = loaded
        first = epoch + 1
        yield EpochMetrics(**state["metrics"])
    for epoch in range(first, config.train.epochs + 1):
        time.sleep(float(extra.get("seconds", 0.0)))
        if epoch == extra.get("exit_at", 0) and not (extra.get("exit_once") and loaded is not None):
            os._exit(1)
        if epoch == extra.get("crash_at", 0):
            raise ValueError("a crash on demand")
        value = math.nan if epoch == extra.get("nan_at", 0) else curve(extra, epoch, config.train.epochs)
        metrics = EpochMetrics(epoch=epoch, val_accuracy=value, train_loss=1.0 - 0.01 * epoch, seconds=0.01)
        state = {
            "metrics": {
                "epoch": epoch,
                "val_accuracy": value,
                "train_loss": 1.0 - 0.01 * epoch,
                "seconds": 0.01,
            }
        }
        context.checkpoints.save(epoch, {"weight": torch.full((4,), float(epoch))}, state)
        yield metrics


def curve(extra: dict[str, bool | int | float | str], epoch: int, horizon: int) -> float:
    """Accuracy after `epoch` epochs; grows towards `quality`."""
    speed = float(extra.get("speed", 1.0))
    return float(extra.get("quality", 0.5)) * (1 - math.exp(-3 * speed * epoch / horizon))
