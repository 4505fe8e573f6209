"""Random streams: their seeds, generators of our own, and torch's default generators, borrowed and given back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Derive a seed (0 to 2^63 - 1) for one purpose of a trial, e.g. `derive(seed, "order", epoch)`.

    Streams of different purposes or epochs are independent. So a resumed training can repeat an epoch without the
    epochs before it, and a purpose that draws more numbers does not change the other streams.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, device: str = "cpu") -> torch.Generator:
    """Return a new generator on `device`, independent of torch's default generators."""
    return torch.Generator(device=device).manual_seed(seed)


@contextmanager
def isolated(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed the default generators of the CPU and of `device` with `seed` inside the block; restore them afterwards.

    Dropout and torch's initialisers accept no other generator.
    """
    cuda = torch.device(device) if device.startswith("cuda") else None
    with torch.random.fork_rng(devices=[cuda] if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed)
        yield
