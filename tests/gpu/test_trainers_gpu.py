"""The training engine on CUDA: no waiting inside an epoch, memory errors in words, batches that fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training import TINY, context
from trainers import data, finetune, rng
from trainers.api import Context, OutOfMemory, TrialConfig
from trainers.loop.engine import Engine
from trainers.network import model as models
from trainers.numerics import numerics_of, session

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def small_memory() -> Iterator[None]:
    """A process that may use 2 GiB of the device."""
    models._kept.clear()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2 * 2**30 / torch.cuda.mem_get_info()[1])
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def on_cuda(cache: str, folder: Path) -> Context:
    return replace(context(cache, folder), device="cuda")


def changed(**train: Any) -> TrialConfig:
    return replace(TINY, train=replace(TINY.train, **train))


@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [("bf16", "adamw"), ("bf16", "sgd"), ("tf32", "adamw"), ("tf32", "sgd"), ("fp16", "adamw"), ("fp16", "rmsprop")],
)
def test_no_training_step_waits_for_the_gpu(
    precision: str, optimizer: str, cuda_graphs: bool, cache: str, tmp_path: Path
) -> None:
    config = changed(precision=precision, optimizer=optimizer, accumulate=2, cuda_graphs=cuda_graphs)
    where = on_cuda(cache, tmp_path)
    numerics = numerics_of(config.train, "cuda")
    images, _ = data.train_and_validation(config.data, cache, "cuda")
    with session(where, numerics):
        engine = Engine(config, where, numerics, images)
        engine.model.train()
        run = engine.graphed or engine.step
        for mode in ("default", "error"):  # recording a graph waits, once; replaying it does not
            torch.cuda.set_sync_debug_mode(mode)
            try:
                parts = engine.batches.parts(images.indices[:120], 40, engine.plan[-1], rng.generator(0, "cuda"))
                for _ in range(3):
                    engine.step.prepare(1e-3)
                    run(itertools.islice(parts, 2), 40)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    assert engine.step.losses.isfinite()


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp32"])
def test_a_training_on_the_gpu_lowers_the_loss_and_resumes(precision: str, cache: str, tmp_path: Path) -> None:
    config = changed(precision=precision, epochs=6)
    stream = finetune.train(config, on_cuda(cache, tmp_path))
    first = [next(stream) for _ in range(3)]
    stream.close()
    rest = list(finetune.train(config, on_cuda(cache, tmp_path)))
    assert [metrics.epoch for metrics in rest] == [3, 4, 5, 6]
    assert rest[0].val_accuracy == first[-1].val_accuracy
    assert rest[-1].train_loss < first[0].train_loss


def test_images_are_on_the_gpu_only_once(cache: str) -> None:
    images, _ = data.train_and_validation(TINY.data, cache, "cuda")
    other, _ = data.train_and_validation(replace(TINY.data, split_seed=3), cache, "cuda")
    assert images.images.is_cuda
    assert images.images.dtype is torch.uint8
    assert images.images.data_ptr() == other.images.data_ptr()


def test_a_training_computes_the_same_if_its_images_are_sent_from_the_host(cache: str, tmp_path: Path) -> None:
    config = changed(epochs=2, accumulate=2, compile=False)
    train, validation = data.train_and_validation(config.data, cache, "cuda")
    away = {"images": train.images.cpu(), "place": "host"}
    results = []
    for parts in ((train, validation), (replace(train, **away), replace(validation, **away))):
        where = on_cuda(cache, tmp_path)
        numerics = numerics_of(config.train, "cuda")
        with session(where, numerics), closing(Engine(config, where, numerics, parts[0])) as engine:
            losses = [engine.run_epoch(epoch).train_loss for epoch in (1, 2)]
            results.append((losses, engine.score(parts[1])))
    assert results[0] == results[1]


def test_running_out_of_gpu_memory_ends_only_one_trial(small_memory: None, cache: str, tmp_path: Path) -> None:
    progressive = replace(TINY.train.progressive, stages=1, sizes=(1024,))
    big = changed(progressive=progressive, batch_size=160)
    with pytest.raises(OutOfMemory, match="training stage 0 at 1024 px with batches of 160") as caught:
        list(finetune.train(big, on_cuda(cache, tmp_path / "big")))
    assert torch.cuda.memory_reserved() < 2**29, "what the failed step held is free while the error is still around"
    assert caught.value is not None
    assert len(list(finetune.train(TINY, on_cuda(cache, tmp_path / "next")))) == 4


def test_automatic_batches_fit_into_gpu_memory(small_memory: None, cache: str, tmp_path: Path) -> None:
    config = replace(TINY, data=replace(TINY.data, train_limit=4000))
    progressive = replace(TINY.train.progressive, stages=1, sizes=(256,))
    config = replace(
        config, train=replace(TINY.train, progressive=progressive, batch_size="auto", epochs=1, warmup_epochs=0.0)
    )
    batches = []
    for part in (1.0, 0.5):
        share = part * 2 * 2**30 / torch.cuda.mem_get_info()[1]
        where = replace(on_cuda(cache, tmp_path / str(part)), device_share=share)
        (metrics,) = finetune.train(config, where)
        batches.append(metrics.batch_size)
    whole, half = batches
    assert whole % 8 == half % 8 == 0
    assert 8 <= half < whole <= 1024


def test_compiled_training_gives_the_same_losses_as_eager_training(cache: str, tmp_path: Path) -> None:
    losses = {}
    for compile_it in (False, True):
        config = changed(compile=compile_it, precision="fp32", epochs=2)
        stream = finetune.train(config, on_cuda(cache, tmp_path / str(compile_it)))
        losses[compile_it] = [metrics.val_loss for metrics in stream]
    assert losses[True] == pytest.approx(losses[False], rel=0.05)


def test_the_parts_of_a_batch_follow_from_the_memory(small_memory: None, cache: str, tmp_path: Path) -> None:
    progressive = replace(TINY.train.progressive, sizes=(64, 512))
    config = changed(progressive=progressive, accumulate="auto", batch_size=160)
    parts = [metrics.own["accumulate"] for metrics in finetune.train(config, on_cuda(cache, tmp_path)) if metrics.own]
    assert parts[0] == parts[1] <= parts[2] == parts[3]
    assert parts[3] > 1
