"""The shipped trainer: fine-tune a timm classifier with progressive learning."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from trainers import data
from trainers.api import CheckpointError, Context, Diverged, EpochMetrics, GpuUse, ModelConfig, TrialConfig
from trainers.loop.engine import Engine, TrainedEpoch
from trainers.loop.evaluate import Score
from trainers.loop.saving import CheckpointWriter
from trainers.measure.gpu_use import measure_gpu_use
from trainers.network import model_size, weights
from trainers.numerics import memory_errors, numerics_of, session
from trainers.schedule import compute


def train(config: TrialConfig, context: Context, *, score_both: bool = False) -> Iterator[EpochMetrics]:
    """Train from the newest checkpoint, or from the start; yield the metrics of each epoch (`trainers.api.Trainer`).

    With averaged weights, those weights that `train.score` names are evaluated in every epoch, and the others at the
    end of each stage; with `score_both`, both are in every epoch. torch's process-wide settings (threads, precision)
    are changed only while an epoch runs, and restored before each `yield`.

    Raises:
        DataError, WeightsError: before the first epoch.
        Diverged, OutOfMemory: in the epoch in which it happens.
        CheckpointError: the checkpoint belongs to another configuration or seed.
        TrainerError: a setting does not fit the model.
    """
    numerics = numerics_of(config.train, context.device)
    with session(context, numerics):
        images, validation = data.train_and_validation(
            config.data, context.cache_dir, context.device, context.device_share
        )
        engine = Engine(config, context, numerics, images)
    owner = identity(config, context.seed)
    with closing(engine), checkpoint_writer(context) as writer:
        with session(context, numerics):
            resumed = resume(engine, context, owner)
        if resumed:
            yield resumed
        for epoch in range(resumed.epoch + 1 if resumed else 1, config.train.epochs + 1):
            with session(context, numerics):
                started = time.perf_counter()
                metrics = _epoch(engine, epoch, validation, score_both=score_both)
                checkpoint = save(engine, writer, owner, metrics)
            yield dataclasses.replace(metrics, checkpoint=checkpoint, seconds=time.perf_counter() - started)


def prove(config: TrialConfig, context: Context) -> None:
    """Show that this machine has the images and the weights; the images stay loaded for `train`.

    Raises:
        DataError, WeightsError: it has not.
    """
    with session(context, numerics_of(config.train, context.device)):
        data.train_and_validation(config.data, context.cache_dir, context.device, context.device_share)
    _prove_weights(config.model.name, config.model.pretrained)


@functools.lru_cache
def _prove_weights(name: str, pretrained: bool | str) -> None:
    """Once per process: a file is read to its end."""
    weights.check(ModelConfig(name=name, pretrained=pretrained))


def gpu_use(config: TrialConfig, context: Context) -> GpuUse:
    """Return what a training needs of a CUDA device, measured on steps of its last stage (`trainers.api.Trainer`).

    Raises:
        DataError, OutOfMemory, TrainerError: as `train`.
    """
    return measure_gpu_use(config, context)


def identity(config: TrialConfig, seed: int, part: str = "train") -> str:
    """Return the SHA-256 of what a checkpoint belongs to: the configuration, the seed and the `part` of the data.

    The place of the data does not count. Settings at their default do not count either, so that checkpoints stay valid
    when an upgrade adds settings.
    """
    default = TrialConfig()
    placeless = dataclasses.replace(config.data, root=default.data.root, download=default.data.download)
    # `false` was the default of `cuda_graphs` once, and recorded steps compute the same.
    graphs = config.train.cuda_graphs or default.train.cuda_graphs
    train = dataclasses.replace(config.train, cuda_graphs=graphs)
    chosen = _differences(dataclasses.replace(config, data=placeless, train=train), default)
    return hashlib.sha256(json.dumps([chosen, seed, part], sort_keys=True).encode()).hexdigest()


def _differences(value: Any, default: Any) -> Any:
    """The fields of a dataclass that differ from `default`, by name; any other value as it is."""
    if not dataclasses.is_dataclass(value):
        return value
    names = [field.name for field in dataclasses.fields(value)]
    pairs = {name: (getattr(value, name), getattr(default, name)) for name in names}
    return {name: _differences(own, other) for name, (own, other) in pairs.items() if own != other}


def resume(engine: Engine, context: Context, identity: str) -> EpochMetrics | None:
    """Load the newest intact checkpoint into `engine`; return the metrics of its epoch, or None if there is none.

    Raises:
        CheckpointError: the checkpoint belongs to another configuration or seed.
    """
    loaded = context.checkpoints.load()
    if loaded is None:
        return None
    epoch, tensors, state = loaded
    if state.get("identity") != identity:
        raise CheckpointError(
            f"the checkpoint of epoch {epoch} belongs to another configuration or seed; use another checkpoint folder"
        )
    engine.load(tensors, state)
    return EpochMetrics(**{**state["metrics"], "checkpoint": state.get("checkpoint")})


def checkpoint_writer(context: Context) -> CheckpointWriter:
    """Return the writer of a training's checkpoints. A GPU computes on while they are written; a CPU has no time."""
    return CheckpointWriter(context.checkpoints, overlapped=context.device.startswith("cuda"))


