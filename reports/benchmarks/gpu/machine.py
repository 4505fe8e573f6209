"""What the machine is, and the built-in images, which later sections find decoded."""

from __future__ import annotations

import torch

from reports.benchmarks.environment import environment
from reports.benchmarks.gpu import mps
from reports.benchmarks.gpu.settings import Send, Settings
from trainers import data
from trainers.api import DataConfig


def run(settings: Settings, seconds: float, send: Send) -> None:
    """Send the facts on which the figures depend."""
    send("machine", {**environment(), "cores_used": settings.cores})
    if settings.cuda and torch.cuda.is_available():
        send("machine", {"gpu_memory": torch.cuda.get_device_properties(settings.device).total_memory})
        send("machine", {"driver": mps.said_by_driver("driver_version"), "mps": mps.obstacle() or "available"})
    data.prepare(DataConfig(name="shapes"), settings.scratch)
