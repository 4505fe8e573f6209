"""What a study found and what it cost: the first thing a report says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import Confirmation, confirmation
from hpo.results.paired_tests import Interval
from reports.analysis.intervals import Estimate, difference, wilson
from reports.analysis.stages import Stages
from reports.analysis.timeline import Time, account, spans

RETRAININGS_KEY = "retrainings"
"""In a study's `info`: a list of what `hpo retrain` measured on the test images, newest last. Each entry has
`trial`, `test_accuracy` and, where there were several seeds, `test_accuracy_std` and `seeds`."""


@dataclass(frozen=True)
class Test:
    """Accuracy on the test images after retraining a trial's configuration."""

    trial: int | None
    accuracy: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Cost:
    """What a study spent, and what it did not."""

    started: int
    epochs: int
    time: Time
    saved_epochs: int
    saved_seconds: float
    """Worker seconds that pruned trials would have gone on for, from their own speed and their later image sizes."""
    gpu_hours: float | None
    """None where no trial ran on a GPU."""

    @property
    def saved_share(self) -> float:
        """Of what all would have cost without pruning."""
        whole = self.time.busy + self.saved_seconds
        return self.saved_seconds / whole if whole else 0.0


@dataclass(frozen=True)
class Answer:
    """The outcome of one study."""

    study: StudyRecord
    best: TrialRecord | None
    images: int | None
    """Validation images, None where the study's trainer did not say."""
    accuracy: Estimate | None
    baseline: TrialRecord | None
    gain: Estimate | None
    """Best minus baseline; only where both are complete and the images are counted."""
    confirmed: Confirmation | None
    """Where a confirmation has chosen, `best` is its choice, and `accuracy` and `gain` are over its fresh seeds."""
    test: Test | None
    cost: Cost

    @property
    def gain_points(self) -> float | None:
        """The gain in percentage points, also where no interval can be given."""
        if self.confirmed is not None:
            return 100 * self.gain.value if self.gain else None
        if self.best is None or self.baseline is None or not self.baseline.complete:
            return None
        return 100 * ((self.best.value or 0.0) - (self.baseline.value or 0.0))


def answer(study: StudyRecord) -> Answer:
    """Read the outcome from a study's record."""
    best, baseline = study.best, study.baseline
    images = _images(study)
    accuracy = gain = None
    found = confirmation(study)
    if found is not None and found.chosen is not None:
        best = next(trial for trial in study.trials if trial.number == found.chosen.trial)
        accuracy, gain = _estimate(found.chosen.interval), _estimate(found.gain)
        return Answer(study, best, images, accuracy, baseline, gain, found, _test(study, best), cost(study))
    if best is not None and best.value is not None and images:
        accuracy = wilson(best.value, images)
        if baseline is not None and baseline.complete and baseline.value is not None and baseline is not best:
            gain = difference(best.value, baseline.value, images, images)
    return Answer(study, best, images, accuracy, baseline, gain, None, _test(study, best), cost(study))


def _estimate(found: Interval | None) -> Estimate | None:
    return None if found is None else Estimate(found.mean, found.low, found.high)


def _images(study: StudyRecord) -> int | None:
    count = study.info.get("data", {}).get("validation_count")
    return int(count) if count else None


def _test(study: StudyRecord, best: TrialRecord | None) -> Test | None:
    """The newest retraining of the best trial, else the newest one."""
    recorded: list[Mapping[str, Any]] = list(study.info.get(RETRAININGS_KEY, ()))
    if not recorded:
        return None
    of_best = [one for one in recorded if best is not None and one.get("trial") == best.number]
    newest = (of_best or recorded)[-1]
    deviation = newest.get("test_accuracy_std")
    return Test(
        trial=newest.get("trial"),
        accuracy=float(newest["test_accuracy"]),
        deviation=None if deviation is None else float(deviation),
        seeds=len(newest.get("seeds", ())) or 1,
    )


def cost(study: StudyRecord) -> Cost:
    """Sum up what the study's trials took."""
    stages, horizon = Stages(study), study.spec.train.epochs
    pruned = [trial for trial in study.trials if trial.status == "pruned"]
    lengths: dict[int, float] = {}
    for span in spans(study):
        lengths[span.trial] = lengths.get(span.trial, 0.0) + span.seconds
    devices = [attempt.device or "" for trial in study.trials for attempt in trial.attempts]
    time = account(study)
    gpus = study.spec.resources.gpus
    per_trial = 1.0 if gpus == "auto" else float(gpus)
    return Cost(
        started=sum(trial.started for trial in study.trials),
        epochs=sum(len(trial.epochs) for trial in study.trials),
        time=time,
        saved_epochs=sum(horizon - len(trial.epochs) for trial in pruned),
        saved_seconds=sum(
            (trial.seconds or lengths.get(trial.number, 0.0)) * stages.remaining(trial) for trial in pruned
        ),
        gpu_hours=time.busy * per_trial / 3600 if any(one.startswith("cuda") for one in devices) else None,
    )
