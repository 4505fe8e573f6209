"""A study that trains in no time: a function of configuration and epoch stands for the trainer."""

from __future__ import annotations

from collections.abc import Callable

from hpo.driver.conductor import Conductor
from hpo.home import Home
from hpo.ledger.reader import load_study, study_names
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.study import Spec
from trainers.api import EpochMetrics, TrialConfig


def train(
    spec: Spec, home: Home, metrics: Callable[[TrialConfig, int], EpochMetrics], trials: int | None = None
) -> StudyRecord:
    """Train the study `spec`, or at most so many `trials` of it; opens it where it exists."""
    storage, sampler = open_storage(home.ledger_url), study_sampler(spec)
    known = spec.study in study_names(storage)
    ledger = Ledger.open(storage, spec.study, sampler) if known else Ledger.create(storage, spec, {}, sampler)
    conductor, begun = Conductor(ledger), 0
    while (trials is None or begun < trials) and (assignment := conductor.next_trial()) is not None:
        begun += 1
        for epoch in range(1, spec.train.epochs + 1):
            if not conductor.on_epoch(assignment.number, metrics(assignment.config, epoch)):
                break
    conductor.close()
    return load_study(storage, spec.study)
