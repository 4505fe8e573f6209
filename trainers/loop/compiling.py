"""torch.compile with one graph per image size. Graphs are kept for the next trial of the worker."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.network.model import Model

BACKEND: Any = "inductor"
log = logging.getLogger(__name__)

_shapes: set[tuple[Any, ...]] = set()
"""The shapes that this process has compiled. dynamo counts the graphs of a model class over all instances."""


def compiled(model: Model, cache_dir: str) -> Callable[[Tensor], Tensor]:
    """Return the compiled model. A model of an earlier trial already has its graphs.

    Inductor keeps its kernels in `cache_dir`, where all processes of the machine find them.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache_dir).absolute() / "inductor"))
    if model.compiled is None:
        model.compiled = torch.compile(model.net, dynamic=False, backend=BACKEND)
    forward: Callable[[Tensor], Tensor] = model.compiled
    return forward


@contextmanager
def one_graph(*shape: Any) -> Iterator[None]:
    """Allow the block to compile one more graph if `shape` (model, mode, size, batch, ...) is new.

    Every new graph is logged. A second compilation of the same shape is logged as a warning, because it wastes time.

    Raises:
        torch._dynamo.exc.FailOnRecompileLimitHit: there are many more graphs than shapes. torch would run without
            compilation from then on and not say so.
    """
    from torch._dynamo.utils import counters

    repeated = shape in _shapes
    _shapes.add(shape)
    before = counters["stats"]["unique_graphs"]
    limit = max(2 * len(_shapes), 8)
    with torch._dynamo.config.patch(
        recompile_limit=limit, accumulated_recompile_limit=max(64 * limit, 256), fail_on_recompile_limit_hit=True
    ):
        yield
    made = counters["stats"]["unique_graphs"] - before
    if made:
        level = logging.WARNING if repeated else logging.INFO
        log.log(level, "compiled %d graph(s) for %s%s", made, shape, " again" if repeated else "")
