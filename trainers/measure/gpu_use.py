"""What a training needs of a GPU: its memory, and the share of the time in which the GPU is busy with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext

import torch
from torch.profiler import ProfilerActivity, profile

from trainers import data
from trainers.api import Context, GpuUse, TrialConfig
from trainers.data import Images
from trainers.loop.engine import Engine
from trainers.numerics import numerics_of, session

STEPS = 16
"""Steps that are measured. In a single one, the wait for its end would count for too much."""
CONTEXT_BYTES = 2**29
"""Memory that CUDA itself takes for a process before it does anything: half a gibibyte, an assumption on the safe side.
Nothing that runs inside the process can measure it."""


def measure_gpu_use(config: TrialConfig, context: Context) -> GpuUse:
    """Train some steps of the last stage and evaluate a batch, from random weights.

    The memory is the peak of what torch has reserved, recorded graphs included, and what libraries took besides. A
    checkpoint needs none: it is copied to the host. Not seen is the workspace of cuDNN's search for kernels, which only
    long stages begin with. The
    busy share is the time in which kernels and copies ran, as torch's profiler saw it, of the time that the same steps
    take without the profiler, which delays the host. NVML's utilisation would count other programs, too, and needs
    seconds for a value.

    Raises:
        DataError, OutOfMemory, TrainerError: as `trainers.finetune.train`.
    """
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, pretrained=False))
    numerics, device = numerics_of(config.train, context.device), context.device
    torch.zeros(1, device=device)  # now the process has its context
    free, total = torch.cuda.mem_get_info(device)
    with session(context, numerics):
        images, validation = data.train_and_validation(config.data, context.cache_dir, device, context.device_share)
        engine = Engine(config, context, numerics, images)
    with closing(engine), session(context, numerics):
        epoch = engine.plan[-1].last_epoch
        some = engine.batch_of(engine.plan[-1]) * STEPS
        engine.batches.images = dataclasses.replace(images, indices=images.indices[:some])
        engine.run_epoch(epoch)  # kernels are chosen, graphs recorded
        _evaluate(engine, validation)
        seconds = engine.run_epoch(epoch).seconds
        busy = busy_seconds(lambda: engine.run_epoch(epoch), device)
        left, _ = torch.cuda.mem_get_info(device)
        besides = max(0, free - left - torch.cuda.memory_reserved(device))
        peak = torch.cuda.max_memory_reserved(device)
    return GpuUse(
        gpu=torch.cuda.get_device_name(device),
        total_bytes=total,
        free_bytes=free,
        memory_bytes=peak + besides + CONTEXT_BYTES,
        busy=min(1.0, busy / seconds),
    )


def _evaluate(engine: Engine, validation: Images) -> None:
    scored = dataclasses.replace(validation, indices=validation.indices[: engine.config.train.eval_batch_size])
    with engine.average.applied() if engine.average else nullcontext():
        engine.score(scored)


def busy_seconds(run: Callable[[], object], device: str) -> float:
    """Return for how many seconds the device computed or copied while `run` did."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize(device)
    spans = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not event.is_user_annotation  # those span the pauses, too
    ]
    return covered(spans) / 1e6


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of (start, end) spans: work of several streams at once counts once."""
    length, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        length += max(0.0, end - max(start, until))
        until = max(until, end)
    return length
