"""A network from random weights to 94 % validation accuracy on CIFAR-10, and the seconds that one GPU takes for it.

The clock starts before the network is built and includes the recording of graphs and every evaluation. The number of
epochs, over which all schedules span, is what fits into the time by a short measurement at the largest size.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace

from reports.benchmarks.gpu.settings import MODEL, Send, Settings
from reports.benchmarks.training import full_training
from trainers import data, finetune
from trainers.api import Context, DataConfig, EpochMetrics, Progressive, SizeRamp, TrialConfig
from trainers.checkpoint import DirectoryStore
from trainers.loop.cuda_graphs import Refusals
from trainers.numerics import numerics_of

TARGET = 0.94
EPOCHS = 10, 60
"""Fewest and most epochs. With fewer, nothing reaches the target; more only take longer."""
AROUND = 15.0
"""Seconds for recording four sizes and for the first kernels."""
SHARE = 0.85
"""Share of the remaining time to plan with. The rest is for evaluation and for what the short measurement misses."""
PROBE_STEPS = 20


def run(settings: Settings, seconds: float, send: Send) -> None:
    """Train until the target is reached, and send every epoch."""
    ends = time.monotonic() + seconds
    config = configuration(settings, EPOCHS[0])
    images = data.prepare(config.data, settings.scratch).train_count
    rate = _images_per_second(settings, config)
    epochs = 2 if settings.tiny else fitting(ends - time.monotonic(), rate, images)
    plan = {"epochs": epochs, "target": TARGET, "probed_images_per_second": rate, "training_images": images}
    send("plan", {**plan, "cuda_graphs": records(config, _context(settings, "training"))})
    started = time.perf_counter()
    stream = finetune.train(configuration(settings, epochs), _context(settings, "training"))
    for metrics in stream:
        known = {key: value for key, value in asdict(metrics).items() if value is not None}
        passed = time.perf_counter() - started
        send(f"epoch {metrics.epoch}", {**known, "since_start": passed})
        if (metrics.val_accuracy or 0) >= TARGET:
            send("reached", {"epoch": metrics.epoch, "seconds": passed})
            break
    stream.close()  # type: ignore[attr-defined]


def configuration(settings: Settings, epochs: int) -> TrialConfig:
    """Return the training of so many epochs: that of the full training, at sizes in steps of 32 px."""
    if settings.tiny:
        source = DataConfig(name="shapes", train_limit=80, validation_limit=40)
        return full_training.configuration(source, model=MODEL[True], epochs=epochs, batch=20, sizes=(16, 32))
    source = DataConfig(name="cifar10", root=settings.root or "data")
    sizes = {"sizes": (64, 128), "size_multiple": 32}
    return full_training.configuration(source, model=MODEL[False], epochs=epochs, batch=512, **sizes)  # type: ignore[arg-type]


def fitting(seconds: float, images_per_second: float, images: int) -> int:
    """Return how many epochs of so many images fit into `seconds`, within the bounds of `EPOCHS`."""
    fits = int((seconds - AROUND) * SHARE * images_per_second / images)
    return min(max(fits, EPOCHS[0]), EPOCHS[1])


def records(config: TrialConfig, context: Context) -> bool:
    """Return whether the steps of a training are CUDA graphs: on a GPU, unless a recording has failed earlier."""
    numerics = numerics_of(config.train, context.device)
    return context.device.startswith("cuda") and not Refusals.of(config, numerics, context.cache_dir)


def _images_per_second(settings: Settings, config: TrialConfig) -> float:
    """The speed at the last size, in an epoch of a few steps after that of the recording."""
    train = config.train
    stages = Progressive(stages=1, size=SizeRamp(end=train.progressive.size.end))
    short = replace(train, epochs=2, warmup_epochs=0.0, checkpoint_every=2, progressive=stages)
    batch = train.batch_size
    assert batch != "auto"
    steps = 2 if settings.tiny else PROBE_STEPS
    few = replace(config.data, train_limit=batch * steps, validation_limit=100)
    *_, last = finetune.train(replace(config, data=few, train=short), _context(settings, "probe"))
    return _speed(last)


def _speed(metrics: EpochMetrics) -> float:
    assert metrics.images_per_second is not None
    return metrics.images_per_second


def _context(settings: Settings, name: str) -> Context:
    return Context(
        seed=0,
        checkpoints=DirectoryStore(f"{settings.scratch}/{name}"),
        device=settings.device,
        threads=1 if settings.tiny else settings.cores,
        cache_dir=settings.scratch,
    )
