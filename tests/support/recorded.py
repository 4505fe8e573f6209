"""What recorded steps are compared with, on the CPU with a tape and on a GPU with CUDA graphs."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.support.training import TINY, context
from trainers import finetune, rng
from trainers.api import Ema, EpochMetrics, TrainConfig, TrialConfig
from trainers.checkpoint import DirectoryStore
from trainers.loop.cuda_graphs import GraphedStep, Recorder
from trainers.loop.step import TrainingStep
from trainers.network.model import Dropout, Model
from trainers.numerics import numerics_of

TIMED = ("seconds", "train_seconds", "eval_seconds", "images_per_second", "checkpoint")


def three_epochs(**train: Any) -> TrialConfig:
    """One epoch of the first size and two of the second, each of two steps in three unequal parts."""
    config = replace(TINY, data=replace(TINY.data, train_limit=16, validation_limit=10))
    sizes = replace(TINY.train.progressive, sizes=(16, 24))
    changes = {"epochs": 3, "batch_size": 8, "accumulate": 3, "eval_batch_size": 5, "progressive": sizes, **train}
    return replace(config, train=replace(config.train, **changes))


def run(config: TrialConfig, cache: str, folder: Path, epochs: int = 99, device: str = "cpu") -> list[dict[str, Any]]:
    """The metrics of at most so many epochs, without times."""
    stream = finetune.train(config, replace(context(cache, folder), device=device))
    items: list[EpochMetrics] = list(itertools.islice(stream, epochs))
    stream.close()
    return [{k: v for k, v in dataclasses.asdict(item).items() if k not in TIMED} for item in items]


def state(folder: Path) -> dict[str, torch.Tensor]:
    loaded = DirectoryStore(str(folder)).load()
    assert loaded is not None
    optimizer = loaded[2]["optimizer"]["state"]
    flat = {f"{number}.{name}": value for number, values in optimizer.items() for name, value in values.items()}
    return {**loaded[1], **{name: value for name, value in flat.items() if isinstance(value, torch.Tensor)}}


def differences(a: Path, b: Path, prefix: str = "") -> list[str]:
    one, other = state(a), state(b)
    assert one.keys() == other.keys()
    return [name for name in one if name.startswith(prefix) and not torch.equal(one[name], other[name])]


def small(train: TrainConfig, device: str = "cpu") -> TrainingStep:
    """The step of a small network with all that a step may change: weights, statistics and random numbers."""
    with rng.isolated(1):
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4, 3),
        ).to(device)
    model = Model(net=net, mean=(0.5,), std=(0.5,), dropout=Dropout(torch.device(device)))
    numerics = replace(numerics_of(train, device), resident=True)
    return TrainingStep(model, train, numerics, forward=net, class_weights=None)


def steps(run: Any, step: TrainingStep, size: int, seed: int) -> None:
    """Three steps of seven images in three unequal parts."""
    device = step.losses.device
    with rng.isolated(seed, str(device)):
        for number in range(3):
            drawn = [(torch.randn(count, 3, size, size), torch.rand(count, 3).softmax(1)) for count in (3, 2, 2)]
            parts = [(pixels.to(device), targets.to(device)) for pixels, targets in drawn]
            step.prepare(0.01 * (number + seed))
            run(parts, 7)


def _no_recorder(*_: Any) -> Any:
    raise AssertionError("nothing is recorded")


def values(step: TrainingStep) -> list[torch.Tensor]:
    held = GraphedStep(step, step.forward, _no_recorder)._tensors()  # type: ignore[arg-type]
    return [value.detach().clone() for value in held]


def assert_recorded_steps_equal(settings: dict[str, Any], recorder: Recorder, device: str = "cpu") -> None:
    """Recorded steps compute the same to the bit: for two sizes, and when a recorded step loads a checkpoint."""
    train = TrainConfig(ema=Ema(decay=0.9), **settings)
    eager, recorded = small(train, device), small(train, device)
    graphed = GraphedStep(recorded, recorded.forward, recorder)  # type: ignore[arg-type]
    for size, seed in ((8, 1), (10, 2)):
        steps(eager, eager, size, seed)
        steps(graphed, recorded, size, seed)
    expected = values(eager)
    assert all(torch.equal(a, b) for a, b in zip(values(recorded), expected, strict=True))
    average = eager.average
    assert average
    saved = {name: value.clone() for name, value in average.state().items()}, copy.deepcopy(eager.state())
    for step, run in ((eager, eager), (recorded, graphed)):
        steps(run, step, 10, 3)  # goes on from the same weights below, with the earlier state
        step.load(*saved)
        steps(run, step, 10, 4)
    assert all(torch.equal(a, b) for a, b in zip(values(recorded), values(eager), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(values(recorded), expected, strict=True))
