"""The contenders, which run the same training in three ways: bare steps, this engine, and timm's loader and loop.

Each measurement builds a new network and optimiser before the clock starts. All contenders use the same network,
optimiser, precision, number of threads and batch; none clips gradients.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import timm.data
import timm.loss
import timm.optim
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from trainers import data, finetune
from trainers.api import (
    AlphaRamp,
    Augment,
    Context,
    DataConfig,
    Ema,
    MagnitudeRamp,
    ModelConfig,
    Progressive,
    RateRamp,
    SizeRamp,
    TrainConfig,
    TrialConfig,
)
from trainers.augment.magnitude import to_timm
from trainers.augment.randaugment import MAGNITUDE_STD
from trainers.checkpoint import DirectoryStore
from trainers.loop import optimizers
from trainers.loop.cuda_graphs import CudaRecorder, Recorder, Refusals, Work, failed
from trainers.numerics import Numerics, numerics_of, session

TIMM: Any = timm
"""timm without types, which half of the functions used here lack."""
MAGNITUDE, LAYERS, MIXUP, SMOOTHING = 9.0, 2, 0.2, 0.1


@dataclass(frozen=True)
class Case:
    """One row of the benchmark."""

    model: str
    size: int
    """Pixels."""
    device: str
    batch: int
    steps: int
    """Optimiser steps of one measurement, one epoch."""
    threads: int
    workers: int
    """Processes of the peer's loader."""
    source: DataConfig
    cache_dir: str

    def config(self, *, ema: bool = False, cuda_graphs: bool = False, compiled: bool = False) -> TrialConfig:
        """Return the engine's configuration: RandomResizedCrop, flips, RandAugment, mixup, label smoothing."""
        return TrialConfig(
            data=replace(self.source, train_limit=self.batch * self.steps, validation_limit=10),
            model=ModelConfig(name=self.model, pretrained=False),
            train=TrainConfig(
                epochs=2 if cuda_graphs or compiled else 1,  # the first contains the recording or the compilation
                batch_size=self.batch,
                optimizer="adamw",
                lr=1e-4,
                schedule="constant",
                clip_grad=0,
                label_smoothing=SMOOTHING,
                ema=Ema(decay=0.999 if ema else 0),
                cuda_graphs=cuda_graphs,
                compile=compiled,
                eval_size=32,
                augment=Augment(crop="resized", randaugment_layers=LAYERS),
                progressive=Progressive(
                    stages=1,
                    size=SizeRamp(end=self.size),
                    randaugment=MagnitudeRamp(end=MAGNITUDE),
                    dropout=RateRamp(end=0),
                    mixup=AlphaRamp(end=MIXUP),
                ),
            ),
        )

    @cached_property
    def images(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
        """The images (N, 3, H, W) and labels (N,) of all contenders, and the number of classes."""
        train, _ = data.train_and_validation(self.config().data, self.cache_dir, "cpu")
        return train.images[train.indices].numpy(), train.labels[train.indices].numpy(), len(train.classes)


Contender = Callable[[], float]
"""Makes one measurement; returns images per second."""


def limit(case: Case, recorder: Recorder | None = None) -> Contender:
    """Return the contender of bare steps: forward, loss, backward and optimiser, on one fixed batch.

    With a recorder, the step is recorded before the clock starts and then repeated: the limit of steps that the host
    starts with one call.
    """

    def measure() -> float:
        train, context = case.config().train, _context(case, "")
        numerics = numerics_of(train, case.device)
        with session(context, numerics):
            step = _bare_step(case, replace(numerics, resident=recorder is not None))
            run = recorder(step, case.size) if recorder else step
            with _clock(case) as seconds:
                for _ in range(case.steps):
                    run()
        return case.batch * case.steps / seconds()

    return measure


def graph_limit(case: Case) -> Contender:
    """Return the contender of bare steps that are one CUDA graph."""
    return limit(case, CudaRecorder(case.device, case.model))


def _bare_step(case: Case, numerics: Numerics) -> Work:
    network, train = _network(case, numerics), case.config().train
    optimizer = optimizers.create(train, network, resident=numerics.resident)
    optimizers.set_lr(optimizer, train.lr)
    pixels = torch.randn(case.batch, 3, case.size, case.size, device=case.device)
    pixels = pixels.contiguous(memory_format=numerics.memory_format)
    targets = torch.full((case.batch, case.images[2]), 1 / case.images[2], device=case.device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with numerics.autocast():
            logits = network(pixels)
        F.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def engine(case: Case, **switches: bool) -> Contender:
    """Return the contender of this project's trainer: one complete epoch of `finetune.train`, with data and metrics.

    `switches` are the arguments of `Case.config`. The speed is the one that the trainer reports for its last epoch,
    without evaluation and checkpoint.

    The measurement raises `RecordingFailed` if the engine would not try to record, because it failed earlier here.
    """

    def measure() -> float:
        config = case.config(**switches)
        if config.train.cuda_graphs and Refusals.of(config, numerics_of(config.train, case.device), case.cache_dir):
            raise failed(case.model, "as an earlier attempt has shown")
        with tempfile.TemporaryDirectory() as folder:
            *_, metrics = finetune.train(config, _context(case, folder))
        assert metrics.images_per_second is not None
        return metrics.images_per_second

    return measure


def peer(case: Case) -> Contender:
    """Return the contender with loader, augmentation, mixup, optimiser and loop of timm's training script.

    The workers persist from one measurement to the next.
    """
    loader = _timm_loader(case)

    def measure() -> float:
        train, context = case.config().train, _context(case, "")
        numerics = numerics_of(train, case.device)
        trained = _network(case, numerics)
        optimizer = TIMM.optim.create_optimizer_v2(trained, opt="adamw", lr=train.lr, weight_decay=train.weight_decay)
        criterion = TIMM.loss.SoftTargetCrossEntropy()
        with session(context, numerics), _clock(case) as seconds:
            count = 0
            for pixels, targets in loader:
                pixels = pixels.contiguous(memory_format=numerics.memory_format)
                with numerics.autocast():
                    loss = criterion(trained(pixels), targets)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                count += len(pixels)
        return count / seconds()

    return measure


def _timm_loader(case: Case) -> Any:
    """timm's loader: its prefetcher normalises on the device, and `FastCollateMixup` mixes in the workers.

    RandAugment applies every operation that it draws (`p1.0`), as this engine does.
    """
    images, labels, classes = case.images
    described = TIMM.create_model(case.model)
    return TIMM.data.create_loader(
        Pictures(images, labels),
        input_size=(3, case.size, case.size),
        batch_size=case.batch,
        is_training=True,
        auto_augment=to_timm(MAGNITUDE, layers=LAYERS, std=MAGNITUDE_STD),
        color_jitter=0.0,
        interpolation="bilinear",
        mean=described.pretrained_cfg["mean"],
        std=described.pretrained_cfg["std"],
        num_workers=case.workers,
        collate_fn=TIMM.data.FastCollateMixup(
            mixup_alpha=MIXUP, mode="elem", label_smoothing=SMOOTHING, num_classes=classes
        ),
        pin_memory=case.device.startswith("cuda"),
        device=torch.device(case.device),
    )


class Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """Pillow images for timm's transforms; `create_loader` sets `transform`."""

    transform: Callable[[Image.Image], Any]

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.images, self.labels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


def _network(case: Case, numerics: Numerics) -> nn.Module:
    network: nn.Module = timm.create_model(case.model, num_classes=case.images[2])
    return network.to(case.device).to(memory_format=numerics.memory_format).train()


def _context(case: Case, folder: str) -> Context:
    return Context(
        seed=0,
        checkpoints=DirectoryStore(folder),
        device=case.device,
        threads=case.threads,
        cache_dir=case.cache_dir,
    )


@contextmanager
def _clock(case: Case) -> Iterator[Callable[[], float]]:
    """Measure the seconds of the block, with the work of the device."""
    taken = [0.0]
    _finish(case.device)
    started = time.perf_counter()
    yield lambda: taken[0]
    _finish(case.device)
    taken[0] = time.perf_counter() - started


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
