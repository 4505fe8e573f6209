"""Learning curves of LCBench's tasks from YAHPO Gym's neural surrogate (Pfisterer et al., arXiv 2109.03670).

Epoch 1 of the surrogate is an untrained network, so its epochs 2 to 51 are used as epochs 1 to 50.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

Array = NDArray[np.float64]

EPOCHS = 50
DEVELOPMENT = (
    "3945",
    "7593",
    "34539",
    "126026",
    "146212",
    "167152",
    "167161",
    "167168",
    "168329",
    "168335",
    "168868",
    "189354",
)
"""Tasks for the choice of settings. All others are for a final check."""

_ORDER = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
_REFERENCE_SAMPLES = 10_000


def distributions(log_weight_decay: bool = False) -> dict[str, BaseDistribution]:
    """Return the seven hyperparameters of LCBench. In the published space the weight decay has a linear scale."""
    return {
        "batch_size": IntDistribution(16, 512, log=True),
        "learning_rate": FloatDistribution(1e-4, 0.1, log=True),
        "momentum": FloatDistribution(0.1, 0.99),
        "weight_decay": FloatDistribution(1e-5, 0.1, log=log_weight_decay),
        "num_layers": IntDistribution(1, 5),
        "max_units": IntDistribution(64, 1024, log=True),
        "max_dropout": FloatDistribution(0.0, 1.0),
    }


@dataclass(frozen=True)
class Curve:
    """One training. After epoch i + 1, `seconds[i]` have passed and the accuracy is `accuracy[i]` (0 to 1)."""

    seconds: Array
    accuracy: Array

    def epoch_seconds(self, epoch: int) -> float:
        """Seconds of one epoch, from 1."""
        return float(self.seconds[epoch - 1] - (self.seconds[epoch - 2] if epoch > 1 else 0.0))


class Surrogate:
    """The ONNX model in `folder`, run on one thread."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        codes: dict[str, int] = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
        self._codes = {task: code for task, code in codes.items() if task.isdigit()}

    def tasks(self) -> list[str]:
        """Return the OpenML ids of all tasks."""
        return sorted(self._codes, key=int)

    def metrics(self, task: str, rows: Array) -> tuple[Array, Array]:
        """Return cumulative seconds and validation accuracies (0 to 1) for rows of (epoch, seven hyperparameters)."""
        code = np.full((len(rows), 1), self._codes[task], dtype=np.int32)
        output = self._session.run(["output"], {"x_cont": rows.astype(np.float32), "x_cat": code})[0]
        return output[:, 0].astype(float), output[:, 1].astype(float) / 100


class Task:
    """One data set: the learning curves of configurations, and the scale of its regret."""

    def __init__(self, surrogate: Surrogate, task: str, log_weight_decay: bool = False) -> None:
        self.name = task
        self.distributions = distributions(log_weight_decay)
        self._surrogate = surrogate

    def curve(self, params: Mapping[str, Any]) -> Curve:
        """Return the learning curve of a configuration."""
        epochs = np.arange(1, EPOCHS + 2, dtype=float)
        settings = np.array([float(params[name]) for name in _ORDER])
        rows = np.column_stack([epochs, np.tile(settings, (len(epochs), 1))])
        seconds, accuracy = self._surrogate.metrics(self.name, rows)
        seconds = np.maximum.accumulate(seconds)
        return Curve(np.maximum(seconds[1:], 1e-3), accuracy[1:])

    def finals(self, configurations: Sequence[Mapping[str, Any]]) -> Array:
        """Return the accuracies after the last epoch."""
        rows = [[EPOCHS + 1.0, *(float(params[name]) for name in _ORDER)] for params in configurations]
        return self._surrogate.metrics(self.name, np.array(rows))[1]

    def regret(self, accuracy: float) -> float:
        """Return (best - accuracy) / (best - median) of 10,000 random configurations; below 0: better than all."""
        best, median, _ = self._reference
        return (best - accuracy) / (best - median)

    @property
    def full_training(self) -> float:
        """Median seconds of a full training of a random configuration."""
        return self._reference[2]

    @cached_property
    def _reference(self) -> tuple[float, float, float]:
        rows = self._random_rows(np.random.default_rng(0))
        seconds, accuracy = self._surrogate.metrics(self.name, rows)
        return float(accuracy.max()), float(np.median(accuracy)), float(np.median(seconds))

    def _random_rows(self, rng: np.random.Generator) -> Array:
        columns = [np.full(_REFERENCE_SAMPLES, EPOCHS + 1.0)]
        for name in _ORDER:
            columns.append(_uniform(self.distributions[name], rng))
        return np.column_stack(columns)


def _uniform(distribution: BaseDistribution, rng: np.random.Generator) -> Array:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - half, distribution.high + half
    if distribution.log:
        values = np.exp(rng.uniform(np.log(low), np.log(high), _REFERENCE_SAMPLES))
    else:
        values = rng.uniform(low, high, _REFERENCE_SAMPLES)
    return np.rint(values) if half else values
