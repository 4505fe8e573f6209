"""The result of a study and its cost: what a report says first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.best import gain_over_baseline
from hpo.results.confirmation import Confirmation, confirmation
from hpo.results.gpu_hours import confirmation_gpu_hours, gpu_hours
from hpo.results.paired_tests import Interval
from reports.analysis.intervals import Estimate, difference, wilson
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
    best: TrialRecord | None
    images: int | None
    """Number of validation images, None if the trainer did not report it."""
    accuracy: Estimate | None
    baseline: TrialRecord | None
    gain: Estimate | None
    """Accuracy of the best trial minus that of the baseline, with its interval. None if one of the two is not complete,
    if they are the same trial, or if the number of images is unknown."""
    confirmed: Confirmation | None
    """The finished confirmation. If there is one, `best` is the trial that it chose, and `accuracy` and `gain` are
    over its new seeds."""
    test: TestAccuracy | None
    cost: Cost

    @property
    def gain_points(self) -> float | None:
        """The gain in percentage points, also if its interval is unknown."""
        if self.confirmed is not None:
            return 100 * self.gain.value if self.gain else None
        searched = gain_over_baseline(self.study)
        return None if searched is None else 100 * searched


def answer(study: StudyRecord) -> Answer:
    """Read the result from a study's record."""
    images = _images(study)
    best, baseline = study.best, study.baseline
    confirmed = confirmation(study)
    if confirmed is None or confirmed.chosen is None:
        confirmed = None
        accuracy, gain = _search_accuracy(best, images), _search_gain(best, baseline, images)
    else:
        number = confirmed.chosen.trial
        best = next(trial for trial in study.trials if trial.number == number)
        accuracy, gain = _estimate(confirmed.chosen.interval), _estimate(confirmed.gain)
    return Answer(study, best, images, accuracy, baseline, gain, confirmed, _test_accuracy(study, best), cost(study))


def _search_accuracy(best: TrialRecord | None, images: int | None) -> Estimate | None:
    return wilson(best.value, images) if best is not None and best.value is not None and images else None


def _search_gain(best: TrialRecord | None, baseline: TrialRecord | None, images: int | None) -> Estimate | None:
    if best is None or baseline is None or best is baseline or not baseline.complete or not images:
        return None
    if best.value is None or baseline.value is None:
        return None
    return difference(best.value, baseline.value, images, images)


def _estimate(interval: Interval | None) -> Estimate | None:
    return None if interval is None else Estimate(interval.mean, interval.low, interval.high)


def _images(study: StudyRecord) -> int | None:
    count = study.info.get("data", {}).get("validation_count")
    return int(count) if count else None


def _test_accuracy(study: StudyRecord, best: TrialRecord | None) -> TestAccuracy | None:
    """The newest retraining of the best trial, else the newest retraining of any trial."""
    retrainings: list[Mapping[str, Any]] = list(study.info.get(RETRAININGS_KEY, ()))
    if not retrainings:
        return None
    of_best = [entry for entry in retrainings if best is not None and entry.get("trial") == best.number]
    newest = (of_best or retrainings)[-1]
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
