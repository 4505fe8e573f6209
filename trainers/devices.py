"""What this machine can train on, and whether it still does."""

from __future__ import annotations

import sys


def cuda_devices() -> list[str]:
    """One line per CUDA device: name and memory; empty without any."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return found


CUDA_OUT_OF_MEMORY = 2
"""`cudaErrorMemoryAllocation`, as CUDA numbers its errors."""


def device_error(device: str) -> str | None:
    """Why this process cannot compute on `device`, in one line; None where it can.

    An illegal memory access, a failed launch, an uncorrectable memory error or a device that is gone leaves a process
    in which every later call to CUDA fails. Only trying tells, because libraries report them as exceptions of many
    kinds. Running out of memory is none of them. Where nothing has imported torch, nothing is known, and None returned.
    """
    if not device.startswith("cuda") or "torch" not in sys.modules:
        return None
    import torch

    try:
        torch.cuda.synchronize(device)
        torch.ones(1, device=device).add_(1).item()
    except torch.OutOfMemoryError:
        return None
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without CUDA
        if getattr(error, "error_code", None) == CUDA_OUT_OF_MEMORY:
            return None
        return str(error).strip().partition("\n")[0]
    return None
