"""A complete training on all of CIFAR-10 from random weights, to check its learning curves.

    python -m reports.benchmarks.training.full_training --root FOLDER \
        --json reports/benchmarks/training/full_training.json

The training uses progressive learning in four stages, RandAugment, mixup, dropout and averaged weights. All accuracies
are those of the validation images; the test images are not used. The command writes every epoch to the JSON file and
the learning curves to a PNG file beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from reports.benchmarks.environment import environment
from reports.drawing import palette
from reports.drawing.plot import Axis, Lines, Panel, Plot, Rule
from trainers import data, finetune
from trainers.api import (
    AlphaRamp,
    Context,
    DataConfig,
    Ema,
    EpochMetrics,
    MagnitudeRamp,
    ModelConfig,
    Progressive,
    RateRamp,
    SizeRamp,
    TrainConfig,
    TrialConfig,
)
from trainers.checkpoint import DirectoryStore


def configuration(
    source: DataConfig, *, model: str, epochs: int, batch: int, sizes: tuple[int, int], size_multiple: int = 1
) -> TrialConfig:
    """Return the training: four sizes, a quarter of the epochs each, with growing regularisation.

    Args:
        sizes: side of the images of the first and of the last stage, pixels.
    """
    return TrialConfig(
        data=source,
        model=ModelConfig(name=model, pretrained=False, bn_momentum=0.1),
        train=TrainConfig(
            epochs=epochs,
            batch_size=batch,
            lr=2e-3,
            weight_decay=0.05,
            warmup_epochs=min(2.0, epochs / 4),
            ema=Ema(decay=0.998),
            score="ema",
            eval_batch_size=1000,
            checkpoint_every=epochs,
            progressive=Progressive(
                stages=min(4, epochs),
                size=SizeRamp(start=sizes[0], end=sizes[1]),
                size_multiple=size_multiple,
                randaugment=MagnitudeRamp(start=2, end=8),
                dropout=RateRamp(start=0.1, end=0.3),
                mixup=AlphaRamp(start=0.0, end=0.1),
            ),
        ),
    )


def figure(epochs: Sequence[EpochMetrics], title: str) -> Plot:
    """Return the figure of validation accuracy and losses over epochs, with the stages marked."""
    numbers = [float(metrics.epoch) for metrics in epochs]
    starts = [
        Rule(metrics.epoch - 0.5, f"{metrics.image_size} px")
        for before, metrics in zip([None, *epochs], epochs, strict=False)
        if before is None or before.stage != metrics.stage
    ]

    def line(name: str, values: Sequence[float | None], color: str) -> Lines:
        return Lines(name, [(numbers, [float(value or 0) for value in values])], color, width=2)

    accuracy = Panel(
        x=Axis("epoch"),
        y=Axis("validation accuracy, %"),
        marks=(
            line("averaged weights (EMA)", [100 * (metrics.val_accuracy_ema or 0) for metrics in epochs], palette.BLUE),
            line("raw weights", [100 * (metrics.val_accuracy_raw or 0) for metrics in epochs], palette.ORANGE),
        ),
        rules=starts,
    )
    losses = Panel(
        x=Axis("epoch"),
        y=Axis("cross-entropy, nats"),
        marks=(
            line(
                "training, with mixup and smoothed labels", [metrics.train_loss for metrics in epochs], palette.PURPLE
            ),
            line("validation", [metrics.val_loss for metrics in epochs], palette.BLUE),
        ),
        rules=starts,
    )
    return Plot("full-training", title, (accuracy, losses), columns=2, height=420)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, print a line per epoch and write the files."""
    options = _options(arguments)
    source = DataConfig(name="cifar10", root=str(options.root), train_limit=options.train_limit)
    config = configuration(
        source, model=options.model, epochs=options.epochs, batch=options.batch, sizes=tuple(options.sizes)
    )
    conditions, epochs = environment(), []
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache_dir or scratch
        data.prepare(config.data, cache)
        context = Context(seed=0, checkpoints=DirectoryStore(f"{scratch}/run"), device=options.device, cache_dir=cache)
        started = time.perf_counter()
        for metrics in finetune.train(config, context):
            epochs.append(metrics)
            print(
                f"epoch {metrics.epoch:3} {metrics.image_size:4} px  loss {metrics.train_loss:.3f}  validation "
                f"{metrics.val_loss:.3f}  raw {100 * (metrics.val_accuracy_raw or 0):.2f} %  EMA "
                f"{100 * (metrics.val_accuracy_ema or 0):.2f} %  {metrics.images_per_second:,.0f} images/s",
                file=sys.stderr,
            )
        seconds = time.perf_counter() - started
    last = epochs[-1]
    print(f"{len(epochs)} epochs in {seconds:.1f} s: validation accuracy {100 * (last.val_accuracy or 0):.2f} %")
    if options.json:
        report = {
            "environment": conditions,
            "config": asdict(config) | {"data": asdict(config.data) | {"root": "data"}},
            "seconds": seconds,
            "epochs": [
                {key: value for key, value in asdict(metrics).items() if value is not None} for metrics in epochs
            ],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        title = f"{options.model} from random weights, {conditions['gpu'] or 'CPU'}, {seconds:.0f} s"
        from reports.drawing.png import png  # matplotlib, which a machine that trains need not have

        options.json.with_suffix(".png").write_bytes(png(figure(epochs, title)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.training.full_training",
        description=__doc__.split("\n")[0] if __doc__ else None,
    )
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of the CIFAR-10 files")
    parser.add_argument("--model", default="tf_efficientnetv2_b0", help="timm model (tf_efficientnetv2_b0)")
    parser.add_argument("--epochs", type=int, default=40, help="epochs (40)")
    parser.add_argument("--batch", type=int, default=512, help="images per step (512)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=2,
        default=(64, 128),
        help="image size of the first and the last stage, pixels (64 128)",
    )
    parser.add_argument("--train-limit", type=int, help="largest number of training images (all)")
    parser.add_argument(
        "--device",
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu, cuda or cuda:N (cuda if there is a GPU)",
    )
    parser.add_argument("--cache-dir", help="folder for decoded images (a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all epochs to this file, and the curves beside it as .png")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
