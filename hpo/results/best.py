"""The best configuration as a file that `hpo retrain` accepts anywhere."""

from __future__ import annotations

from hpo.errors import UsageError
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import Confirmed, confirmation
from hpo.results.paired_tests import Interval
from hpo.search.rungs import reached, rung_resource, study_levels
from hpo.spec.configure import configure
from hpo.spec.training import Provenance, Training
from hpo.text import percent

_NONE_COMPLETE = (
    "study {name} has no complete trial yet: see `hpo status {name}`; whatever a certain trial came to is exported by "
    "`hpo export {name} --trial N`"
)


def training(
    study: StudyRecord, number: int | None = None, *, search_best: bool = False, partial: bool = False
) -> Training:
    """The resolved training configuration of a trial, by default of the best one.

    Args:
        number: of a certain trial.
        search_best: the search's best, whatever a confirmation says.
        partial: the one ahead where no trial is complete yet.

    Raises:
        UsageError: no such trial, or none is complete yet.
    """
    ahead = incumbent(study) if partial and study.best is None and number is None else None
    trial = ahead or pick(study, number, search_best=search_best)
    found = next((one for one in standing(study) if one.trial == trial.number), None)
    accuracy = found.interval if found else None
    config = configure(study.spec.base(), trial.values)
    versions = dict(study.info.get("versions", {}))
    if commit := study.info.get("git_commit"):
        versions["git_commit"] = commit
    return Training.of(
        config,
        Provenance(
            study=study.name,
            trial=trial.number,
            val_accuracy=trial.value,
            epochs=len(trial.epochs),
            fidelity="confirmed" if found else "full" if trial.complete else "partial",
            confirmed_accuracy=accuracy.mean if accuracy else None,
            confirmed_low=accuracy.low if accuracy else None,
            confirmed_high=accuracy.high if accuracy else None,
            confirmed_seeds=len(found.accuracies) if found else None,
            seed=trial.seed,
            split_hash=study.info.get("data", {}).get("split_hash"),
            versions=versions,
            trainer=study.spec.trainer,
        ),
        description=_description(study, trial, accuracy),
    )


def _description(study: StudyRecord, trial: TrialRecord, accuracy: Interval | None) -> str:
    text = f"Trial {trial.number} of study {study.name}"
    if accuracy:
        return f"{text}, mean validation accuracy over fresh seeds {percent(accuracy.mean)}"
    partly = "" if trial.complete else f" after {len(trial.epochs)} of {study.spec.train.epochs} epochs"
    return f"{text}, validation accuracy {percent(trial.value)}{partly}"


def standing(study: StudyRecord) -> list[Confirmed]:
    """What a complete confirmation says, the choice first, then by mean accuracy; [] without one."""
    found = confirmation(study)
    if found is None or found.chosen is None:
        return []
    return [found.chosen, *(one for one in found.ranking if one.dependable and one is not found.chosen)]


def best_first(study: StudyRecord, count: int) -> list[TrialRecord]:
    """At most `count` trials: those a confirmation ranked, then the other complete ones by their one accuracy.

    Raises:
        UsageError: none is complete yet.
    """
    trials = {trial.number: trial for trial in study.trials}
    confirmed = [trials[one.trial] for one in standing(study)]
    others = [trial for trial in leaders(study, len(trials)) if trial not in confirmed]
    return [*confirmed, *others][:count]


def leaders(study: StudyRecord, count: int) -> list[TrialRecord]:
    """The search's best complete trials, at most `count`, the best first; ties go to the earlier one.

    Raises:
        UsageError: none is complete yet.
    """
    complete = [trial for trial in study.trials if trial.complete]
    if not complete:
        raise UsageError(_NONE_COMPLETE.format(name=study.name))
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))[:count]


def pick(study: StudyRecord, number: int | None, *, search_best: bool = False) -> TrialRecord:
    """The trial of that number, or the best: a confirmation's choice if there is one and it is not to be ignored.

    Raises:
        UsageError: there is no such trial, or none is complete yet.
    """
    if number is not None:
        found = next((trial for trial in study.trials if trial.number == number), None)
        if found is None:
            raise UsageError(f"study {study.name} has no trial {number}; it has {len(study.trials)}")
        return found
    return (leaders if search_best else best_first)(study, 1)[0]


def incumbent(study: StudyRecord) -> TrialRecord | None:
    """The best complete trial; while none is complete, the best of the trials that got furthest.

    Furthest is the deepest epoch, or the highest rung reached where the rungs count compute.
    """
    if study.best is not None:
        return study.best
    levels = study_levels(study.spec.asha, study.spec.train.epochs)
    in_compute = bool(levels) and rung_resource(study.spec) == "compute"

    def depth(trial: TrialRecord) -> float:
        if not in_compute or trial.last is None or trial.last.compute is None:
            return len(trial.epochs)
        return max((level for level in levels if reached(level, trial.last.compute)), default=0.0)

    reported = [trial for trial in study.trials if trial.epochs and trial.status != "failed"]
    return max(reported, key=lambda trial: (depth(trial), trial.value or 0.0), default=None)
