"""The synthetic trainer for workers on GPUs that Ray was told of and that are not there; and `hpo` on such a machine.

`Driver.start("run", "spec.yaml", prepare="tests.support.pretended_gpus:pretend")` is `hpo run spec.yaml` on a machine
with as many GPUs as the variable `PRETENDED_GPUS` says. A trial with `extra.crowded_at` runs out of memory in that
epoch if it shares its GPU. What a trial needs of one is what `extra.gigabytes` and `extra.busy` say; each measurement
adds a line to the file `extra.measured`. Each trial adds the folder of MPS's pipes, as its worker knows it, to the
file `extra.pipes`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hpo.driver.gpus import measuring, mps
from hpo.driver.gpus.mps import PIPES
from tests import synthetic
from trainers import devices
from trainers.api import Context, EpochMetrics, GpuUse, OutOfMemory, TrialConfig

PRETENDED = "PRETENDED_GPUS"
NAME, GIGABYTES = "Pretended GPU", 80

devices.device_error = lambda device: None


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """Train as `tests.synthetic` does."""
    if "pipes" in config.extra:
        with Path(str(config.extra["pipes"])).open("a") as file:
            file.write(f"{os.environ.get(PIPES)}\n")
    for metrics in synthetic.train(config, context):
        if metrics.epoch == config.extra.get("crowded_at") and context.device_share < 1:
            raise OutOfMemory(f"out of device memory with {context.device_share} of it")
        yield metrics


def gpu_use(config: TrialConfig, context: Context) -> GpuUse:
    """What a trial would need."""
    with Path(str(config.extra["measured"])).open("a") as file:
        file.write(f"{os.getpid()} {context.device}\n")
    whole = GIGABYTES * 10**9
    needs = int(float(config.extra["gigabytes"]) * 10**9)
    busy = float(config.extra["busy"])
    return GpuUse(gpu=NAME, total_bytes=whole, free_bytes=whole, memory_bytes=needs, busy=busy)


def pretend() -> None:
    """Let this process find the GPUs."""
    devices.gpu_count = lambda: int(os.environ[PRETENDED])
    devices.gpus = lambda: [(NAME, GIGABYTES * 10**9)] * devices.gpu_count()
    measuring.gpu_names = mps.gpu_names = lambda: [NAME] * devices.gpu_count()
