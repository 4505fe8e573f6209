"""The synthetic trainer for workers on GPUs that Ray was told of and that are not there; and `hpo` on such a machine.

`python -m tests.support.pretended_gpus run spec.yaml` is `hpo run spec.yaml` on a machine with as many GPUs as the
variable `PRETENDED_GPUS` says. A trial with `extra.crowded_at` runs out of memory in that epoch if it shares its GPU.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from tests import synthetic
from trainers import devices
from trainers.api import Context, EpochMetrics, OutOfMemory, TrialConfig

PRETENDED = "PRETENDED_GPUS"

devices.device_error = lambda device: None


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """Train as `tests.synthetic` does."""
    for metrics in synthetic.train(config, context):
        if metrics.epoch == config.extra.get("crowded_at") and context.device_share < 1:
            raise OutOfMemory(f"out of device memory with {context.device_share} of it")
        yield metrics


def environment(gpus: int) -> dict[str, str]:
    """What leads a driver, and the Ray that it starts, to believe in so many GPUs."""
    return {PRETENDED: str(gpus), "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 4, "GPU": gpus})}


if __name__ == "__main__":
    devices.gpu_count = lambda: int(os.environ[PRETENDED])
    sys.argv[0] = "hpo"
    from hpo.cli import main

    main()
