"""`batch_size: auto`: the largest batch whose training step fits the device's free memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

CPU_BATCH = 128
"""On the CPU, where larger batches are no faster."""
LARGEST = 1024
"""Beyond it the recipes' learning rates stop carrying over."""
LR_BATCH = 128
"""Images per step that a learning rate is meant for where the batch is found here: the learning rate must not mean
another training on every GPU."""
MULTIPLE = 8
HEADROOM = 0.9
"""Share of the free memory that may be planned with; the rest is fragmentation and kernels' workspace."""
PROBES = (8, 32)


def largest(step: Callable[[int], None], *, device: str, share: float, reserve: int, accumulate: int) -> int:
    """Images per optimiser step, from the memory that two small steps took (it grows linearly in between).

    `step(n)` augments n images to the last stage's size and runs forward and backward on them; `share` of the
    device's memory (0 to 1) is this training's; `reserve` is the bytes that it takes later (optimiser state). Where
    less than the share is free, because of other programs, that is what counts.
    """
    if not device.startswith("cuda"):
        return CPU_BATCH
    peaks = []
    for count in PROBES:
        step(count)  # trying out kernels takes more memory than using them
        torch.cuda.reset_peak_memory_stats(device)
        step(count)
        peaks.append(torch.cuda.max_memory_allocated(device))
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    available = int(HEADROOM * min(free + torch.cuda.memory_allocated(device), share * total)) - reserve
    return accumulate * fitting(peaks[0], peaks[1], available)


def fitting(first: int, second: int, available: int) -> int:
    """The largest multiple of 8 up to 1024 (at least 8) whose peak, extrapolated, is within `available` bytes."""
    per_image = max((second - first) / (PROBES[1] - PROBES[0]), 1)
    fixed = first - PROBES[0] * per_image
    count = int((available - fixed) / per_image)
    return min(max(count // MULTIPLE * MULTIPLE, MULTIPLE), LARGEST)
