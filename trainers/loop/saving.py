"""Checkpoints that are written while the training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from trainers.api import CheckpointStore


class CheckpointWriter:
    """Stores the checkpoints of one training, one after another.

    With `overlapped`, `save` copies everything to the host's memory and returns; a thread writes the copy. The next
    `save` and the end of the block wait for it, so nothing is written twice at once and nothing is lost. A kill leaves
    the earlier checkpoint, because a store completes a checkpoint with its last file.
    """

    def __init__(self, store: CheckpointStore, *, overlapped: bool) -> None:
        self._store, self._overlapped = store, overlapped
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[str] | None = None
        self._digest: str | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        finally:
            self._threads.shutdown()

    def save(self, epoch: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Store the checkpoint of `epoch` (from 1).

        Raises:
            OSError: the earlier checkpoint, or without `overlapped` this one, cannot be written.
        """
        self.wait()
        if not self._overlapped:
            self._digest = self._store.save(epoch, tensors, state)
            return
        copies = on_host((dict(tensors), dict(state)))
        _arrived()
        self._running = self._threads.submit(self._store.save, epoch, *copies)

    def wait(self) -> None:
        """Wait until the last checkpoint is written completely.

        Raises:
            OSError: it could not be written.
        """
        running, self._running = self._running, None
        if running is not None:
            self._digest = running.result()

    def written(self) -> str | None:
        """Return the SHA-256 of a checkpoint that has been completed since the last call; None if there is none."""
        if self._running is not None and self._running.done():
            self.wait()
        digest, self._digest = self._digest, None
        return digest


def on_host(value: Any) -> Any:
    """Copy all tensors in nested mappings, lists and tuples to the host's memory, pinned where they come from CUDA.

    The copies from CUDA may still be on their way.
    """
    if isinstance(value, Tensor):
        copy = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return copy.copy_(value.detach(), non_blocking=True)
    if isinstance(value, Mapping):
        return {key: on_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(on_host(item) for item in value)
    return value


def _arrived() -> None:
    """Wait until all copies from CUDA are complete."""
    cuda: Any = torch.cuda
    if cuda.is_available() and cuda.is_initialized():
        cuda.synchronize()
