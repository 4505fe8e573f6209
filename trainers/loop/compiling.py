"""torch.compile, one graph per image size, kept for the worker's next trial."""

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
"""What this process has been asked to compile: dynamo counts a model class's graphs over all its instances."""


def compiled(model: Model, cache_dir: str) -> Callable[[Tensor], Tensor]:
    """The compiled model; a warm one comes with the graphs of earlier trials.

    Inductor keeps its kernels under `cache_dir`, where every process of the machine finds them.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache_dir).absolute() / "inductor"))
    if model.compiled is None:
        model.compiled = torch.compile(model.net, dynamic=False, backend=BACKEND)
    forward: Callable[[Tensor], Tensor] = model.compiled
    return forward


@contextmanager
def one_graph(*shape: Any) -> Iterator[None]:
    """Let the code inside compile one more graph, for `shape` (model, mode, size, batch, ...), if it is new.

    Reports every graph made, and warns when a shape known already is compiled again: that is time lost.

    Raises:
        torch._dynamo.exc.FailOnRecompileLimitHit: many more graphs than shapes; torch would silently run
            uncompiled from here on.
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
