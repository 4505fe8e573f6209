"""Trials that share a GPU: how many fit, what they may gain, and which of them get a whole one. Pure functions."""

from __future__ import annotations

import math


def held(share: float, *, alone: bool) -> float:
    """How many GPUs a trial gets.

    Args:
        share: GPUs of each trial of the study; below 1 where several share one, 0 on the CPU.
        alone: whether the trial is to have no neighbours.
    """
    return float(math.ceil(share)) if alone else share


def places(share: float, *, alone: bool) -> int:
    """How many trials of the study have room in what the trial gets."""
    return math.floor(1 / share + 1e-9) if alone and 0 < share < 1 else 1


def shared(gpus: float | None, device: str | None) -> bool:
    """Whether a trial that holds so many GPUs may have neighbours on its device."""
    return gpus is not None and 0 < gpus < 1 and (device or "").startswith("cuda")
