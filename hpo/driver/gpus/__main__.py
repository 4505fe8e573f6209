"""`python -m hpo.driver.gpus`: measure what trainings need of a GPU; started by `hpo.driver.gpus.measuring`.

It is a process of its own, so that the driver keeps no memory of the GPU, and an error of CUDA ends no driver.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from trainers.api import Context, TrialConfig
from trainers.checkpoint import DirectoryStore

GPU_USE = "gpu_use"
"""Optional function beside the trainer, `gpu_use(config, context)`: see `trainers.api.Trainer`."""


def answer(asked: dict[str, Any]) -> list[dict[str, Any]] | None:
    """What each training needs; None if the trainer cannot tell."""
    measure = getattr(importlib.import_module(asked["trainer"].partition(":")[0]), GPU_USE, None)
    if measure is None:
        return None
    context = Context(
        seed=0, checkpoints=DirectoryStore(asked["checkpoints"]), device="cuda", cache_dir=asked["cache_dir"]
    )
    configs = TypeAdapter(list[TrialConfig]).validate_python(asked["trainings"])
    return [dataclasses.asdict(measure(config, context)) for config in configs]


if __name__ == "__main__":
    asked = json.loads(sys.stdin.read())
    Path(asked["answer"]).write_text(json.dumps(answer(asked)))
