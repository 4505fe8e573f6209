"""What this machine can train on."""

from __future__ import annotations


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
