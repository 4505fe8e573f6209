"""How well a rung predicts the final result: epochs or compute, aligned with stages or not, raw or averaged weights.

    python -m reports.benchmarks.pruning collect --root FOLDER --json reports/benchmarks/pruning/rungs.json
    python -m reports.benchmarks.pruning analyse reports/benchmarks/pruning/rungs.json

`collect` trains random configurations (learning rate, dropout, RandAugment, stages, first size) from random weights,
without pruning, and writes the metrics of every epoch. All use one validation set and one evaluation size. It needs
torch, timm and the CIFAR files. `analyse` ranks the configurations at the rungs of every setting and writes Markdown
and a plot beside the JSON file. It needs the dependencies of `hpo`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from reports.benchmarks.pruning.collect import Settings, collect

DEFAULTS: dict[str, dict[str, Any]] = {
    # for two CPU cores
    "cpu": {
        "train_images": 6000,
        "validation_images": 1500,
        "epochs": 9,
        "batch_size": 64,
        "size_start": 32,
        "size_end": 48,
        "size_step": 8,
        "jobs": 2,
    },
    "cuda": {
        "train_images": 20_000,
        "validation_images": 5000,
        "epochs": 14,
        "batch_size": 256,
        "size_start": 32,
        "size_end": 96,
        "size_step": 16,
        "jobs": 8,
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `collect` or `analyse`; return the exit status."""
    options = _options(arguments)
    return _collect(options) if options.command == "collect" else _analyse(options)


def _collect(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        options.cache_dir = options.cache_dir or scratch
        report = collect(
            Settings(**{item.name: getattr(options, item.name) for item in fields(Settings)}), options.json
        )
    failed = sum(configuration["failure"] is not None for configuration in report["configurations"])
    print(
        f"{len(report['configurations']) - failed} finished, {failed} failed and {report['unfinished']} unfinished "
        f"configurations after {report['seconds']:.0f} s; written to {options.json}",
        file=sys.stderr,
    )
    return 0


def _analyse(options: argparse.Namespace) -> int:
    from reports.benchmarks.pruning.report import write  # `collect` must run without what this needs

    report = json.loads(options.source.read_text(encoding="utf-8"))
    path = options.markdown or options.source.with_suffix(".md")
    print(write(report, path, options.grace_period, options.reduction_factor))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.pruning", description=(__doc__ or "").split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _collect_options(commands.add_parser("collect", help="train configurations without pruning"))
    _analyse_options(
        commands.add_parser("analyse", help="compare how well the rungs of each setting rank the configurations")
    )
    options = parser.parse_args(arguments)
    if options.command == "collect":
        _complete(options)
    return options


def _collect_options(parser: argparse.ArgumentParser) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.description = "Defaults stand in brackets: on a CPU; on a GPU."
    add = parser.add_argument
    add("--json", type=Path, required=True, help="write all results to this file after each training")
    add("--seconds-limit", type=float, help="stop after this many seconds and keep the finished trainings")
    add("--jobs", type=int, help="trainings at a time, one process each [2; 8]")
    add("--threads", type=int, help="torch threads per training [its share of the cores]")
    add("--device", default=device, help="cpu, cuda or cuda:N [cuda if there is a GPU]")
    add("--configurations", type=int, default=24, help="number of configurations; a conclusion needs at least 16 [24]")
    add("--seed", type=int, default=0, help="seed of the configurations and their trainings [0]")
    add("--data", choices=("shapes", "cifar10", "cifar100"), default="cifar10", help="data set [cifar10]")
    add("--root", default="data", help="folder of the CIFAR files [data]")
    add("--cache-dir", help="folder for decoded images [a temporary folder]")
    add("--train-images", type=int, help="training images, balanced over classes [6000; 20000]")
    add("--validation-images", type=int, help="validation images, at most a tenth of the data [1500; 5000]")
    add(
        "--model", default="tf_efficientnetv2_b0", help="timm model, trained from random weights [tf_efficientnetv2_b0]"
    )
    add("--bn-momentum", type=float, default=0.1, help="share of each batch in the batch-norm statistics [0.1]")
    add("--epochs", type=int, help="epochs of every training, at least 4 [9; 14]")
    add("--batch-size", type=int, help="images per step [64; 256]")
    add("--weight-decay", type=float, default=0.01, help="weight decay [0.01]")
    add("--warmup-epochs", type=float, default=0.0, help="epochs of linear warm-up [0]")
    add("--ema-decay", type=float, default=0.99, help="decay of the averaged weights, with warm-up [0.99]")
    add("--size-start", type=int, help="smallest size of a first stage, pixels [32; 32]")
    add("--size-end", type=int, help="size of every last stage and evaluation, pixels [48; 96]")
    add("--size-step", type=int, help="step between sizes of first stages, pixels [8; 16]")
    add("--lr-low", type=float, default=1e-4, help="smallest learning rate; drawn on a log scale [0.0001]")
    add("--lr-high", type=float, default=1e-2, help="largest learning rate [0.01]")
    add("--dropout", type=float, default=0.5, help="largest dropout rate of the last stage [0.5]")
    add("--randaugment", type=float, default=15.0, help="largest RandAugment magnitude of the last stage [15]")


def _analyse_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", type=Path, help="the JSON file that `collect` wrote")
    add("--markdown", type=Path, help="write the results to this file and the plot beside it [beside the JSON file]")
    add("--grace-period", type=float, default=1.0, help="first rung [1]")
    add("--reduction-factor", type=float, default=2.0, help="factor between rungs; 2 shows more rungs than 4 [2]")


def _complete(options: argparse.Namespace) -> None:
    """Fill options that were not given with the defaults of the device."""
    for name, value in DEFAULTS[options.device.partition(":")[0]].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.threads is None:
        options.threads = max(1, (os.cpu_count() or 1) // options.jobs)
