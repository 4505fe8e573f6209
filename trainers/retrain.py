"""The final training: on training and validation images together, with one evaluation of the test split."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

from trainers import data, finetune
from trainers.api import Context, EpochMetrics, TrialConfig
from trainers.checkpoint import apart
from trainers.files import replace_atomically
from trainers.loop.engine import Engine
from trainers.loop.evaluate import Score
from trainers.network.model import Model
from trainers.numerics import numerics_of, session

NO_SCORE = Score(accuracy=math.nan, loss=math.nan)
"""The score of a retraining's epochs, which have no validation images."""


@dataclass(frozen=True)
class RetrainResult:
    """The finished model and its result on the test split."""

    test_accuracy: float | None
    """Share of correct test images, 0 to 1, with the saved weights; None if the data set has no test images."""
    test_loss: float | None
    """Mean cross-entropy of the test images, nats; None likewise."""
    epochs: int
    train_loss: float
    """Training loss of the last epoch, nats."""
    train_images: int
    test_images: int
    seconds: float
    """Wall-clock seconds of this call, without the epochs before a resume."""
    weights: Path
    """The file `model.safetensors`. `timm.create_model("local-dir:FOLDER", pretrained=True)` loads its folder."""


def retrain(
    config: TrialConfig,
    context: Context,
    *,
    seed: int,
    output_dir: str | os.PathLike[str],
    on_epoch: Callable[[EpochMetrics], None] | None = None,
    before_test: Callable[[], None] | None = None,
) -> RetrainResult:
    """Train on training and validation images together, evaluate the test split once and save the model.

    After an interruption, the training continues from `context.checkpoints`; each seed needs its own store. `on_epoch`
    gets the metrics of every epoch, with a `val_accuracy` of NaN. `before_test` is called immediately before the test
    split is opened; if it raises, the test split stays closed. A data set without test images is trained on all the
    same, and nothing is opened. Three files are written to `output_dir`:
    `model.safetensors` (the averaged weights, or the raw weights if `train.score` is `raw`), `config.json` (timm's hub
    format) and `metrics.json`.

    Raises:
        TrainerError: for the same reasons as `trainers.finetune.train`.
        OSError: `output_dir` cannot be written to.
    """
    context = dataclasses.replace(context, seed=seed)
    numerics = numerics_of(config.train, context.device)
    where = context.cache_dir, context.device, context.device_share
    started = time.perf_counter()
    with session(context, numerics):
        tested = data.has_test_split(config.data)
        images = data.all_training_images(config.data, *where)
        engine = Engine(config, context, numerics, images)
    with closing(engine), session(context, numerics):
        history = _train(engine, context, on_epoch)
        averaged = engine.average.applied() if engine.average and config.train.score != "raw" else nullcontext()
        with averaged:
            if before_test and tested:
                before_test()
            test = data.open_test_split(config.data, *where) if tested else None
            score = engine.score(test) if test else None
            result = RetrainResult(
                test_accuracy=score.accuracy if score else None,
                test_loss=score.loss if score else None,
                epochs=config.train.epochs,
                train_loss=history[-1].train_loss or math.nan,
                train_images=len(images),
                test_images=len(test) if test else 0,
                seconds=time.perf_counter() - started,
                weights=Path(output_dir) / "model.safetensors",
            )
            _write(result, engine.model, engine.eval_size, images.classes, history)
    return result


def _train(engine: Engine, context: Context, on_epoch: Callable[[EpochMetrics], None] | None) -> list[EpochMetrics]:
    """Train to the last epoch; return the metrics of all epochs since the start or the resume."""
    history = []
    for metrics in _epochs(engine, context):
        history.append(metrics)
        if on_epoch:
            on_epoch(metrics)
    return history


def _epochs(engine: Engine, context: Context) -> Iterator[EpochMetrics]:
    train = engine.config.train
    identity = finetune.identity(engine.config, context.seed, part="train+validation")
    resumed = finetune.resume(engine, context, identity)
    if resumed:
        yield resumed
    with finetune.checkpoint_writer(context) as writer:
        for epoch in range(resumed.epoch + 1 if resumed else 1, train.epochs + 1):
            started = time.perf_counter()
            metrics = finetune.describe(engine, engine.run_epoch(epoch), NO_SCORE)
            checkpoint = finetune.save(engine, writer, identity, metrics)
            yield dataclasses.replace(metrics, checkpoint=checkpoint, seconds=time.perf_counter() - started)


def _write(
    result: RetrainResult,
    model: Model,
    eval_size: int,
    classes: tuple[str, ...],
    history: list[EpochMetrics],
) -> None:
    folder = result.weights.parent
    folder.mkdir(parents=True, exist_ok=True)
    tensors = apart(model.net.state_dict())
    replace_atomically(result.weights, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    summary = {
        **dataclasses.asdict(result),
        "weights": result.weights.name,
        "versions": {"torch": torch.__version__, "timm": timm.__version__},
        "history": [_finite(dataclasses.asdict(metrics)) for metrics in history],
    }
    for name, content in (("config.json", _hub_config(model, eval_size, classes)), ("metrics.json", summary)):
        replace_atomically(folder / name, partial(_write_json, content))


def _hub_config(model: Model, eval_size: int, classes: tuple[str, ...]) -> dict[str, Any]:
    """timm's hub format, with the preprocessing of the evaluation."""
    net: Any = model.net
    return {
        "architecture": net.pretrained_cfg["architecture"],
        "num_classes": len(classes),
        "num_features": net.num_features,
        "label_names": list(classes),
        "pretrained_cfg": {
            "input_size": [3, eval_size, eval_size],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(net.pretrained_cfg["mean"]),
            "std": list(net.pretrained_cfg["std"]),
            "num_classes": len(classes),
            "first_conv": net.pretrained_cfg["first_conv"],
            "classifier": net.pretrained_cfg["classifier"],
        },
        **({"model_args": dict(model.size_options)} if model.size_options else {}),
    }


def _write_json(content: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """Without None, NaN and infinity, which JSON cannot express."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
