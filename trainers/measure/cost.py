"""The cost of a training, measured on real steps of the last stage, which also shows that it fits into memory."""

from __future__ import annotations

import dataclasses
import os
import resource
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from trainers import data
from trainers.api import Context, TrialConfig
from trainers.loop.engine import Engine
from trainers.numerics import numerics_of, session

PATIENCE_S = 20.0
"""The first step also allocates memory and chooses kernels. If it takes less than this, a second step is measured."""


@dataclass(frozen=True)
class Cost:
    """The cost of one optimiser step and one evaluation batch at the last stage."""

    parameters: int
    """Number of parameters of the model."""
    checkpoint_bytes: int
    """Size of a checkpoint: weights, averaged weights and the optimiser's state."""
    size: int
    """Training image size, pixels."""
    batch: int
    """Images per step."""
    step_seconds: float
    """Wall-clock seconds of one step."""
    eval_size: int
    """Image size of evaluations, pixels."""
    eval_seconds: float
    """Wall-clock seconds of the evaluation per image."""
    train_images: int
    validation_images: int
    memory_bytes: int
    """Peak memory of the device, or of the whole process on the CPU."""
    memory_available: int
    """Memory of the device, or of the machine on the CPU."""


def measure(config: TrialConfig, context: Context) -> Cost:
    """Train one or two steps of the last stage and evaluate one batch, from random weights; return their cost.

    Nothing is saved, but the data cache is filled, as by any trial.

    Raises:
        DataError, WeightsError: for the same reasons as in `trainers.finetune.train`.
        OutOfMemory: the step does not fit into memory; the text names the stage, the size and the batch.
    """
    # The values of the weights do not change the cost, but a download may take long.
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, pretrained=False))
    numerics = numerics_of(config.train, context.device)
    with session(context, numerics):
        images, validation = data.train_and_validation(
            config.data, context.cache_dir, context.device, context.device_share
        )
        _reset_peak(context.device)
        engine = Engine(config, context, numerics, images)
    with closing(engine), session(context, numerics):
        stage = engine.plan[-1]
        batch = engine.batch_of(stage)
        engine.batches.images = dataclasses.replace(images, indices=images.indices[:batch])
        seconds = _step(engine, stage.last_epoch)
        if seconds < PATIENCE_S:
            seconds = _step(engine, stage.last_epoch)
        scored = dataclasses.replace(validation, indices=validation.indices[: config.train.eval_batch_size])
        engine.score(scored)
        started = time.perf_counter()
        engine.score(scored)
        eval_seconds = (time.perf_counter() - started) / len(scored)
        peak, available = _memory(context.device)
        cost = Cost(
            parameters=sum(parameter.numel() for parameter in engine.model.net.parameters()),
            checkpoint_bytes=_bytes(engine.tensors()) + _bytes(engine.state()),
            size=stage.size,
            batch=batch,
            step_seconds=seconds,
            eval_size=engine.eval_size,
            eval_seconds=eval_seconds,
            train_images=len(images),
            validation_images=len(validation),
            memory_bytes=peak,
            memory_available=available,
        )
    return cost


def _step(engine: Engine, epoch: int) -> float:
    return engine.run_epoch(epoch).seconds


def _bytes(state: Any) -> int:
    """The bytes of all tensors in nested mappings and lists."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(_bytes, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(_bytes, state))
    return 0


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _memory(device: str) -> tuple[int, int]:
    """(peak, available) memory, bytes."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kB
    return peak, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
