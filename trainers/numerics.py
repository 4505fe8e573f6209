"""torch's process-wide settings, changed for a block and restored afterwards; out-of-memory errors in plain words."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from trainers.api import Context, OutOfMemory, TrainConfig

KERNEL_SEARCH_PASSES = 10_000
"""Fewest forward and backward passes of one shape, those of all micro-batches of a stage, for which cuDNN first tries
all of its kernels. On an H100 this took 13 to 25 s for each new image size, as long as about 400 steps, too long for a
search with several sizes per trial."""

HOST_MEMORY = "can't allocate memory"
MEMORY_WORDS = (
    HOST_MEMORY,
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
)
"""Parts of the messages with which torch and CUDA libraries report a lack of memory."""


@dataclass(frozen=True)
class Numerics:
    """The device, precision and memory layout of one training."""

    device: str
    autocast_dtype: torch.dtype | None
    """bf16 or fp16 for autocast; None: float32 without autocast."""
    tf32: bool
    """Whether float32 matrix products and convolutions may use TF32."""
    memory_format: torch.memory_format
    resident: bool = False
    """Whether numbers that change from step to step are tensors on the device, so that a step can be recorded there."""

    @property
    def scaled(self) -> bool:
        """Whether the gradients need a loss scaler, because the range of fp16 is too small for them."""
        return self.autocast_dtype is torch.float16

    def autocast(self) -> AbstractContextManager[None]:
        """Return the autocast context, which does nothing in float32."""
        enabled = self.autocast_dtype is not None
        kind = torch.device(self.device).type
        return torch.autocast(kind, dtype=self.autocast_dtype or torch.bfloat16, enabled=enabled)


def numerics_of(train: TrainConfig, device: str) -> Numerics:
    """Return the numerics of a training. `precision: auto` means bf16 on GPUs that support it, otherwise float32."""
    precision = train.precision
    if precision == "auto":
        bf16 = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
        precision = "bf16" if bf16 else "fp32"
    return Numerics(
        device=device,
        autocast_dtype={"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision),
        tf32=precision == "tf32",
        memory_format=torch.channels_last if train.channels_last else torch.contiguous_format,
        resident=device.startswith("cuda"),
    )


@contextmanager
def session(context: Context, settings: Numerics) -> Iterator[None]:
    """Set the threads, the float32 precision and cuDNN's choice of kernels of this training; restore them afterwards.

    cuDNN chooses kernels by its heuristics, except inside `search_kernels`. The precision is set through `allow_tf32`
    alone: after a part of the newer `fp32_precision` is set, torch refuses to read `allow_tf32`, so that
    `torch.backends.cudnn.flags()` fails too. What is set through `allow_tf32` can be read both ways.
    """
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    users = {kind: kind.fp32_precision for kind in (matmul, cudnn.conv, cudnn.rnn)}
    before = (torch.get_num_threads(), cudnn.benchmark)
    if context.threads is not None:
        torch.set_num_threads(context.threads)
    matmul.allow_tf32 = cudnn.allow_tf32 = settings.tf32
    cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cudnn.benchmark = before[1]
        matmul.allow_tf32, cudnn.allow_tf32 = users[matmul] == "tf32", users[cudnn.conv] == "tf32"
        for kind, precision in users.items():
            kind.fp32_precision = precision


@contextmanager
def search_kernels(passes: int) -> Iterator[None]:
    """Let cuDNN try all kernels inside the block if there are enough `passes` of one shape to make that worthwhile."""
    cudnn: Any = torch.backends.cudnn
    before = cudnn.benchmark
    cudnn.benchmark = passes >= KERNEL_SEARCH_PASSES
    try:
        yield
    finally:
        cudnn.benchmark = before


@contextmanager
def memory_errors(doing: str) -> Iterator[None]:
    """Convert a lack of device or host memory into an `OutOfMemory` error; `doing` says what the program was doing.

    The memory of the failed step is freed. Otherwise the frames of the error would keep it, and the next trial of this
    process would find the device full.
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
    """The text of the `OutOfMemory` error, or None for another kind of error."""
    if isinstance(error, MemoryError):
        return f"out of memory while {doing}"
    if not lacks_memory(error):
        return None
    kind = "memory" if HOST_MEMORY in str(error) else "device memory"
    return f"out of {kind} while {doing}: {_first_line(error)}"


def lacks_memory(error: Exception) -> bool:
    """Return whether an error of torch means that the host or the device is out of memory.

    Such errors come from the allocator, and from contexts, library handles and workspaces that got no memory.
    """
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MEMORY_WORDS)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
