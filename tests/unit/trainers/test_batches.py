"""Batches and their parts: no part of one image where there are two, and statistics from whole parts only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.training import context
from trainers.api import ModelConfig, Progressive, TrainConfig, TrainerError, TrialConfig
from trainers.data import Images
from trainers.loop.batches import micro_batches
from trainers.loop.engine import Engine
from trainers.numerics import numerics_of
from trainers.schedule import stages

MODEL = ModelConfig(name="test_resnet", pretrained=False)
"""At 32 px its last feature map is one pixel: one image gives batch normalisation a single value."""


def images(count: int) -> Images:
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.arange(count) % 4, torch.arange(count), ("a", "b", "c", "d"))


def engine(folder: Path, count: int, train: TrainConfig) -> Engine:
    config = TrialConfig(model=MODEL, train=train)
    return Engine(config, context(str(folder), folder), numerics_of(train, "cpu"), images(count))


def one_stage(size: int = 32) -> Progressive:
    return Progressive(stages=1, sizes=(size,))


def test_no_part_of_a_batch_is_a_single_image_unless_the_batch_is() -> None:
    for batch in range(1, 40):
        for accumulate in range(1, 45):
            parts = micro_batches(batch, accumulate)
            assert sum(parts) == batch
            assert max(parts) - min(parts) <= 1
            assert len(parts) <= accumulate
            assert min(parts) >= min(batch, 2)
    assert micro_batches(12, 4) == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("count", "batch", "accumulate"),
    [(16, 8, 8), (16, 8, 16), (16, 7, 4), (3, 64, 2), (5, 64, 64), (17, 16, 1), (20, "auto", 20)],
)
def test_no_number_of_parts_and_images_leaves_batch_norm_a_single_value(
    tmp_path: Path, count: int, batch: int, accumulate: int
) -> None:
    train = TrainConfig(epochs=1, batch_size=batch, accumulate=accumulate, progressive=one_stage())
    assert engine(tmp_path, count, train).run_epoch(1).train_loss > 0


@pytest.mark.parametrize(("count", "batch"), [(8, 1), (1, 8), (1, "auto")])
def test_a_batch_of_one_image_that_cannot_be_normalised_is_one_sentence(tmp_path: Path, count: int, batch: int) -> None:
    train = TrainConfig(epochs=1, batch_size=batch, progressive=one_stage())
    with pytest.raises(
        TrainerError, match=r"a batch of one image of 32 px leaves a normalisation layer a single value"
    ):
        engine(tmp_path, count, train).run_epoch(1)
    larger = TrainConfig(epochs=1, batch_size=batch, progressive=one_stage(64))
    assert engine(tmp_path, count, larger).run_epoch(1).images == count


@pytest.mark.parametrize(("at_once", "size"), [(20 * 16**2, 16), (5 * 16**2, 16), (100 * 16**2, 16)])
def test_the_images_of_a_gpu_do_not_depend_on_the_parts_of_a_batch(tmp_path: Path, at_once: int, size: int) -> None:
    """The parts follow from its memory; a resume on another GPU repeats the same draws."""
    pixels = []
    for accumulate in (1, 3):
        train = TrainConfig(epochs=1, batch_size=8, accumulate=accumulate, progressive=one_stage(size))
        batches = engine(tmp_path, 40, train).batches
        batches.pixels_at_once = at_once
        stage = stages(train.progressive, 1)[0]
        parts = list(batches.epoch(1, stage, 8))
        assert [len(images) for images, _ in parts] == micro_batches(8, accumulate) * 5
        pixels.append(torch.cat([images for images, _ in parts]))
    assert torch.equal(*pixels)


@pytest.mark.parametrize(
    ("count", "batch", "accumulate", "expected"),
    [(65, 32, 1, [32, 32]), (65, 32, 4, [8] * 8), (33, 64, 1, [33]), (2, 64, 1, [2]), (700, 32, 1, [32] * 20)],
)
def test_statistics_are_estimated_on_whole_batches_only(
    tmp_path: Path, count: int, batch: int, accumulate: int, expected: list[int]
) -> None:
    progressive = Progressive(stages=2, sizes=(16, 32), reset_batchnorm=True)
    train = TrainConfig(epochs=2, batch_size=batch, accumulate=accumulate, progressive=progressive)
    prepared = engine(tmp_path, count, train)
    stage = prepared.plan[1]
    parts = list(prepared.batches.for_statistics(2, stage, prepared.batch_of(stage)))
    assert [len(part) for part in parts] == expected


def test_a_leftover_image_does_not_stop_the_estimation_of_statistics(tmp_path: Path) -> None:
    progressive = Progressive(stages=2, sizes=(16, 32), reset_batchnorm=True)
    train = TrainConfig(epochs=2, batch_size=32, progressive=progressive)
    assert engine(tmp_path, 65, train).run_epoch(2).images == 64
