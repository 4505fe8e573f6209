"""`batch_size: auto`: the largest batch whose training step fits into the device's free memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

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
    peaks = []
    for count in PROBES:
        step(count)  # the first step may need more memory, to choose kernels
        torch.cuda.reset_peak_memory_stats(device)
        step(count)
        peaks.append(torch.cuda.max_memory_allocated(device))
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    available = int(HEADROOM * min(free + torch.cuda.memory_allocated(device), share * total)) - reserve
    return accumulate * fitting(peaks[0], peaks[1], available)


def fitting(first: int, second: int, available: int) -> int:
    """Return the largest multiple of 8, from 8 to 1024, whose extrapolated peak fits into `available` bytes.

    `first` and `second` are the peaks of the two `PROBES`, bytes; memory grows linearly with the batch.
    """
    per_image = max((second - first) / (PROBES[1] - PROBES[0]), 1)
    fixed = first - PROBES[0] * per_image
    count = int((available - fixed) / per_image)
    return min(max(count // MULTIPLE * MULTIPLE, MULTIPLE), LARGEST)
