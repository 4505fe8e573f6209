"""The CUDA devices of this machine, and a test of whether one still works."""

from __future__ import annotations

import sys

CUDA_OUT_OF_MEMORY = 2
"""CUDA's error number `cudaErrorMemoryAllocation`."""
PROBE_NUMBERS = 2**20
"""Random numbers that the test of a device draws: more than a block of memory that is at hand."""


def gpu_count() -> int:
    """Return the number of CUDA devices that torch can use on this machine. Imports torch."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cuda_devices() -> list[str]:
    """Describe each CUDA device in one line: index, name and memory. The list is empty without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    lines = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        lines.append(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return lines


def gpus() -> list[tuple[str, int]]:
    """Return name and memory, bytes, of each CUDA device that torch can use on this machine. Imports torch."""
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(gpu_count())]
    return [(properties.name, properties.total_memory) for properties in found]


def device_error(device: str) -> str | None:
    """Return why this process cannot compute on `device`, in one line, or None if it can.

    After an illegal memory access, a failed kernel launch, an uncorrectable memory error or the loss of the device,
    every later CUDA call of the process fails. Libraries report these errors as exceptions of many types, so the only
    reliable test is a small computation. It allocates memory and draws random numbers, because the allocator and the
    generator may stay in the mode of a recording that has failed. A device that is only out of memory counts as
    working. If the process has not imported torch, it has not used the device either: the result is None.
    """
    if not device.startswith("cuda") or "torch" not in sys.modules:
        return None
    import torch

    try:
        torch.cuda.synchronize(device)
        torch.rand(PROBE_NUMBERS, device=device).add_(1)[0].item()
    except torch.OutOfMemoryError:
        return None
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        if getattr(error, "error_code", None) == CUDA_OUT_OF_MEMORY:
            return None
        return str(error).strip().partition("\n")[0]
    return None
