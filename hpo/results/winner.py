"""Which trial of a study is the best, with which accuracy, on which ground, and how much better than the baseline.

The terminal, the report, MLflow, the exports and the JSON all ask `winner`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import Confirmation, Confirmed, confirmation, seed_noise
from hpo.results.intervals import Z_95, Interval, difference, wilson
from hpo.results.sums.gaps import Gaps
from hpo.spec.objectives import VAL_ACCURACY, Objective


@dataclass(frozen=True)
class Gain:
    """The score of a trial minus that of the baseline; of an accuracy, as a fraction."""

    value: float
    interval: Interval | None
    """Its 95 % interval; None if nothing is known about the noise."""
    objective: Objective = VAL_ACCURACY

    @property
    def within_noise(self) -> bool | None:
        """Whether the difference may be chance: its interval includes 0. None if that is not known."""
        return None if self.interval is None else not self.interval.significant

    @property
    def caution(self) -> str:
        """` (within noise)`, or empty; every text that names a gain has it."""
        return {True: " (within noise)", False: "", None: " (noise unknown)"}[self.within_noise]

    def __str__(self) -> str:
        return f"{self.objective.show_gain(self.value)}{self.caution}"


@dataclass(frozen=True)
class Winner:
    """The best trial of a study."""

    trial: TrialRecord
    accuracy: float
    """Mean score over the new seeds if it is confirmed, else that of the trial itself: an accuracy, 0 to 1, unless the
    study has another objective."""
    interval: Interval | None
    """95 % interval of `accuracy`; None if the number of validation images is not known, and for a confirmation with
    fewer than three seeds."""
    gain: Gain | None
    """None if it is the baseline, if there is no baseline, or if the baseline is not complete."""
    baseline: TrialRecord | None
    baseline_name: str
    confirmation: Confirmation | None = None
    """The complete confirmation that chose it; None if the search did."""
    objective: Objective = VAL_ACCURACY
    """What the study optimises."""

    @property
    def shown(self) -> str:
        """The value of the objective for people: `93.40 %`."""
        return self.objective.show_score(self.accuracy)

    @property
    def ground(self) -> Literal["search", "confirmed"]:
        """What the choice is based on."""
        return "confirmed" if self.confirmation else "search"

    @property
    def is_baseline(self) -> bool:
        """Whether no other trial is better than the baseline."""
        return self.baseline is not None and self.trial.number == self.baseline.number

    @property
    def compared(self) -> str:
        """`, +0.20 points (within noise) over the baseline`; empty if there is nothing to compare."""
        if self.is_baseline:
            return f", the {self.baseline_name}"
        return "" if self.gain is None else f", {self.gain} over the {self.baseline_name}"


def winner(study: StudyRecord, gaps: Gaps | None = None) -> Winner | None:
    """The trial that a complete confirmation chose, else the best of the search; None while no trial is complete.

    Args:
        gaps: for `seed_noise`.
    """
    return confirmed_winner(study) or search_winner(study, gaps)


def confirmed_winner(study: StudyRecord) -> Winner | None:
    """The trial that a complete confirmation chose; None without one."""
    result = confirmation(study)
    return None if result is None or result.chosen is None else _confirmed(study, result, result.chosen)


def search_winner(study: StudyRecord, gaps: Gaps | None = None) -> Winner | None:
    """The best trial of the search, whatever a confirmation says; None while no trial is complete.

    Args:
        gaps: for `seed_noise`.
    """
    if study.best is None:
        return None
    value, images = study.best.value or 0.0, validation_images(study)
    interval = wilson(value, images) if images else None
    gain, goal = gain_of(study, study.best, gaps), study.spec.objective
    return Winner(study.best, value, interval, gain, study.baseline, study.spec.baseline_name, objective=goal)


def _confirmed(study: StudyRecord, result: Confirmation, chosen: Confirmed) -> Winner:
    trial = next(trial for trial in study.trials if trial.number == chosen.trial)
    goal = study.spec.objective
    gain = Gain(result.gain_mean, result.gain, goal) if result.gain_mean is not None else None
    return Winner(
        trial, chosen.mean or 0.0, chosen.interval, gain, study.baseline, study.spec.baseline_name, result, goal
    )


def gain_of(study: StudyRecord, trial: TrialRecord, gaps: Gaps | None = None) -> Gain | None:
    """How much better than the baseline a trial was in the search.

    The interval follows from the number of validation images, else from the noise between seeds. None for the baseline
    itself, and if one of the two is not complete: an accuracy after fewer epochs is not comparable.

    Args:
        gaps: for `seed_noise`.
    """
    baseline = study.baseline
    if baseline is None or baseline.number == trial.number or not trial.complete or not baseline.complete:
        return None
    value, reference = trial.value or 0.0, baseline.value or 0.0
    if images := validation_images(study):
        return Gain(value - reference, difference(value, reference, images, images))
    noise = seed_noise(study, gaps)
    if noise is None:
        return Gain(value - reference, None, study.spec.objective)
    half = Z_95 * noise * math.sqrt(2)  # both trainings have it
    interval = Interval(value - reference, value - reference - half, value - reference + half)
    return Gain(value - reference, interval, study.spec.objective)


def validation_images(study: StudyRecord) -> int | None:
    """Number of validation images, each of which is right or wrong; None if the trainer did not report it, or if the
    objective is no accuracy."""
    if not study.spec.objective.is_accuracy:
        return None
    count = study.info.get("data", {}).get("validation_count")
    return int(count) if count else None


def retrainings(study: StudyRecord, trial: int | None = None) -> list[Mapping[str, Any]]:
    """The ledger's entries of retrainings of a trial's own configuration, by default of any trial; the newest last.

    Those without test images are left out. A retraining with changed settings is not the trial's, so its test accuracy
    is not either.
    """
    return [
        entry
        for entry in study.info.get("retrainings", ())
        if not entry.get("changes") and trial in (None, entry.get("trial")) and entry["test_accuracy"] is not None
    ]


def _test_accuracy(study: StudyRecord, trial: int) -> float | None:
    """The mean over the seeds of a trial's newest retraining, 0 to 1; None before the first one."""
    entries = retrainings(study, trial)
    return entries[-1].get("test_accuracy") if entries else None


def winner_json(study: StudyRecord) -> dict[str, Any]:
    """The winner as JSON, for programs. `best_val_accuracy` is always the accuracy of the trial in the search, and
    `best_value` the same of whatever objective the study has."""
    best, goal = winner(study), study.spec.objective
    gain = best.gain if best else None
    return {
        "best": best.trial.number if best else None,
        "objective": goal.name,
        "best_value": goal.score(best.trial.rank) if best else None,
        "best_val_accuracy": best.trial.value if best and goal.is_accuracy else None,
        "best_ground": best.ground if best else None,
        "confirmed_val_accuracy": best.accuracy if best and best.confirmation and goal.is_accuracy else None,
        "confirmed_value": goal.score(best.accuracy) if best and best.confirmation else None,
        "best_parameters": dict(best.trial.assigned) if best else None,
        "search_best": study.best.number if study.best else None,
        "test_accuracy": _test_accuracy(study, best.trial.number) if best else None,
        "gain": gain
        and {
            "value": gain.value,
            "interval": dataclasses.asdict(gain.interval) if gain.interval else None,
            "within_noise": gain.within_noise,
        },
    }
