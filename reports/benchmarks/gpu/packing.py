"""Two, three and four trials at once on one GPU: their images per second together, against those of one alone.

All processes start once. In each round every number of them trains for the same few seconds while the others wait, so
ratios are those within a round.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from reports.benchmarks.gpu import mps
from reports.benchmarks.gpu.settings import MODEL, Send, Settings
from reports.benchmarks.gpu.speed import case_of
from reports.benchmarks.gpu.to_accuracy import records
from reports.benchmarks.training.contenders import Case
from trainers import finetune
from trainers.api import Context
from trainers.checkpoint import DirectoryStore

COUNTS = (1, 2, 3, 4)
ROUNDS = 5
WINDOW = 4.0
"""Seconds of a measurement."""
MANY = 1_000_000
"""Epochs that no process reaches."""
SIZE, STEPS = 64, 10


@dataclass(frozen=True)
class _Trial:
    connection: Connection
    process: Any
    graphs: bool
    """Whether its steps are CUDA graphs."""


def run(settings: Settings, seconds: float, send: Send) -> None:
    """Start the trials and measure in rounds; send each round."""
    ends = time.monotonic() + seconds
    case = replace(case_of(settings, MODEL[settings.tiny], 32 if settings.tiny else SIZE), steps=STEPS)
    with mps.service(settings.device, settings.scratch) as sharing:
        send("sharing", {"mps": sharing.mps, "why": sharing.said, "model": case.model, "size": case.size})
        trials = _started(case, sharing.variables)
        graphs = bool(trials) and all(trial.graphs for trial in trials)
        send("processes", {"asked": max(COUNTS), "ready": len(trials), "cuda_graphs": graphs})
        counts = [count for count in COUNTS if count <= len(trials)]
        window = 0.3 if settings.tiny else WINDOW
        for number in range(1 if settings.tiny else ROUNDS):
            if number and time.monotonic() + 1.3 * window * len(counts) > ends:
                break
            order = counts[number % len(counts) :] + counts[: number % len(counts)] if counts else []
            rates = {count: _together(trials[:count], window) for count in order}
            send(f"round {number + 1}", {"images_per_second": {str(count): rates[count] for count in counts}})
        for trial in trials:
            trial.process.kill()
    if len(trials) < max(COUNTS):
        raise RuntimeError(f"only {len(trials)} of {max(COUNTS)} processes could train at the same time")


def _started(case: Case, variables: Mapping[str, str]) -> list[_Trial]:
    """The processes that train. They are forked, so the present one must not have used the GPU."""
    forking = multiprocessing.get_context("fork")
    begun = []
    for number in range(max(COUNTS)):
        here, there = forking.Pipe()
        process = forking.Process(target=_train, args=(case, dict(variables), number, there), daemon=True)
        process.start()
        there.close()
        begun.append((here, process))
    trials = []
    for connection, process in begun:
        with suppress(EOFError):  # it has ended, e.g. for lack of memory
            trials.append(_Trial(connection, process, connection.recv()))
    return trials


def _together(trials: Sequence[_Trial], seconds: float) -> float:
    """Images per second of all `trials` together."""
    for trial in trials:
        trial.connection.send(seconds)
    rates: list[float] = [trial.connection.recv() for trial in trials]
    return sum(rates)


def _train(case: Case, variables: Mapping[str, str], number: int, connection: Connection) -> None:
    """One process: train a while whenever asked to, and answer with the images per second, all pauses included."""
    os.environ.update(variables)
    config = case.config(ema=True, cuda_graphs=True)
    train = replace(config.train, epochs=MANY, checkpoint_every=MANY)
    context = Context(
        seed=number,
        checkpoints=DirectoryStore(f"{case.cache_dir}/packed-{number}"),
        device=case.device,
        device_share=1 / max(COUNTS),
        threads=max(case.threads // max(COUNTS), 1),
        cache_dir=case.cache_dir,
    )
    settled = replace(config, train=train)
    stream = finetune.train(settled, context)
    for _ in range(2):  # the first epoch contains the recording
        next(stream)
    connection.send(records(settled, context))
    while True:
        window: float = connection.recv()
        started, images, taken = time.perf_counter(), 0, 0.0
        while taken < window:
            next(stream)
            images += case.batch * case.steps
            taken = time.perf_counter() - started
        connection.send(images / taken)
