"""The trials of a study in the order of their merit, and their configurations for `hpo retrain`."""

from __future__ import annotations

from hpo.errors import UsageError
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import Confirmed, confirmation
from hpo.search.rungs import depths
from hpo.spec.configure import configure
from hpo.spec.training import Provenance, Training


def training(
    study: StudyRecord,
    number: int | None = None,
    *,
    search_best: bool = False,
    partial: bool = False,
    predicted: str | None = None,
) -> Training:
    """The resolved training configuration of a trial, by default of the best one.

    Args:
        number: the trial's number; None for the best trial.
        search_best: take the best trial of the search, whatever a confirmation says.
        partial: take the incumbent if no trial is complete yet.
        predicted: what is expected of it at its last epoch, for a description; None if it is complete.

    Raises:
        UsageError: there is no such trial, or no trial is complete yet.
    """
    unfinished = incumbent(study) if partial and study.best is None and number is None else None
    trial = unfinished or pick(study, number, search_best=search_best)
    confirmed = next((entry for entry in standing(study) if entry.trial == trial.number), None)
    goal = study.spec.objective
    mean = confirmed.mean if confirmed else None
    result = trial.value if mean is None else mean
    interval = confirmed.interval if confirmed and goal.is_accuracy else None
    config = configure(study.spec.base(), trial.assigned)
    versions = dict(study.info.get("versions", {}))
    if commit := study.info.get("git_commit"):
        versions["git_commit"] = commit
    return Training.of(
        config,
        Provenance(
            study=study.name,
            trial=trial.number,
            val_accuracy=trial.value if goal.is_accuracy else None,
            objective=None if goal.is_accuracy else goal.name,
            value=None if goal.is_accuracy or result is None else goal.score(result),
            epochs=len(trial.epochs),
            fidelity="confirmed" if confirmed else "full" if trial.complete else "partial",
            confirmed_accuracy=mean if goal.is_accuracy else None,
            confirmed_low=interval.low if interval else None,
            confirmed_high=interval.high if interval else None,
            confirmed_probability=confirmed.chance if confirmed else None,
            confirmed_seeds=len(confirmed.accuracies) if confirmed else None,
            seed=trial.seed,
            split_hash=study.info.get("data", {}).get("split_hash"),
            versions=versions,
            trainer=study.spec.trainer,
        ),
        description=_description(study, trial, confirmed, predicted),
    )


def _description(study: StudyRecord, trial: TrialRecord, confirmed: Confirmed | None, predicted: str | None) -> str:
    text, goal = f"Trial {trial.number} of study {study.name}", study.spec.objective
    text += f" ({trial.title})" if trial.title else ""
    if confirmed:
        return f"{text}, mean {goal.label} over new seeds {goal.show_score(confirmed.mean)}"
    progress = "" if trial.complete else f" after {len(trial.epochs)} of {study.spec.train.epochs} epochs"
    expected = f", {predicted}" if predicted else ""
    return f"{text}, {goal.label} {goal.show_score(trial.value)}{progress}{expected}"


def standing(study: StudyRecord) -> list[Confirmed]:
    """The ranking of a complete confirmation: its choice, then the others by mean accuracy; [] without one."""
    complete = confirmation(study)
    if complete is None or complete.chosen is None:
        return []
    others = (entry for entry in complete.ranking if entry.dependable and entry is not complete.chosen)
    return [complete.chosen, *others]


def best_first(study: StudyRecord, count: int) -> list[TrialRecord]:
    """At most `count` trials: those that a confirmation ranked, then the other complete ones by their final accuracy.

    Raises:
        UsageError: no trial is complete yet.
    """
    trials = {trial.number: trial for trial in study.trials}
    confirmed = [trials[entry.trial] for entry in standing(study)]
    others = [trial for trial in leaders(study, len(trials)) if trial not in confirmed]
    return [*confirmed, *others][:count]


def leaders(study: StudyRecord, count: int) -> list[TrialRecord]:
    """The best complete trials of the search, at most `count`, the best first; ties go to the earlier trial.

    Raises:
        UsageError: no trial is complete yet.
    """
    complete = [trial for trial in study.trials if trial.complete]
    if not complete:
        raise UsageError(
            f"study {study.name} has no complete trial yet; `hpo export` writes any trial as it is with --trial N"
        )
    return sorted(complete, key=lambda trial: (-trial.rank, trial.number))[:count]


def pick(study: StudyRecord, number: int | None, *, search_best: bool = False) -> TrialRecord:
    """The trial of that number; without a number the confirmed choice, or else the best trial of the search.

    Args:
        search_best: ignore the confirmation.

    Raises:
        UsageError: there is no such trial, or no trial is complete yet.
    """
    if number is None:
        return (leaders if search_best else best_first)(study, 1)[0]
    trial = next((trial for trial in study.trials if trial.number == number), None)
    if trial is None:
        raise UsageError(f"study {study.name} has no trial {number}; it has {len(study.trials)}")
    return trial


def incumbent(study: StudyRecord) -> TrialRecord | None:
    """The best complete trial; while no trial is complete, the best of those that have trained longest.

    Longest means the most epochs, or the highest rung if the rungs count compute.
    """
    if study.best is not None:
        return study.best
    depth = depths(study.spec)
    reported = [trial for trial in study.trials if trial.epochs and trial.status != "failed"]
    return max(reported, key=lambda trial: (depth(trial), trial.rank), default=None)
