"""The same search put together by hand from Ray Tune, Optuna and MLflow, as their documentation shows it.

`python -m reports.benchmarks.by_hand.stock FOLDER TRIALS SECONDS [restore]` runs or restores it in this process.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from reports.benchmarks.by_hand.curve import ENQUEUED, EPOCHS, curve, diverges

NAME = "stock"


def train(config: dict[str, Any]) -> None:
    """A function trainable with a checkpoint after every epoch."""
    import json
    import math
    import tempfile
    import time

    from ray import tune

    first = 1
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            first = json.loads(Path(folder, "state.json").read_text())["epoch"] + 1
    for epoch in range(first, EPOCHS + 1):
        time.sleep(config["seconds"])
        value = math.nan if diverges(config["quality"], epoch) else curve(config["quality"], epoch)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(json.dumps({"epoch": epoch}))
            tune.report({"val_accuracy": value, "epoch": epoch}, checkpoint=tune.Checkpoint.from_directory(folder))


def run(folder: Path, trials: int, seconds: float, *, restore: bool) -> None:
    """Run the study, or continue it by `Tuner.restore`."""
    import ray
    from optuna.storages import RDBStorage
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    if restore:
        tuner = tune.Tuner.restore(str(folder / "ray" / NAME), trainable=train, resume_errored=True)
    else:
        search = OptunaSearch(
            metric="val_accuracy",
            mode="max",
            study_name=NAME,
            storage=RDBStorage(f"sqlite:///{folder}/optuna.db"),
            points_to_evaluate=[{"quality": quality, "seconds": seconds} for quality in ENQUEUED],
        )
        tuner = tune.Tuner(
            train,
            param_space={"quality": tune.uniform(0.0, 1.0), "seconds": tune.choice([seconds])},
            tune_config=tune.TuneConfig(
                metric="val_accuracy",
                mode="max",
                num_samples=trials,
                max_concurrent_trials=2,
                search_alg=search,
                scheduler=ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=1, reduction_factor=2),
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
    run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), restore=sys.argv[4:] == ["restore"])
