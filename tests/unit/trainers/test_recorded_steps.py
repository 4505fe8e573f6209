"""Recorded steps and evaluations compute the same as those that the host starts, shown with a tape on the CPU."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support import tape
from tests.support.training import TINY, context
from trainers import finetune, rng
from trainers.api import Ema, EpochMetrics, RecordingFailed, TrainConfig, TrialConfig
from trainers.checkpoint import DirectoryStore
from trainers.loop.cuda_graphs import GraphedStep, Work, failed
from trainers.loop.engine import Engine
from trainers.loop.step import TrainingStep
from trainers.network.model import Dropout, Model
from trainers.numerics import Numerics, numerics_of

TIMED = ("seconds", "train_seconds", "eval_seconds", "images_per_second", "checkpoint")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def three_epochs(**train: Any) -> TrialConfig:
    """One epoch of the first size and two of the second, each of two steps in three unequal parts."""
    config = replace(TINY, data=replace(TINY.data, train_limit=16, validation_limit=10))
    sizes = replace(TINY.train.progressive, sizes=(16, 24))
    changes = {"epochs": 3, "batch_size": 8, "accumulate": 3, "eval_batch_size": 5, "progressive": sizes, **train}
    return replace(config, train=replace(config.train, **changes))


def run(config: TrialConfig, cache: str, folder: Path, epochs: int = 99) -> list[dict[str, Any]]:
    stream = finetune.train(config, context(cache, folder))
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


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that change are tensors, as on a GPU."""

    def on_gpu(train: Any, device: str) -> Numerics:
        return replace(numerics_of(train, device), resident=True)

    monkeypatch.setattr(finetune, "numerics_of", on_gpu)


def small(train: TrainConfig) -> TrainingStep:
    """The step of a small network with all that a step may change: weights, statistics and random numbers."""
    with rng.isolated(1):
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4, 3),
        )
    model = Model(net=net, mean=(0.5,), std=(0.5,), dropout=Dropout(torch.device("cpu")))
    numerics = replace(numerics_of(train, "cpu"), resident=True)
    return TrainingStep(model, train, numerics, forward=net, class_weights=None)


def steps(run: Any, step: TrainingStep, size: int, seed: int) -> None:
    """Three steps of seven images in three unequal parts."""
    with rng.isolated(seed):
        for number in range(3):
            parts = [(torch.randn(count, 3, size, size), torch.rand(count, 3).softmax(1)) for count in (3, 2, 2)]
            step.prepare(0.01 * (number + seed))
            run(parts, 7)


def values(step: TrainingStep) -> list[torch.Tensor]:
    held = GraphedStep(step, step.forward, tape.record)._tensors()  # type: ignore[arg-type]
    return [value.detach().clone() for value in held]


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "sgd", "clip_grad": 0.0}, {"optimizer": "lamb"}, {"precision": "fp16"}, {"precision": "bf16"}],
    ids=["adamw", "sgd", "lamb", "fp16", "bf16"],
)
def test_recorded_steps_compute_the_same_to_the_bit(settings: dict[str, Any]) -> None:
    """For two sizes, and when a checkpoint is loaded into a step that is recorded already."""
    train = TrainConfig(ema=Ema(decay=0.9), **settings)
    eager, recorded = small(train), small(train)
    graphed = GraphedStep(recorded, recorded.forward, tape.record)  # type: ignore[arg-type]
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


def test_recorded_trainings_compute_the_same_to_the_bit(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: None
) -> None:
    """With dropout, stochastic depth, two sizes, unequal parts, averages, and a resume inside of a stage."""
    config = three_epochs()
    plain = run(config, cache, tmp_path / "plain")
    sizes: list[int] = []

    def record(work: Work, size: int) -> Work:
        sizes.append(size)
        return tape.record(work, size)

    monkeypatch.setattr(Engine, "_recorder", lambda self: record)
    first = run(config, cache, tmp_path / "recorded", epochs=2)
    assert sizes == [16, 24, 24], "one step for each size, and one batch of the evaluation"
    second = run(config, cache, tmp_path / "recorded")
    assert first + second[1:] == plain
    assert differences(tmp_path / "recorded", tmp_path / "plain") == []


def test_numbers_on_the_device_train_the_same_weights_as_numbers_of_the_host(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = three_epochs(layer_decay=0.8)
    run(config, cache, tmp_path / "host", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "numerics_of", lambda *given: replace(numerics_of(*given), resident=True))
        run(config, cache, tmp_path / "device", epochs=1)
        assert differences(tmp_path / "device", tmp_path / "host", "model.") == []
        averages = [state(tmp_path / name) for name in ("device", "host")]
        for name in averages[0]:
            torch.testing.assert_close(averages[0][name], averages[1][name])
        run(config, cache, tmp_path / "host")  # a checkpoint of either kind continues with the other
    run(config, cache, tmp_path / "device")
    for name, value in state(tmp_path / "device").items():
        torch.testing.assert_close(value, state(tmp_path / "host")[name], rtol=1e-3, atol=1e-4)


def test_a_training_that_cannot_be_recorded_goes_on_without_graphs(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = three_epochs()
    attempts: list[int] = []

    def fails(work: Work, size: int) -> Work:
        attempts.append(size)
        raise failed("the network", "it waits")

    monkeypatch.setattr(Engine, "_recorder", lambda self: None if self.refusals else fails)
    where = str(tmp_path / "cache")
    with pytest.raises(RecordingFailed, match=r"of the network cannot be recorded .*it waits.*goes on from the last"):
        run(config, where, tmp_path / "trial")
    again = run(config, where, tmp_path / "trial")
    assert [metrics["epoch"] for metrics in again] == [1, 2, 3]
    assert attempts == [16], "no process tries it again"
    other = replace(config, model=replace(config.model, name="test_resnet"))
    with pytest.raises(RecordingFailed):
        run(other, where, tmp_path / "other")


def test_a_tape_refuses_work_that_waits_for_a_value() -> None:
    total = torch.zeros(())
    with pytest.raises(RecordingFailed, match="not permitted"):
        tape.record(lambda: total.add_(total.item()), 8)