def save(engine: Engine, writer: CheckpointWriter, identity: str, metrics: EpochMetrics) -> str | None:
    """Store everything that `resume` needs, if the epoch of `metrics` is one of those that are saved.

    Returns the SHA-256 of a checkpoint that has become complete since the last call: on a CUDA device that of an
    earlier epoch, except in the last one.
    """
    train = engine.config.train
    last = metrics.epoch == train.epochs
    with memory_errors(f"saving the checkpoint of epoch {metrics.epoch}"):
        if last or metrics.epoch % train.checkpoint_every == 0:
            state: dict[str, Any] = {**engine.state(), "identity": identity, "metrics": dataclasses.asdict(metrics)}
            writer.save(metrics.epoch, engine.tensors(), state)
        if last:
            writer.wait()
        return writer.written()


def _epoch(engine: Engine, epoch: int, validation: data.Images, *, score_both: bool) -> EpochMetrics:
    started = time.perf_counter()
    trained = engine.run_epoch(epoch)
    scoring = time.perf_counter()
    by_average = engine.average is not None and engine.config.train.score != "raw"
    both = score_both or epoch == trained.stage.last_epoch
    raw = engine.score(validation) if both or not by_average else None
    averaged = None
    if engine.average and (both or by_average):
        with memory_errors("evaluating averaged weights"), engine.average.applied():
            averaged = engine.score(validation)
    scored = averaged if by_average else raw
    assert scored is not None
    if not math.isfinite(scored.loss):
        raise Diverged(f"the validation loss became {scored.loss} in epoch {epoch}")
    now = time.perf_counter()
    metrics = describe(engine, trained, scored, raw, averaged)
    return dataclasses.replace(metrics, eval_seconds=now - scoring, seconds=now - started)


def describe(
    engine: Engine, trained: TrainedEpoch, scored: Score, raw: Score | None = None, averaged: Score | None = None
) -> EpochMetrics:
    """Return the metrics to report for an epoch.

    `scored` becomes `val_accuracy` and `val_loss`; `raw` and `averaged` are the scores of both kinds of weights, None
    where they were not evaluated.
    """
    stage = trained.stage
    chosen = {"accumulate": float(trained.parts)} if engine.config.train.accumulate == "auto" else {}
    return EpochMetrics(
        epoch=trained.epoch,
        val_accuracy=scored.accuracy,
        val_loss=scored.loss,
        train_loss=trained.train_loss,
        val_accuracy_raw=raw.accuracy if raw else None,
        val_accuracy_ema=averaged.accuracy if averaged else None,
        stage=stage.index,
        image_size=stage.size,
        batch_size=trained.batch_size,
        randaugment=stage.randaugment,
        dropout=stage.dropout,
        mixup=stage.mixup,
        learning_rate=trained.learning_rate,
        images_per_second=trained.images / trained.seconds,
        train_seconds=trained.seconds,
        params=model_size.parameters(engine.model),
        macs=model_size.macs(engine.model, engine.eval_size),
        compute=compute(engine.plan, trained.epoch, engine.config.train.compute_size),
        own={**(scored.by_class or {}), **chosen} or None,
    )
