"""Recorded steps and evaluations compute the same as those that the host starts, shown with a tape on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import tape
from tests.support.recorded import assert_recorded_steps_equal, differences, run, state, three_epochs
from trainers import finetune
from trainers.api import RecordingFailed
from trainers.loop.cuda_graphs import Work, failed
from trainers.loop.engine import Engine
from trainers.numerics import Numerics, numerics_of


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that change are tensors, as on a GPU."""

    def on_gpu(train: Any, device: str) -> Numerics:
        return replace(numerics_of(train, device), resident=True)

    monkeypatch.setattr(finetune, "numerics_of", on_gpu)


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "sgd", "clip_grad": 0.0}, {"optimizer": "lamb"}, {"precision": "fp16"}, {"precision": "bf16"}],
    ids=["adamw", "sgd", "lamb", "fp16", "bf16"],
)
def test_recorded_steps_compute_the_same_to_the_bit(settings: dict[str, Any]) -> None:
    assert_recorded_steps_equal(settings, tape.record)


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
