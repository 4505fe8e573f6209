"""Images per second of one model at one size: limits, engine and timm, in rounds until the time is over."""

from __future__ import annotations

import time

from reports.benchmarks.gpu.settings import Send, Settings
from reports.benchmarks.training import benchmark
from reports.benchmarks.training.contenders import Case, Contender, engine, graph_limit, limit, peer
from trainers.api import DataConfig

ROUNDS = 5
MOST_WORKERS = 32
"""Loader processes of the peer: the built-in images are about as many batches of 256."""
LEAST_STEPS = {"tf_efficientnetv2_b0": 24, "tf_efficientnetv2_s": 12, "test_efficientnet": 2}


def run(settings: Settings, seconds: float, send: Send, *, model: str, size: int, graphs: bool) -> None:
    """Measure in rounds, and send all measurements after each; stop when another round would take too long."""
    ends = time.monotonic() + seconds
    case = case_of(settings, model, size)
    began = time.monotonic()
    for number, row in enumerate(benchmark.rounds(case, _contenders(case, graphs=graphs)), 1):
        send("row", row.record())
        now = time.monotonic()
        took, began = (now - began) / (2 if number == 1 else 1), now  # the first row comes after two rounds
        if settings.tiny or number == ROUNDS or now + 1.1 * took > ends:
            return


def case_of(settings: Settings, model: str, size: int) -> Case:
    """Return the case of a model and a size.

    Each loader process of the peer makes the same number of batches, so that none waits for another at the end.
    """
    workers = 1 if settings.tiny else min(settings.cores, MOST_WORKERS)
    return Case(
        model=model,
        size=size,
        device=settings.device,
        batch=8 if settings.tiny else 256,
        steps=workers * -(-LEAST_STEPS[model] // workers),
        threads=1 if settings.tiny else settings.cores,
        workers=workers,
        source=DataConfig(name="shapes"),
        cache_dir=settings.scratch,
    )


def _contenders(case: Case, *, graphs: bool) -> dict[str, Contender]:
    """With graphs, the engine is the one of every training on a GPU; the one without is left out, to save time."""
    if not graphs:
        return {
            benchmark.LIMIT: limit(case),
            "engine": engine(case),
            "engine, EMA": engine(case, ema=True),
            benchmark.PEER: peer(case),
        }
    return {
        benchmark.LIMIT: limit(case),
        benchmark.GRAPH_LIMIT: graph_limit(case),
        "engine, CUDA graphs": engine(case, cuda_graphs=True),
        "engine, EMA, CUDA graphs": engine(case, ema=True, cuda_graphs=True),
        benchmark.PEER: peer(case),
    }
