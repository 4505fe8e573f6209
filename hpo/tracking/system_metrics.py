"""How busy this machine is, by MLflow's own monitors: CPU, memory and, where there are some, GPUs.

The driver samples the machine it runs on, as it alone writes to MLflow. On a cluster the other nodes are not seen.
Samples are nowhere else than in MLflow: while it does not answer there are none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

INTERVAL_S = 10.0


class Sampler:
    """Gives a sample every `INTERVAL_S`."""

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

        self._monitors: list[Any] = [CPUMonitor(), *_gpus()]  # type: ignore[no-untyped-call]
        self._due = time.monotonic()

    def sample(self) -> Mapping[str, float]:
        """What is due now: percentages, megabytes and watts by MLflow's names; mostly nothing."""
        if time.monotonic() < self._due:
            return {}
        self._due = time.monotonic() + INTERVAL_S
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return values


def _gpus() -> list[Any]:
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    try:
        return [GPUMonitor()]  # type: ignore[no-untyped-call]
    except (ImportError, RuntimeError):  # no NVIDIA management library, or no GPU
        return []
