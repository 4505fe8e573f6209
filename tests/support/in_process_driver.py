"""A study trained in this process: real ledger, conductor, Ray adapters and worker, without Ray's processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from hpo.clock import Clock
from hpo.driver.conductor import Conductor
from hpo.driver.events import Event
from hpo.driver.ray_backend.scheduler import StudyScheduler
from hpo.driver.ray_backend.searcher import StudySearcher
from hpo.driver.ray_backend.trainable import Worker
from hpo.ledger.records import StudyRecord
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.study import Spec


class Died(BaseException):
    """The end of a process: nothing catches it and nothing is cleaned up."""


JOB = {"trainer": "tests.synthetic:train", "device": "cpu", "threads": None, "cache_dir": ""}


def create(storage: BaseStorage, spec: Spec, clock: Clock | None = None) -> Ledger:
    """A new study."""
    return Ledger.create(storage, spec, {"identity": "solo"}, study_sampler(spec), clock=clock)


def reopen(storage: BaseStorage, spec: Spec, clock: Clock | None = None) -> Ledger:
    """The study as a new driver finds it."""
    return Ledger.open(storage, spec.study, study_sampler(spec), clock=clock)


def steps(conductor: Conductor, checkpoints: Path, slots: int = 2) -> Iterator[dict[int, int]]:
    """Train epoch by epoch, `slots` trials in turn; after each round yields the epochs recorded by trial."""
    searcher, scheduler = StudySearcher(conductor, str(checkpoints), JOB), StudyScheduler(conductor)
    workers: dict[int, Worker] = {}
    try:
        while conductor.stopping is None:
            while len(workers) < slots and isinstance(config := searcher.suggest("any"), dict):
                workers[config["number"]] = Worker(config=config)
            if not workers:
                return
            for number, worker in list(workers.items()):
                if scheduler.on_trial_result(None, None, flat(worker.step())) == scheduler.STOP:
                    workers.pop(number).cleanup()
            yield {trial.number: len(trial.epochs) for trial in conductor.ledger.trials}
    finally:
        for worker in workers.values():
            worker.cleanup()


def flat(report: dict[str, Any]) -> dict[str, Any]:
    """A report as Ray passes it on."""
    metrics = {f"metrics/{key}": value for key, value in report.pop("metrics", {}).items()}
    return report | metrics


def finish(ledger: Ledger, checkpoints: Path, listener: Callable[[Event], Any] = lambda event: None) -> Conductor:
    """Train a study to its end and close it."""
    conductor = Conductor(ledger, listener=listener)
    for _ in steps(conductor, checkpoints):
        pass
    conductor.close()
    return conductor


def told(storage: BaseStorage, study: StudyRecord) -> dict[int, object]:
    """What Optuna and the ledger say of each trial's end, which must be one thing."""
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    frozen = storage.get_all_trials(storage.get_study_id_from_name(study.name))
    for trial, stored in zip(study.trials, frozen, strict=True):
        assert stored.state.name == states[trial.status]
        assert stored.intermediate_values == {epoch.metrics.epoch: epoch.metrics.val_accuracy for epoch in trial.epochs}
        assert stored.params == trial.values
        assert [epoch.metrics.epoch for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))
    return {trial.number: (dict(trial.values), trial.seed, trial.enqueued, trial.control) for trial in study.trials}
