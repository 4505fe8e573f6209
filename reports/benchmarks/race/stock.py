"""The study put together by hand: timm's loader and network, a plain loop, Ray Tune, OptunaSearch, ASHA and MLflow.

`python -m reports.benchmarks.race.stock FOLDER < COURSE` runs it in this process. Each finished epoch is a line of
`FOLDER/epochs.jsonl`.
"""

from __future__ import annotations

import json
import logging
import sys
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
)

NAME = "stock"


def train(config: dict[str, Any], course: Course, folder: str) -> None:
    """A function trainable as the documentation of Ray Tune shows it, with a checkpoint after every epoch."""
    import tempfile

    import timm
    import torch
    import torch.nn.functional as F
    from ray import tune

    clock = Clock()
    timm_: Any = timm  # half of its functions have no types
    torch.manual_seed(0)
    seen, held_out, classes = _loaders(course, config["magnitude"])
    network = timm_.create_model(course.model, num_classes=classes, drop_rate=config["dropout"])
    optimizer = timm_.optim.create_optimizer_v2(network, opt="adamw", lr=config["lr"], weight_decay=WEIGHT_DECAY)
    for number in range(1, course.epochs + 1):
        began, count, right = clock.now(), 0, 0
        network.train()
        for pixels, labels in seen:
            optimizer.zero_grad()
            F.cross_entropy(network(pixels), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            count += len(pixels)
        network.eval()
        with torch.inference_mode():
            right = sum(int((network(pixels).argmax(1) == labels).sum()) for pixels, labels in held_out)
        accuracy = right / len(held_out.dataset)
        line = [tune.get_context().get_trial_id(), number, began, clock.now(), count, accuracy]
        with Path(folder, "epochs.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        with tempfile.TemporaryDirectory() as scratch:
            torch.save({"net": network.state_dict(), "optimizer": optimizer.state_dict()}, Path(scratch, "state.pt"))
            tune.report({"val_accuracy": accuracy, "epoch": number}, checkpoint=tune.Checkpoint.from_directory(scratch))


def _loaders(course: Course, magnitude: float) -> tuple[Any, Any, int]:
    """timm's loaders of the training and the validation images, and the number of classes."""
    import timm

    from reports.benchmarks.training.contenders import Pictures
    from trainers import data
    from trainers.augment.magnitude import to_timm

    timm_: Any = timm
    parts = data.train_and_validation(course.source, course.cache_dir, "cpu")
    loaders = [
        timm_.data.create_loader(
            Pictures(part.images[part.indices].numpy(), part.labels[part.indices].numpy()),
            input_size=(3, course.size, course.size),
            batch_size=course.batch,
            is_training=training,
            auto_augment=to_timm(magnitude, layers=LAYERS) if training else None,
            interpolation="bilinear",
            num_workers=1,
            persistent_workers=True,
            use_prefetcher=False,
        )
        for part, training in zip(parts, (True, False), strict=True)
    ]
    return loaders[0], loaders[1], len(parts[0].classes)


def run(course: Course, folder: Path) -> None:
    """Run the study."""
    import ray
    from optuna.storages import RDBStorage
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    ray.init("local", num_cpus=AT_ONCE, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    search = OptunaSearch(
        metric="val_accuracy", mode="max", seed=0, study_name=NAME, storage=RDBStorage(f"sqlite:///{folder}/optuna.db")
    )
    trainable = tune.with_resources(tune.with_parameters(train, course=course, folder=str(folder)), {"cpu": 1})
    tune.Tuner(
        trainable,
        param_space={
            "lr": tune.loguniform(*LR),
            "dropout": tune.uniform(*DROPOUT),
            "magnitude": tune.uniform(*MAGNITUDE),
        },
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            num_samples=course.trials,
            max_concurrent_trials=AT_ONCE,
            search_alg=search,
            scheduler=ASHAScheduler(
                time_attr="epoch", max_t=course.epochs, grace_period=GRACE, reduction_factor=REDUCTION
            ),
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=str(folder / "ray"),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name=NAME)],
            verbose=0,
        ),
    ).fit()


if __name__ == "__main__":
    run(Course(**json.load(sys.stdin)), Path(sys.argv[1]))
