"""`batch_size: auto` and `accumulate: auto`: what fits into the free memory of a GPU, from two small steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from trainers import rng
from trainers.api import Context
from trainers.loop.batches import BYTES_PER_PIXEL, Batches
from trainers.loop.step import TrainingStep
from trainers.network.model import Model
from trainers.numerics import memory_errors
from trainers.schedule import Stage

CPU_BATCH = 128
"""Batch on the CPU, where larger batches are not faster."""
LARGEST = 1024
"""Largest batch. Learning rates do not transfer to larger batches."""
LR_BATCH = 128
"""Batch that `train.lr` refers to with `batch_size: auto`, so that a learning rate means the same on every GPU."""
MULTIPLE = 8
"""A batch is a multiple of this number of images."""
HEADROOM = 0.9
"""Share of the free memory to plan with. The rest is for fragmentation and the workspace of kernels."""
PROBES = (8, 32)
"""Batches of the two steps whose memory is measured."""


def largest(step: Callable[[int], None], *, device: str, share: float, reserve: int, accumulate: int) -> int:
    """Return the images per optimiser step, extrapolated from the memory of two small steps.

    `step(n)` runs the forward and backward pass on n augmented images of the last stage's size. `share` (0 to 1) is
    the part of the device's memory for this training; if other programs leave less than that, the free memory counts.
    `reserve` is the number of bytes that the training needs later, for the optimiser's state.
    """
    if not device.startswith("cuda"):
        return CPU_BATCH
    return accumulate * fitting_part(step, device=device, share=share, reserve=reserve)


def fitting_part(step: Callable[[int], None], *, device: str, share: float, reserve: int) -> int:
    """Return the largest number of images whose forward and backward pass fits into the memory of a CUDA device.

    The arguments are those of `largest`.
    """
    peaks = []
    for count in PROBES:
        step(count)  # the first step may need more memory, to choose kernels
        torch.cuda.reset_peak_memory_stats(device)
        step(count)
        peaks.append(torch.cuda.max_memory_allocated(device))
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    available = int(HEADROOM * min(free + torch.cuda.memory_allocated(device), share * total)) - reserve
    return fitting(peaks[0], peaks[1], available)


def fitting(first: int, second: int, available: int) -> int:
    """Return the largest multiple of 8, from 8 to 1024, whose extrapolated peak fits into `available` bytes.

    `first` and `second` are the peaks of the two `PROBES`, bytes; memory grows linearly with the batch.
    """
    per_image = max((second - first) / (PROBES[1] - PROBES[0]), 1)
    fixed = first - PROBES[0] * per_image
    count = int((available - fixed) / per_image)
    return min(max(count // MULTIPLE * MULTIPLE, MULTIPLE), LARGEST)


class DeviceMemory:
    """What fits into the part of the device's memory that a training has: one measurement per image size."""

    def __init__(self, model: Model, step: TrainingStep, batches: Batches, context: Context, scored: int = 0) -> None:
        """
        Args:
            scored: pixels (images x side^2) of a batch of the evaluation, whose recording keeps memory of its own.
        """
        self._model, self._step, self._batches, self._scored = model, step, batches, scored
        self._device, self._share = context.device, context.device_share
        self.fitting: dict[int, int] = {}
        """Images of the largest micro-batch that fits, by image size in pixels, as far as it has been measured."""

    def batch(self, stage: Stage, accumulate: int | Literal["auto"]) -> int:
        """Return the images per optimiser step of `batch_size: auto`, in micro-batches of the size of `stage`."""
        parts = 1 if accumulate == "auto" else accumulate
        with self._probe(stage) as step:
            return largest(step, device=self._device, share=self._share, reserve=self._unclaimed(), accumulate=parts)

    def parts(self, stage: Stage, batch: int, accumulate: int | Literal["auto"]) -> int:
        """Return into how many micro-batches a batch of the stage is divided; with `auto`, one on the CPU."""
        if accumulate != "auto":
            return accumulate
        if not self._device.startswith("cuda"):
            return 1
        if stage.size not in self.fitting:
            # A recorded step reads a copy of the whole batch, and augmented images wait for their turn.
            pixels = 2 * batch * stage.size**2 + 4 * (self._batches.pixels_at_once + self._scored)
            reserve = self._unclaimed() + pixels * BYTES_PER_PIXEL
            with self._probe(stage) as step:
                fits = fitting_part(step, device=self._device, share=self._share, reserve=reserve)
            self.fitting[stage.size] = fits
        return -(-batch // self.fitting[stage.size])

    def _unclaimed(self) -> int:
        """Bytes that the optimiser needs for its state and has not claimed yet."""
        return 0 if self._step.optimizer.state else 2 * sum(value.nbytes for value in self._step.parameters)

    @contextmanager
    def _probe(self, stage: Stage) -> Iterator[Callable[[int], None]]:
        """A function that computes the gradient of so many images of the stage. The model is restored afterwards."""
        net = self._model.net
        before = {name: value.clone() for name, value in net.state_dict().items()}

        def step(count: int) -> None:
            self._model.train()
            pixels, targets = self._batches.sample(count, stage)
            with rng.isolated(0, self._device):
                self._step.add_gradient(pixels, targets, 1.0)

        with memory_errors(f"searching the largest batch of stage {stage.index} at {stage.size} px"):
            yield step
        net.load_state_dict(before)
        net.zero_grad(set_to_none=True)
