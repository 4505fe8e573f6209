"""A recorder for the CPU that stands in for CUDA graphs: it repeats the same operations on the same memory.

Like a graph it keeps every number of Python that the work has used, and refuses to read a tensor's value. So work that
computes the same from a tape depends on nothing but tensors, and could be recorded on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from trainers.loop.cuda_graphs import Work, failed


class _Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise failed("the network", "operation not permitted when stream is capturing")
        given = tree_map(lambda value: value, (args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if func.namespace != "profiler":
            self.calls.append((func, *given, tree_leaves(result)))
        return result

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, results in self.calls:
            for old, new in zip(results, tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(work: Work, size: int) -> Work:
    """A `trainers.loop.cuda_graphs.Recorder`."""
    work()
    tape = _Tape()
    with tape:
        work()
    return tape.play
