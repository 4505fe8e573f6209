"""The load of this machine, measured by MLflow's own monitors: CPU, memory and, if there are any, GPUs.

The driver measures the machine that it runs on, because only the driver writes to MLflow. The other nodes of a cluster
are not measured. The samples are stored in MLflow alone, so there are none for the time of an outage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTERVAL_S = 10.0


class SystemMonitor:
    """Measures the load of this machine."""

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

        self._monitors: list[Any] = [CPUMonitor(), *_gpus()]  # type: ignore[no-untyped-call]

    def sample(self) -> Mapping[str, float]:
        """The load now, in percent, megabytes and watts, by MLflow's names."""
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
    except Exception:  # noqa: BLE001 - no management library, no GPU, or one that cannot be asked: none is measured
        return []
