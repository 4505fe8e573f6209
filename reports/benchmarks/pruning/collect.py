"""Complete learning curves of random configurations, trained without pruning, several at a time.

Needs torch, timm and `trainers` only, not Ray, Optuna or pydantic.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from reports.benchmarks.environment import environment
from trainers import data, finetune
from trainers.api import (
    Context,
    DataConfig,
    Ema,
    MagnitudeRamp,
    ModelConfig,
    Progressive,
    RateRamp,
    SizeRamp,
    TrainConfig,
    TrainerError,
    TrialConfig,
)
from trainers.files import replace_atomically
from trainers.rng import derive

STAGES = 4
"""Largest number of stages of a configuration."""
KEPT = ("epoch", "compute", "stage", "image_size", "val_accuracy_raw", "val_accuracy_ema", "val_loss", "seconds")
"""The metrics that are written for each epoch."""


@dataclass(frozen=True)
class Settings:
    """One collection: the data, the fixed settings of the training, the search space and the machine."""

    data: str
    root: str
    train_images: int
    validation_images: int
    model: str
    bn_momentum: float
    epochs: int
    batch_size: int
    weight_decay: float
    warmup_epochs: float
    ema_decay: float
    size_start: int
    """Smallest size of a first stage, pixels."""
    size_end: int
    """Size of every last stage and of every evaluation, pixels."""
    size_step: int
    lr_low: float
    lr_high: float
    dropout: float
    """Largest dropout rate of the last stage."""
    randaugment: float
    """Largest RandAugment magnitude of the last stage."""
    configurations: int
    seed: int
    jobs: int
    """Trainings at a time."""
    threads: int
    """torch threads of each training."""
    device: str
    seconds_limit: float | None
    cache_dir: str

    def config(self, values: Mapping[str, Any]) -> TrialConfig:
        """Return the training of one configuration, as `draw` made it."""
        size = SizeRamp(start=values["size_start"], end=self.size_end)
        return TrialConfig(
            data=self.source(),
            model=ModelConfig(name=self.model, pretrained=False, bn_momentum=self.bn_momentum),
            train=TrainConfig(
                epochs=self.epochs,
                batch_size=self.batch_size,
                lr=values["lr"],
                weight_decay=self.weight_decay,
                warmup_epochs=self.warmup_epochs,
                ema=Ema(decay=self.ema_decay),
                eval_size=self.size_end,
                eval_batch_size=500,
                checkpoint_every=self.epochs,
                progressive=Progressive(
                    stages=values["stages"],
                    size=size,
                    randaugment=MagnitudeRamp(start=0, end=values["randaugment_end"]),
                    dropout=RateRamp(start=0, end=values["dropout_end"]),
                ),
            ),
        )

    def source(self) -> DataConfig:
        """Return the data set. The validation images depend on their number only."""
        return DataConfig(
            name=self.data,  # type: ignore[arg-type]  # argparse has checked it
            root=self.root,
            train_limit=self.train_images,
            validation_limit=self.validation_images,
        )


class NoCheckpoints:
    """A store that keeps nothing, for short trainings that are not resumed."""

    def save(self, epoch: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> str:
        """Keep nothing."""
        return ""

    def load(self) -> None:
        """Return None: there is no checkpoint."""


def draw(settings: Settings) -> list[dict[str, Any]]:
    """Draw configurations from a scrambled Sobol sequence. The first n do not depend on the total number."""
    sobol: Any = torch.quasirandom.SobolEngine  # has no types
    points = sobol(5, scramble=True, seed=settings.seed).draw(settings.configurations)
    return [_values(settings, point) for point in points.tolist()]


def _values(settings: Settings, point: list[float]) -> dict[str, Any]:
    lr, dropout, randaugment, stages, start = point
    sizes = range(settings.size_start, settings.size_end + 1, settings.size_step)
    return {
        "lr": settings.lr_low * (settings.lr_high / settings.lr_low) ** lr,
        "dropout_end": dropout * settings.dropout,
        "randaugment_end": randaugment * settings.randaugment,
        "stages": 1 + min(int(stages * STAGES), STAGES - 1),
        "size_start": sizes[min(int(start * len(sizes)), len(sizes) - 1)],
    }


def collect(settings: Settings, path: Path) -> dict[str, Any]:
    """Train all configurations and write `path` after each finished training; return what was written.

    At `seconds_limit`, unfinished trainings are stopped and not recorded.
    """
    began = time.monotonic()
    deadline = began + settings.seconds_limit if settings.seconds_limit else None
    data.prepare(settings.source(), settings.cache_dir)  # decoded once, before the processes start
    report: dict[str, Any] = {
        "environment": environment(),
        "settings": asdict(settings),
        "configurations": [],
        "unfinished": settings.configurations,
        "seconds": 0.0,
    }
    for done in _trained(settings, deadline):
        if done is not None:
            report["configurations"] = sorted(
                [*report["configurations"], done], key=lambda configuration: configuration["number"]
            )
        report["unfinished"] = settings.configurations - len(report["configurations"])
        report["seconds"] = time.monotonic() - began
        _write(path, report)
    return report


def _trained(settings: Settings, deadline: float | None) -> Iterator[dict[str, Any] | None]:
    """Yield the record of each configuration when it ends, or None if the time limit stopped it."""
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    with ProcessPoolExecutor(settings.jobs, mp_context=context) as pool:
        futures: list[Future[dict[str, Any] | None]] = [
            pool.submit(_train, settings, number, values, deadline) for number, values in enumerate(draw(settings))
        ]
        for future in as_completed(futures):
            yield future.result()


def _train(settings: Settings, number: int, values: Mapping[str, Any], deadline: float | None) -> dict[str, Any] | None:
    """Train one configuration; return its record, or None if the deadline comes first."""
    if deadline and time.monotonic() > deadline:
        return None
    context = Context(
        seed=derive(settings.seed, "rungs", number),
        checkpoints=NoCheckpoints(),
        device=settings.device,
        threads=settings.threads,
        cache_dir=settings.cache_dir,
    )
    began, epochs, failure = time.monotonic(), [], None
    try:
        for metrics in finetune.train(settings.config(values), context, score_both=True):
            epochs.append({key: getattr(metrics, key) for key in KEPT})
            if deadline and time.monotonic() > deadline and metrics.epoch < settings.epochs:
                return None
    except TrainerError as error:
        failure = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - began
    print(f"configuration {number}: {failure or _final(epochs)} after {seconds:.0f} s", file=sys.stderr, flush=True)
    return {"number": number, "values": dict(values), "epochs": epochs, "failure": failure, "seconds": seconds}


def _write(path: Path, report: Mapping[str, Any]) -> None:
    text = json.dumps(report, indent=1) + "\n"
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _final(epochs: list[dict[str, Any]]) -> str:
    return f"{epochs[-1]['val_accuracy_raw']:.1%}"
