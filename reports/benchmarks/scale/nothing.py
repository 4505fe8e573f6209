"""Trials that do nothing, for this tool and for Ray Tune, Optuna and MLflow connected by hand.

`python -m reports.benchmarks.scale.nothing FOLDER TRIALS AT_ONCE` runs the latter in this process.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainers.api import Context, EpochMetrics, TrialConfig

NAME = "nothing"


def value(x: float, y: float) -> float:
    """The objective: a smooth peak, so that the samplers have something to learn."""
    return 1.0 - (x - 0.3) ** 2 - (y - 0.6) ** 2


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """One epoch of no time, as a trainer of this project."""
    yield EpochMetrics(epoch=1, val_accuracy=value(float(config.extra["x"]), float(config.extra["y"])))


def stock(config: dict[str, Any]) -> None:
    """The same as a function trainable."""
    from ray import tune

    tune.report({"val_accuracy": value(config["x"], config["y"])})


def run(folder: Path, trials: int, at_once: int) -> None:
    """A study of the stock stack, as the documentation of its parts shows it."""
    import ray
    from optuna.storages import RDBStorage
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    cores = os.cpu_count() or 1
    ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    search = OptunaSearch(
        metric="val_accuracy", mode="max", study_name=NAME, storage=RDBStorage(f"sqlite:///{folder}/optuna.db")
    )
    tuner = tune.Tuner(
        tune.with_resources(stock, {"CPU": cores / at_once}),
        param_space={"x": tune.uniform(0.0, 1.0), "y": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(
            metric="val_accuracy", mode="max", num_samples=trials, max_concurrent_trials=at_once, search_alg=search
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(folder / "ray"),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name=NAME)],
            verbose=0,
        ),
    )
    tuner.fit()


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
