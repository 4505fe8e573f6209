"""Where the decoded images of a training lie, and how its batches come to the device.

Images that fit are on the device. Others stay a mapped file on the host: a thread gathers each group of images while
the device trains on the group before, and it is sent by a stream of its own. The images and their order are the same.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trainers.api import Notice
from trainers.data.source import Indices, Pixels

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Place = Literal["device", "host"]
"""`device`: all images are there; on the CPU, they are a mapped file. `host`: they are a mapped file, and sent."""
ROOM = 0.5
"""Share of a trial's free device memory that its images may fill. The rest is for the training."""


def place_of(size: int, free: int, share: float) -> Place:
    """Return where `size` bytes of images are kept.

    Args:
        free: the free memory of the device, bytes.
        share: the trial's share of the device, above 0 to 1.
    """
    return "device" if size <= ROOM * share * free else "host"


def placed(pixels: Pixels, device: str, share: float) -> tuple[Tensor, Place]:
    """Return the images as a tensor where they are kept, and that place. On the CPU, nothing is copied.

    Images that stay on the host are a `Notice`.
    """
    import torch

    images, free = torch.from_numpy(pixels), _free(device)
    place = place_of(images.nbytes, free, share)
    if place == "device":
        return images.to(device), place
    warnings.warn(
        f"the images stay in the memory of the host, and each batch is sent to {device} ahead: they have "
        f"{images.nbytes / 1e9:.1f} GB, more than {ROOM:.0%} of the {share * free / 1e9:.1f} GB that are free for a "
        "trial; with a smaller data.cache_size they fit",
        Notice,
        stacklevel=2,
    )
    return images, place


def _free(device: str) -> int:
    """Free memory of the device, bytes. On the CPU a mapped file takes none, so all that there is counts."""
    if not device.startswith("cuda"):
        return sys.maxsize
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


@dataclass(frozen=True)
class Images:
    """A part of a data set. Its batches are on the device; where all of its images are, nothing else is copied."""

    images: Tensor
    """uint8 (M, 3, side, side): all images of the data set, or all of its test images, at `place`."""
    labels: Tensor
    """int64 (M,) on the device."""
    indices: Tensor
    """int64 (N,) on the device: the positions of this part."""
    classes: tuple[str, ...]
    """Names of the classes."""
    place: Place = "device"

    def __len__(self) -> int:
        return len(self.indices)

    def groups(self, positions: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Yield the images at `positions`, int64 (N,) on the device, in groups of `sizes`, whose sum is N.

        A group is uint8 (B, 3, side, side) on the device. It may be overwritten as soon as the next one is asked for.
        """
        import torch

        if self.place == "device":
            return (self.images[group] for group in torch.split(positions, list(sizes)))
        # The only wait for the device: once before the groups, when it has little to do.
        groups = torch.split(positions.cpu(), list(sizes))
        return _sent_ahead(self.images.numpy(), [group.numpy() for group in groups], self.indices.device)


def _sent_ahead(images: Pixels, groups: Sequence[Indices], device: torch.device) -> Iterator[Tensor]:
    """Yield each group on the device, while a thread gathers the next one. Two lanes are used in turn.

    The thread calls nothing of CUDA: such a call could spoil a CUDA graph that is being recorded.
    """
    shape = (max(map(len, groups), default=0), *images.shape[1:])
    lanes = [_Lane(shape) if device.type != "cuda" else _CudaLane(shape, device) for _ in range(2)]
    with ThreadPoolExecutor(1, "gather-images") as thread:
        gathering = [thread.submit(lanes[0].gather, images, group) for group in groups[:1]]
        for number, group in enumerate(groups):
            gathering.pop().result()
            lane, other = lanes[number % 2], lanes[(number + 1) % 2]
            sent = lane.send(len(group))
            if number + 1 < len(groups):
                other.wait()
                gathering.append(thread.submit(other.gather, images, groups[number + 1]))
            yield sent
            lane.release()


class _Lane:
    """Room for one group at a time on the host, for a device that is the CPU."""

    def __init__(self, shape: tuple[int, ...], *, pinned: bool = False) -> None:
        import torch

        self._host: Tensor = torch.empty(shape, dtype=torch.uint8, pin_memory=pinned)
        self._array: Pixels = self._host.numpy()

    def gather(self, images: Pixels, positions: Indices) -> None:
        """Copy the images at `positions` to the host's memory."""
        # The positions are valid: with mode "clip", NumPy writes to `out` directly.
        np.take(images, positions, axis=0, out=self._array[: len(positions)], mode="clip")

    def send(self, count: int) -> Tensor:
        """Return the first `count` gathered images on the device."""
        return self._host[:count]

    def wait(self) -> None:
        """Wait until the host's memory may be written to."""

    def release(self) -> None:
        """Say that everything that reads the last group was started."""


class _CudaLane(_Lane):
    """The same with room on a GPU. A side stream copies; the streams wait for each other, and the host for a copy."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        import torch

        super().__init__(shape, pinned=True)
        self._there: Tensor = torch.empty(shape, dtype=torch.uint8, device=device)
        self._cuda: Any = torch.cuda
        self._main, self._side = self._cuda.current_stream(device), self._cuda.Stream(device)
        self._sent, self._read = self._cuda.Event(), self._cuda.Event()
        self.release()  # the memory may be that of tensors which the main stream still reads

    def send(self, count: int) -> Tensor:
        there = self._there[:count]
        self._side.wait_event(self._read)
        with self._cuda.stream(self._side):
            there.copy_(self._host[:count], non_blocking=True)
            self._sent.record(self._side)
        self._main.wait_event(self._sent)
        return there

    def wait(self) -> None:
        self._sent.synchronize()

    def release(self) -> None:
        self._read.record(self._main)
