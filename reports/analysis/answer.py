"""The result of a study and its cost: what a report says first."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import Confirmation
from hpo.results.gpu_hours import confirmation_gpu_hours, gpu_hours
from hpo.results.intervals import Interval
from hpo.results.winner import Gain, Winner, retrainings, validation_images, winner
from reports.analysis.stages import Stages
from reports.analysis.timeline import Time, account, spans

RETRAININGS_KEY = "retrainings"
"""In a study's `info`: the test accuracies that `hpo retrain` measured, newest last. Each entry has `trial` and
`test_accuracy`, and after several seeds also `test_accuracy_std` and `seeds`."""


@dataclass(frozen=True)
class TestAccuracy:
    """Accuracy on the test images after a trial's configuration was retrained."""

    trial: int | None
    accuracy: float
    deviation: float | None
    """Standard deviation over the seeds, None after a single seed."""
    seeds: int


@dataclass(frozen=True)
class Cost:
    """What a study spent, and what pruning saved."""

    started: int
    epochs: int
    time: Time
    saved_epochs: int
    saved_seconds: float
    """Worker seconds that the pruned trials would still have needed, from their own speed and later image sizes."""
    gpu_hours: float
    """0 if no trial ran on a GPU."""
    confirmation_gpu_hours: float
    """GPU-hours of the trainings that confirmed the best trials; no other figure includes them."""

    @property
    def saved_share(self) -> float:
        """The saved share of the worker time that the study would have needed without pruning, 0 to 1."""
        whole = self.time.busy + self.saved_seconds
        return self.saved_seconds / whole if whole else 0.0


@dataclass(frozen=True)
class Answer:
    """The result of one study."""

    study: StudyRecord
    winner: Winner | None
    """The best trial; None while no trial is complete."""
    images: int | None
    """Number of validation images, None if the trainer did not report it."""
    test: TestAccuracy | None
    cost: Cost

    @property
    def best(self) -> TrialRecord | None:
        """The best trial: the choice of a finished confirmation, else the best of the search."""
        return self.winner.trial if self.winner else None

    @property
    def baseline(self) -> TrialRecord | None:
        """The trial of the baseline."""
        return self.study.baseline

    @property
    def accuracy(self) -> Interval | None:
        """The winner's accuracy; None if its interval is not known."""
        return self.winner.interval if self.winner else None

    @property
    def gain(self) -> Gain | None:
        """How much better than the baseline the winner is; None if it is the baseline, or one is not complete."""
        return self.winner.gain if self.winner else None

    @property
    def confirmed(self) -> Confirmation | None:
        """The finished confirmation; then `accuracy` and `gain` are over its new seeds."""
        return self.winner.confirmation if self.winner else None


def answer(study: StudyRecord) -> Answer:
    """Read the result from a study's record."""
    best = winner(study)
    return Answer(
        study, best, validation_images(study), _test_accuracy(study, best.trial if best else None), cost(study)
    )


def _test_accuracy(study: StudyRecord, best: TrialRecord | None) -> TestAccuracy | None:
    """The newest retraining of the best trial, else the newest retraining of any trial."""
    of_best = retrainings(study, best.number) if best is not None else []
    measured = of_best or retrainings(study)
    if not measured:
        return None
    newest = measured[-1]
    deviation = newest.get("test_accuracy_std")
    return TestAccuracy(
        trial=newest.get("trial"),
        accuracy=float(newest["test_accuracy"]),
        deviation=None if deviation is None else float(deviation),
        seeds=len(newest.get("seeds", ())) or 1,
    )


def cost(study: StudyRecord) -> Cost:
    """Add up what the trials of a study cost."""
    stages, horizon = Stages(study), study.spec.train.epochs
    pruned = [trial for trial in study.trials if trial.status == "pruned"]
    lengths: dict[int, float] = {}
    for span in spans(study):
        lengths[span.trial] = lengths.get(span.trial, 0.0) + span.seconds
    return Cost(
        started=sum(trial.started for trial in study.trials),
        epochs=sum(len(trial.epochs) for trial in study.trials),
        time=account(study),
        saved_epochs=sum(horizon - len(trial.epochs) for trial in pruned),
        saved_seconds=sum(
            (trial.seconds or lengths.get(trial.number, 0.0)) * stages.remaining(trial) for trial in pruned
        ),
        gpu_hours=gpu_hours(study),
        confirmation_gpu_hours=confirmation_gpu_hours(study),
    )
