"""The two studies of a race as processes of their own, and the rate of the bare steps."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hpo.clock import Clock
from reports.benchmarks.race.course import (
    AT_ONCE,
    DROPOUT,
    GRACE,
    LAYERS,
    LR,
    MAGNITUDE,
    REDUCTION,
    WEIGHT_DECAY,
    Course,
    Epoch,
    Finish,
)
from reports.benchmarks.training.contenders import Case, limit

NAME = "ours"
LIMIT_STEPS = 12


def by_hand(course: Course, folder: Path) -> Finish:
    """Run the study by hand.

    Raises:
        RuntimeError: it failed.
    """
    clock = Clock()
    started = clock.now()
    _run([sys.executable, "-m", "reports.benchmarks.race.stock", str(folder)], json.dumps(dataclasses.asdict(course)))
    seconds = clock.now() - started
    lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    epochs = (
        Epoch(trial, number, began - started, ended - started, images, accuracy)
        for trial, number, began, ended, images, accuracy in lines
    )
    return Finish("by hand", seconds, tuple(epochs))


def ours(course: Course, folder: Path) -> Finish:
    """Run the study of this tool.

    Raises:
        RuntimeError: it failed.
    """
    from hpo.home import Home
    from hpo.ledger.reader import read_study

    spec = folder / "ours.yaml"
    spec.write_text(json.dumps(specification(course)), encoding="utf-8")  # JSON is YAML
    clock = Clock()
    started = clock.now()
    _run([sys.executable, "-m", "hpo", "run", str(spec), "--home", str(folder / "home")], "")
    seconds = clock.now() - started
    epochs = []
    for trial in read_study(Home(folder / "home"), NAME).trials:
        for record in trial.epochs:
            metrics = record.metrics
            took = (metrics.train_seconds or 0.0) + (metrics.eval_seconds or 0.0)
            images = round((metrics.images_per_second or 0.0) * (metrics.train_seconds or 0.0))
            ended = record.recorded - started
            accuracy = metrics.val_accuracy or 0.0
            epochs.append(Epoch(str(trial.number), metrics.epoch, ended - took, ended, images, accuracy))
    return Finish("hpo", seconds, tuple(epochs))


def specification(course: Course) -> dict[str, Any]:
    """The study of this tool."""
    source = dataclasses.asdict(course.source)
    names = ("name", "root", "train_limit", "validation_limit")
    return {
        "study": NAME,
        "data": {name: source[name] for name in names},
        "model": {"name": course.model, "pretrained": False},
        "train": {
            "epochs": course.epochs,
            "batch_size": course.batch,
            "weight_decay": WEIGHT_DECAY,
            "schedule": "constant",
            "augment": {"crop": "resized", "randaugment_layers": LAYERS},
            "progressive": {"stages": 1, "size": {"end": course.size}},
        },
        "space": {
            "train.lr": {"type": "float", "low": LR[0], "high": LR[1], "log": True},
            "train.progressive.dropout.end": {"type": "float", "low": DROPOUT[0], "high": DROPOUT[1]},
            "train.progressive.randaugment.end": {"type": "float", "low": MAGNITUDE[0], "high": MAGNITUDE[1]},
        },
        "asha": {"reduction_factor": REDUCTION, "grace_period": GRACE},
        "resources": {"device": "cpu", "cpus": 1},
        "concurrency": AT_ONCE,
        "budget": {"trials": course.trials},
    }


def bare_rate(course: Course) -> float:
    """Images per second of forward pass, loss, backward pass and optimiser step alone, of two processes at once with
    one thread each."""
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn")) as pool:
        return sum(pool.map(_bare, [course] * AT_ONCE))


def _bare(course: Course) -> float:
    case = Case(
        model=course.model,
        size=course.size,
        device="cpu",
        batch=course.batch,
        steps=LIMIT_STEPS,
        threads=1,
        workers=1,
        source=course.source,
        cache_dir=course.cache_dir,
    )
    measure = limit(case)
    measure()
    return measure()


def _run(command: list[str], text: str) -> None:
    """Run a study to its end; what it says is kept for the error."""
    done = subprocess.run(command, input=text, text=True, capture_output=True, env=os.environ)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:4])} ended with code {done.returncode}:\n{done.stderr[-3000:]}")
