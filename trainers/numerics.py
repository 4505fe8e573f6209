"""Process-wide settings of torch, set around a piece of work and put back; memory errors in words."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from trainers.api import Context, OutOfMemory, TrainConfig

KERNEL_SEARCH_STEPS = 10_000
"""Optimiser steps of one stage from which on cuDNN may try out all of its kernels first. On an H100 that took 13 to
25 s for each new image size, as long as some 400 steps: a search with several sizes per trial would do little else."""


HOST_MEMORY = "can't allocate memory"
MEMORY_WORDS = (
    HOST_MEMORY,
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)


@dataclass(frozen=True)
class Numerics:
    """How one training computes."""

    device: str
    autocast_dtype: torch.dtype | None
    """bf16 or fp16 autocast; None computes in float32."""
    tf32: bool
    memory_format: torch.memory_format

    @property
    def scaled(self) -> bool:
        """Whether gradients need a loss scaler: fp16's range is too small for them."""
        return self.autocast_dtype is torch.float16

    def autocast(self) -> AbstractContextManager[None]:
        """Autocast as asked for, or nothing."""
        enabled = self.autocast_dtype is not None
        kind = torch.device(self.device).type
        return torch.autocast(kind, dtype=self.autocast_dtype or torch.bfloat16, enabled=enabled)


def numerics_of(train: TrainConfig, device: str) -> Numerics:
    """Resolve `precision: auto`: bf16 on CUDA devices that have it, float32 elsewhere."""
    precision = train.precision
    if precision == "auto":
        bf16 = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if bf16 else "fp32"
    return Numerics(
        device=device,
        autocast_dtype={"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision),
        tf32=precision == "tf32",
        memory_format=torch.channels_last if train.channels_last else torch.contiguous_format,
    )


@contextmanager
def session(context: Context, settings: Numerics) -> Iterator[None]:
    """Threads, float32 precision and cuDNN's choice of kernels as this training wants them, then as before.

    Kernels are chosen by cuDNN's heuristics; `search_kernels` says where they are tried out.
    """
    cudnn: Any = torch.backends.cudnn
    matmul, conv = torch.backends.cuda.matmul, cudnn.conv
    before = (torch.get_num_threads(), matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark)
    if context.threads is not None:
        torch.set_num_threads(context.threads)
    matmul.fp32_precision = conv.fp32_precision = "tf32" if settings.tf32 else "ieee"
    cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        matmul.fp32_precision, conv.fp32_precision, cudnn.benchmark = before[1:]


@contextmanager
def search_kernels(steps: int) -> Iterator[None]:
    """Have cuDNN try out its kernels inside where `steps`, all of one shape, repay that."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark
    cudnn.benchmark = steps >= KERNEL_SEARCH_STEPS
    try:
        yield
    finally:
        cudnn.benchmark = before


@contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Turn running out of device or host memory into an `OutOfMemory` that says what was going on.

    What the failed step had allocated is given back: the error's frames would keep it for as long as somebody has
    the error, and the next trial of this process would meet a full device.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        reason = _memory_reason(error, doing)
        if reason is None:
            raise
        traceback.clear_frames(error.__traceback__)
        failure = OutOfMemory(reason)
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise failure


def _memory_reason(error: Exception, doing: str) -> str | None:
    """None where the error is of another kind."""
    if isinstance(error, MemoryError):
        return f"out of memory {doing}"
    if not lacks_memory(error):
        return None
    kind = "memory" if HOST_MEMORY in str(error) else "device memory"
    return f"out of {kind} {doing}: {_first_line(error)}"


def lacks_memory(error: Exception) -> bool:
    """Whether an error of torch says that memory ran out, of the host or of the device: the allocator's own, and those
    of a context, a library's handle or a workspace that found none left."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MEMORY_WORDS)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
