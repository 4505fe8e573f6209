"""Checkpoints written by a thread: complete before they are named, one at a time, and no error is lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from trainers.loop.saving import CheckpointWriter


class SlowStore:
    """A store that completes a checkpoint when it is told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.may_end = threading.Event()
        self.begun: list[int] = []
        self.kept: list[tuple[float, float]] = []
        self.failure = failure

    def save(self, epoch: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> str:
        self.begun.append(epoch)
        assert self.may_end.wait(10)
        if self.failure:
            raise self.failure
        self.kept.append((tensors["w"].item(), state["deep"][0]["m"].item()))
        return f"digest {epoch}"

    def load(self) -> None:
        return None


def test_a_checkpoint_keeps_the_values_of_its_epoch_and_is_named_when_it_is_complete() -> None:
    store, weight = SlowStore(), torch.tensor(1.0)
    with CheckpointWriter(store, overlapped=True) as writer:
        writer.save(1, {"w": weight}, {"deep": [{"m": weight}], "n": 3})
        weight.fill_(2.0)
        assert writer.written() is None
        assert store.kept == []
        store.may_end.set()
        writer.save(2, {"w": weight}, {"deep": [{"m": weight}]})
        assert store.kept[0] == (1.0, 1.0), "the second one begins when the first one is complete"
        assert writer.written() in ("digest 1", "digest 2")
    assert store.kept == [(1.0, 1.0), (2.0, 2.0)]
    assert store.begun == [1, 2]


@pytest.mark.parametrize("saved", [1, 2])
def test_the_error_of_a_checkpoint_comes_with_the_next_one_or_at_the_end(saved: int) -> None:
    store = SlowStore(OSError(28, "No space left on device"))
    store.may_end.set()

    def training() -> None:
        with CheckpointWriter(store, overlapped=True) as writer:
            for epoch in range(1, saved + 1):
                writer.save(epoch, {"w": torch.tensor(1.0)}, {})

    with pytest.raises(OSError, match="No space left"):
        training()
    assert store.begun == [1]


def test_a_checkpoint_that_the_training_waits_for_is_named_at_once() -> None:
    store = SlowStore()
    store.may_end.set()
    with CheckpointWriter(store, overlapped=False) as writer:
        writer.save(1, {"w": torch.tensor(1.0)}, {"deep": [{"m": torch.tensor(1.0)}]})
        assert writer.written() == "digest 1"
        assert writer.written() is None
