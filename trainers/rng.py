"""torch's default generators, borrowed and given back: dropout and initialisers know no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def isolated(seed: int, device: str = "cpu") -> Iterator[None]:
    """Default generators of the CPU and of `device` start from `seed` inside, and are put back after."""
    cuda = torch.device(device) if device.startswith("cuda") else None
    with torch.random.fork_rng(devices=[cuda] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed)
        yield


def generator(seed: int, device: str = "cpu") -> torch.Generator:
    """A generator of one's own on `device`."""
    return torch.Generator(device=device).manual_seed(seed)
