"""Time from the last optimiser step of a trial to the first step of the next, on one process and on a process each.

`python -m reports.benchmarks.training.turnaround CASE` is the child process of the comparison. It runs one trial of a
case given as JSON and prints the time at which its first step began.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trainers.api import Context, DataConfig, EpochMetrics, ModelConfig, Progressive, SizeRamp, TrainConfig, TrialConfig


@dataclass(frozen=True)
class Turnaround:
    """Seconds between two trials."""

    warm: tuple[float, ...]
    """On one process, without evaluation and checkpoint of the ending trial."""
    ending: tuple[float, ...]
    """Evaluation (ten images) and checkpoint of each ending trial."""
    fresh: tuple[float, ...]
    """On a new process for the next trial, from the start of the process."""


def measure(model: str, *, size: int, device: str, threads: int, cache_dir: str, repeats: int) -> Turnaround:
    """Run `repeats` + 1 trials of two steps on this process, and `repeats` trials on a new process each."""
    case = {"model": model, "size": size, "device": device, "threads": threads, "cache_dir": cache_dir}
    warm, ending = _warm(case, repeats)
    return Turnaround(tuple(warm), tuple(ending), tuple(_fresh(case) for _ in range(repeats)))


def _warm(case: dict[str, Any], repeats: int) -> tuple[list[float], list[float]]:
    gaps: list[float] = []
    endings: list[float] = []
    with _step_times() as (begins, ends):
        for seed in range(repeats + 1):
            before = len(begins)
            metrics = _run(case, seed)
            if seed:
                gaps.append(begins[before] - ends[before - 1] - endings[-1])
            assert metrics.seconds is not None
            assert metrics.train_seconds is not None
            endings.append(metrics.seconds - metrics.train_seconds)
    return gaps, endings[:-1]


def _fresh(case: dict[str, Any]) -> float:
    started = time.monotonic()
    command = [sys.executable, "-m", "reports.benchmarks.training.turnaround", json.dumps(case)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(printed.split()[-1]) - started


def _run(case: dict[str, Any], seed: int) -> EpochMetrics:
    from trainers import finetune
    from trainers.checkpoint import DirectoryStore

    config = TrialConfig(
        data=DataConfig(name="shapes", train_limit=64, validation_limit=10),
        model=ModelConfig(name=case["model"], pretrained=False),
        train=TrainConfig(
            epochs=1, batch_size=32, eval_size=32, progressive=Progressive(stages=1, size=SizeRamp(end=case["size"]))
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            seed=seed,
            checkpoints=DirectoryStore(folder),
            device=case["device"],
            threads=case["threads"],
            cache_dir=case["cache_dir"],
        )
        (metrics,) = finetune.train(config, context)
    return metrics


@contextmanager
def _step_times() -> Iterator[tuple[list[float], list[float]]]:
    """Yield the times at which training steps begin and end. A step begins after the augmentation."""
    from torch.nn.modules.module import register_module_forward_pre_hook
    from torch.optim.optimizer import register_optimizer_step_post_hook

    begins: list[float] = []
    ends: list[float] = []

    def forward(module: Any, _: Any) -> None:
        if module.training and len(begins) == len(ends):  # the first module of a step is the network
            begins.append(time.monotonic())

    def step(*_: Any) -> None:
        ends.append(time.monotonic())

    handles = [register_module_forward_pre_hook(forward), register_optimizer_step_post_hook(step)]
    try:
        yield begins, ends
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    with _step_times() as (first, _):
        _run(json.loads(sys.argv[1]), seed=0)
    print(first[0])
