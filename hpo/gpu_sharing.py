"""Trials that share a GPU: how many fit, what they may gain, and which of them get a whole one. Pure functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hpo.text import size
from trainers.api import GpuUse

MOST = 8
"""Trials on one GPU at most."""
HEADROOM = 0.9
"""Share of the free memory to plan with. The rest is for fragmentation, and for what the measurement did not see."""
WORTH = 0.5
"""Another trial shares the GPU if it adds at least this much of the pace of a trial alone. With less, each trial
becomes much slower, and the search learns hardly more in the same time."""
UNITS = 10_000
"""Ray counts ten-thousandths of a GPU."""


@dataclass(frozen=True)
class Packing:
    """How many trials share each GPU."""

    trials: int
    reason: str
    """Why not more; for a person."""
    measured: GpuUse | None = None
    """What a trial needs; None if that would have changed nothing."""

    @property
    def share(self) -> float:
        """GPUs of each trial, rounded down to what Ray counts."""
        return UNITS // self.trials / UNITS

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Packing:
        """Read what a ledger holds."""
        measured = stored.get("measured")
        return cls(stored["trials"], stored["reason"], GpuUse(**measured) if measured else None)


# ----------------------------------------------------------------------------------------- how many fit


def packing(use: GpuUse, most: int, limit: str) -> Packing:
    """Decide how many trials share a GPU.

    Args:
        use: what a trial of the largest configuration needs.
        most: as many trials of the study can be on each GPU for other reasons.
        limit: these reasons, in words.
    """
    bounds = [
        (MOST, "more are never tried"),
        (worthwhile(use.busy), "another trial would add less than half of the pace of one"),
        (fitting(use), "no more fit into its memory"),
        (most, limit),
    ]
    trials, reason = min(bounds, key=lambda bound: bound[0])
    return Packing(trials, reason, use)


def fitting(use: GpuUse) -> int:
    """How many trials fit into the free memory; at least 1, which the measurement has shown."""
    return max(1, int(HEADROOM * use.free_bytes / use.memory_bytes))


def worthwhile(busy: float) -> int:
    """How many trials are worth their memory, by the share of the time in which one keeps the GPU busy; 1 to `MOST`."""
    return next((count for count in range(1, MOST) if pace(count + 1, busy) - pace(count, busy) < WORTH), MOST)


def pace(trials: int, busy: float) -> float:
    """The expected pace of so many trials on a GPU together, in that of one alone: an estimate, not a measurement.

    Each trial uses the GPU and then the host in turn, and waits where another one is on the GPU. This is a closed
    queueing network with one server; its throughput by mean value analysis (Reiser and Lavenberg 1980, J. ACM 27).
    What kernels of several trials gain by running side by side under MPS is not counted, nor what they lose by
    sharing caches and cores.

    Args:
        busy: share of the time in which one trial alone keeps the GPU busy, 0 to 1.
    """
    queue = throughput = 0.0
    for count in range(1, trials + 1):
        residence = busy * (1 + queue)
        throughput = count / (residence + 1 - busy)
        queue = throughput * residence
    return throughput


def describe(packing: Packing) -> str:
    """The decision and what it rests on, in one line."""
    count = f"{packing.trials} trial{'s' if packing.trials > 1 else ''} per GPU"
    use = packing.measured
    if use is None:
        return f"{count}: {packing.reason}"
    needs = (
        f"a trial needs {size(use.memory_bytes)} of the {size(use.free_bytes)} that are free, and keeps the GPU "
        f"{100 * use.busy:.0f} % busy"
    )
    gain = f"; expected, by estimate: {pace(packing.trials, use.busy):.1f} times the trials per hour"
    return f"{count}: {needs}{gain if packing.trials > 1 else ''}; {packing.reason}"


# ------------------------------------------------------------------------------------ what a trial gets


def per_trial(asked: float | Literal["auto"], packing: Packing | None) -> float:
    """GPUs of each trial on a GPU.

    Args:
        asked: the setting `resources.gpus`.
        packing: what was decided for `auto`; None for a whole GPU.
    """
    if asked != "auto":
        return float(asked)
    return packing.share if packing else 1.0


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
