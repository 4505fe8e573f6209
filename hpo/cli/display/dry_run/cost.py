"""What a study will cost in time, memory and disk, from a few training steps measured on this machine."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.driver.gpus.heaviest import heaviest
from hpo.driver.ray_backend.slots import Slots
from hpo.home import Home
from hpo.ledger.records import TrialRecord
from hpo.redact import redact
from hpo.search.forecast import AshaPlan
from hpo.spec.configure import configure
from hpo.spec.study import Spec
from hpo.text import duration, size
from trainers import schedule
from trainers.api import Context, DataConfig, DataError, TrialConfig

if TYPE_CHECKING:
    from trainers.measure.cost import Cost


@dataclass(frozen=True)
class Estimate:
    """Lines for people, and the same as numbers; None where nothing was measured."""

    summary: tuple[str, ...]
    """What a person wants to know before anything else: time, GPU-hours, memory, disk."""
    details: tuple[str, ...]
    """What was measured, and the time of other plans."""
    seconds: float | None = None
    """Wall-clock time without start-up."""
    gpu_hours: float | None = None
    memory_bytes: float | None = None
    """Of one trial."""
    disk_bytes: float | None = None
    """Of checkpoints, at most."""


def estimate(
    spec: Spec, home: Home, trials: Sequence[TrialRecord], expected: AshaPlan, slots: Slots, scratch: str
) -> Estimate:
    """Measure a few training steps. Files go to the folder `scratch`.

    Args:
        trials: configurations that stand for those of the whole study.

    Raises:
        TrainerError: the data is missing, or a training step does not fit in memory.
    """
    costs = {config.model.name: _measure(config, slots, home, scratch) for config in heaviest(spec)}
    seconds = _epoch_means(spec, [configure(spec.base(), trial.assigned) for trial in trials], costs)
    largest = max(costs.values(), key=lambda cost: cost.memory_bytes)
    checkpoint = max(cost.checkpoint_bytes for cost in costs.values())
    wall, hours = _times(seconds, expected, slots)
    return Estimate(
        (
            *_time(spec, wall, hours, expected, slots),
            _memory(largest, slots),
            _disk(checkpoint, spec, slots, home),
        ),
        (*(_measured(name, cost) for name, cost in costs.items()), _other_times(seconds, expected, slots)),
        wall,
        hours,
        largest.memory_bytes,
        checkpoint * _kept(spec, slots),
    )


def prepared(config: DataConfig, home: Home, scratch: str) -> tuple[DataConfig, str]:
    """The settings of the data as this machine has it, and the folder with the decoded images.

    Raises:
        DataError: the data is missing.
    """
    from trainers import data

    there = _data(config, scratch)
    cache = data.place_to_check(there, str(home.cache), f"{scratch}/cache")
    data.prepare(there, cache)
    return there, cache


def _measure(config: TrialConfig, slots: Slots, home: Home, scratch: str) -> Cost:
    from trainers.checkpoint import DirectoryStore
    from trainers.measure.cost import measure

    images, cache = prepared(config.data, home, scratch)
    config = dataclasses.replace(config, data=images)
    context = Context(
        seed=0,
        checkpoints=DirectoryStore(f"{scratch}/checkpoints"),
        device=slots.device,
        device_share=min(slots.gpus, 1.0) or 1.0,
        threads=max(1, int(slots.cpus)) if slots.device == "cpu" else None,
        cache_dir=cache,
    )
    return measure(config, context)


def _data(config: DataConfig, scratch: str) -> DataConfig:
    """The settings of the data with a folder that has the images; a download goes to `scratch`."""
    from trainers import data

    if not config.download:
        return config
    there = dataclasses.replace(config, download=False)
    try:
        data.prepare(there, f"{scratch}/cache")
    except DataError:
        return dataclasses.replace(config, root=f"{scratch}/data")
    return there


def _measured(name: str, cost: Cost) -> str:
    return (
        f"{name}: {cost.parameters / 1e6:.1f} million parameters\n"
        f"speed: measured in the largest stage, {cost.size} px with batches of {cost.batch}: {cost.step_seconds:.2f} s "
        f"per step, {cost.batch / cost.step_seconds:,.0f} images/s; evaluation {1 / cost.eval_seconds:,.0f} images/s"
    )


def _memory(cost: Cost, slots: Slots) -> str:
    share = slots.concurrency if slots.device == "cpu" else max(1, int(1 / slots.gpus)) if slots.gpus else 1
    fits = "fits in" if cost.memory_bytes * share <= cost.memory_available else "does NOT fit in"
    place = "this machine" if slots.device == "cpu" else "the GPU"
    together = f"; {share} at once need {size(cost.memory_bytes * share)}" if share > 1 else ""
    return (
        f"memory: {size(cost.memory_bytes)} for one trial{together}, which {fits} the "
        f"{size(cost.memory_available)} of {place}"
    )


def _disk(checkpoint_bytes: float, spec: Spec, slots: Slots, home: Home) -> str:
    kept = _kept(spec, slots)
    needed = kept * checkpoint_bytes
    text = f"disk: checkpoints of {size(checkpoint_bytes)}, at most {kept} at a time: {size(needed)}"
    place = Path(spec.storage.checkpoints or home.path)
    if "://" in str(spec.storage.checkpoints):
        return f"{text} at {redact(str(spec.storage.checkpoints))}"
    folder = next(parent for parent in (place, *place.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    return f"{text}; {size(free)} free" + ("" if needed < free else f" at {folder}, which is NOT enough")


def _kept(spec: Spec, slots: Slots) -> int:
    """How many checkpoints there are at most. A trial that ends keeps one. A running trial has two, and a third while
    it writes. With landing, a pruned trial keeps its two until the study ends."""
    if spec.search.landing:
        return 2 * (spec.budget.trials + slots.concurrency)
    ended = slots.concurrency if spec.storage.keep == "unfinished" else spec.budget.trials
    return ended + 2 * slots.concurrency


def _epoch_means(spec: Spec, configs: Sequence[TrialConfig], costs: Mapping[str, Cost]) -> list[float]:
    """Seconds of each epoch: the mean of the configurations, each with its pixels times the measured time per pixel."""
    return [
        statistics.fmean(_epoch_seconds(config, costs[config.model.name], epoch) for config in configs)
        for epoch in range(1, spec.train.epochs + 1)
    ]


def _times(seconds: Sequence[float], expected: AshaPlan, slots: Slots) -> tuple[float, float]:
    """The wall-clock seconds and the GPU-hours of the whole study, `seconds` being those of each epoch."""
    counts = trials_by_epoch(expected, len(seconds))
    worker = sum(second * count for second, count in zip(seconds, counts, strict=True))
    return max(worker / slots.concurrency, sum(seconds)), worker * slots.gpus / 3600


def _time(spec: Spec, wall: float, gpu_hours: float, expected: AshaPlan, slots: Slots) -> Iterator[str]:
    """The wall-clock time and the GPU-hours of the whole study."""
    yield f"time: about {duration(wall)} for {expected.trials} trials, {slots.concurrency} at once, without start-up"
    hours = spec.budget.hours
    if hours is not None and wall > hours * 3600:
        share = 100 * 3600 * hours / wall
        yield f"The budget of {hours:g} hours stops the study earlier, after about {share:.0f} % of the trials."
    yield f"GPU-hours: about {gpu_hours:.2f}" if slots.gpus else "GPU-hours: none, trials use the CPU"


def _other_times(seconds: Sequence[float], expected: AshaPlan, slots: Slots) -> str:
    unpruned = duration(sum(seconds) * expected.trials / slots.concurrency)
    return f"one full trial takes {duration(sum(seconds))}; without pruning the study takes {unpruned}"


def trials_by_epoch(expected: AshaPlan, epochs: int) -> list[float]:
    """Expected number of trials that train each epoch, from the first epoch on."""
    ends = [0, *(rung.epoch for rung in expected.rungs), epochs]
    counts = [*(rung.reached for rung in expected.rungs), expected.complete]
    return [count for (start, end), count in zip(pairwise(ends), counts, strict=True) for _ in range(end - start)]


def _epoch_seconds(config: TrialConfig, cost: Cost, epoch: int) -> float:
    train = config.train
    stage = schedule.stage_of(schedule.stages(train.progressive, train.epochs), epoch)
    eval_size = train.eval_size or schedule.stages(train.progressive, train.epochs)[-1].size
    training = cost.train_images * cost.step_seconds / cost.batch * (stage.size / cost.size) ** 2
    scores = 2 if train.ema.decay else 1
    return training + scores * cost.validation_images * cost.eval_seconds * (eval_size / cost.eval_size) ** 2
