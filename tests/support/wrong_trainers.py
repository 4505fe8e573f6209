"""A trainer with the mistakes that people make: `extra.mistake` names one, made in epoch `extra.mistake_at`."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from trainers.api import Context, EpochMetrics, RecordingFailed, TrialConfig


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise ValueError("mute")


class Aborted(BaseException):
    """What some libraries raise to get past `except Exception`."""


def report(mistake: str, epoch: int) -> Any:
    """What is yielded in the epoch of the mistake."""
    match mistake:
        case "numpy":
            return EpochMetrics(epoch=np.int64(epoch), val_accuracy=np.float32(0.5))  # type: ignore[arg-type]
        case "dict":
            return {"epoch": epoch, "val_accuracy": 0.5}
        case "none":
            return None
        case "zero":
            return EpochMetrics(epoch=0, val_accuracy=0.5)
        case "percent":
            return EpochMetrics(epoch=epoch, val_accuracy=93.1)
        case "repeat":
            return EpochMetrics(epoch=max(1, epoch - 1), val_accuracy=0.5)
        case "exit":
            sys.exit("out of patience")
        case "mute":
            raise Mute
        case "abort":
            raise Aborted("stop everything")
        case "interrupt":
            raise KeyboardInterrupt
        case "files":
            raise OSError(errno.EMFILE, "Too many open files", "/data/one")
        case "recording":
            raise RecordingFailed("the work of a network cannot be recorded as a CUDA graph")
        case "long":
            raise RuntimeError(bytes(100_000).hex())
    raise ValueError(mistake)


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """Yields accuracy 0.5 in every epoch but that of the mistake."""
    mistake, at = str(config.extra.get("mistake", "")), int(config.extra.get("mistake_at", 1))
    try:
        for epoch in range(1, config.train.epochs + 1):
            yield report(mistake, epoch) if mistake and epoch == at else EpochMetrics(epoch=epoch, val_accuracy=0.5)
    finally:
        if config.extra.get("bad_cleanup"):
            raise OSError("cannot clean up")
        if config.extra.get("abort_in_cleanup"):
            raise Aborted("stop everything")
        if config.extra.get("exit_in_cleanup"):
            sys.exit("while cleaning up")


def returns_a_number(config: TrialConfig, context: Context) -> float:
    """No generator at all."""
    return 0.5
