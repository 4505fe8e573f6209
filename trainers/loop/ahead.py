"""Groups of augmented images: made one ahead on a second stream of the GPU, and cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

Group = tuple[Tensor, Tensor]
"""Images, float32 (B, 3, S, S), and their targets, float32 (B, classes)."""


def recut(groups: Iterator[Group], sizes: list[int]) -> Iterator[Group]:
    """Cut the images that `groups` yield into pieces of `sizes` images; both have the same number in all."""
    held: Group | None = None
    for size in sizes:
        while held is None or len(held[0]) < size:
            more = next(groups)
            held = more if held is None else (torch.cat([held[0], more[0]]), torch.cat([held[1], more[1]]))
            del more
        piece = held[0][:size], held[1][:size]
        held = (held[0][size:], held[1][size:]) if len(held[0]) > size else None
        yield piece


def ahead(groups: Iterator[Group], device: str) -> Iterator[Group]:
    """Yield the groups; each is computed on a second stream while the device trains on the one before it.

    Its memory belongs to the second stream, which reuses it for a later group. So before it begins another group, that
    stream waits for all training that was started before. Two groups exist at most, however far the host is ahead.
    """
    cuda: Any = torch.cuda
    main, side = cuda.current_stream(device), _stream(device)

    def begin() -> tuple[Group | None, Any]:
        side.wait_stream(main)
        with cuda.stream(side):
            return next(groups, None), side.record_event()

    following, ready = begin()
    while following is not None:
        main.wait_event(ready)
        present = following
        following, ready = begin()
        yield present
        del present


@cache
def _stream(device: str) -> Any:
    cuda: Any = torch.cuda
    return cuda.Stream(device)
