"""The content of the study run, computed from the records of the study."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpo.home import confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.best import training
from hpo.results.gpu_hours import gpu_hours_until
from hpo.results.winner import winner
from hpo.tracking.runs import numbers

SPECIFICATION, BEST, DATA, VERSIONS = "specification.yaml", "best.yaml", "data.json", "versions.json"
SOURCES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html",
}


@dataclass(frozen=True)
class Point:
    """The state of the study when another trial had ended."""

    step: int
    """Number of trials that have ended, in any way."""
    at: float
    """Seconds since 1970."""
    values: Mapping[str, float]


def course(study: StudyRecord) -> Iterator[Point]:
    """The incumbent over the number of trials that have ended, from the first complete one on."""
    ended = [trial for trial in study.trials if trial.outcome is not None and trial.outcome.final]
    ended.sort(key=lambda trial: (trial.finished or 0.0, trial.number))
    charged = gpu_hours_until(study, [trial.finished or 0.0 for trial in ended])
    best: TrialRecord | None = None
    objective = f"incumbent/{study.spec.objective.field}"
    worker_hours = 0.0
    for step, (trial, gpu_hours) in enumerate(zip(ended, charged, strict=True), 1):
        worker_hours += trial.seconds / 3600
        if trial.complete and (best is None or _rank(trial) > _rank(best)):
            best = trial
        if best is not None and best.last is not None:
            shown = {f"incumbent/{key}": value for key, value in numbers(best.last).items()}
            values = {key: shown[key] for key in shown if key.startswith("incumbent/val_") or key == objective}
            values |= {"incumbent/trial": float(best.number), "spent/worker_hours": worker_hours}
            values |= {"spent/gpu_hours": gpu_hours} if gpu_hours else {}
            yield Point(step, trial.finished or 0.0, values)


def _rank(trial: TrialRecord) -> tuple[float, int]:
    return trial.rank, -trial.number


def course_by_metric(study: StudyRecord) -> dict[str, dict[int, float]]:
    """The values of `course` by metric and step; none for a confirmation."""
    values: dict[str, dict[int, float]] = {}
    if confirmed_study(study.name) is not None:
        return values
    for point in course(study):
        for key, value in point.values.items():
            values.setdefault(key, {})[point.step] = value
    return values


def final(study: StudyRecord) -> tuple[int, dict[str, float]]:
    """The last epoch of the best trial, and its values under the names that they have in the run of the trial.

    (0, {}) while no trial is complete, and for a confirmation.
    """
    best = winner(study) if confirmed_study(study.name) is None else None
    if best is None or not best.trial.epochs:
        return 0, {}
    metrics = best.trial.epochs[-1].metrics
    return metrics.epoch, numbers(metrics)


def files(study: StudyRecord) -> dict[str, str]:
    """The text files of the study run by name, with passwords masked."""
    texts = {SPECIFICATION: redact(study.spec.to_yaml())}
    if data := study.info.get("data"):
        texts[DATA] = json.dumps(dict(data), indent=2) + "\n"
    if versions := study.info.get("versions"):
        texts[VERSIONS] = json.dumps(dict(versions), indent=2) + "\n"
    if study.best is not None and confirmed_study(study.name) is None:
        texts[BEST] = redact(training(study).to_yaml())
    return texts


def dataset(study: StudyRecord) -> dict[str, str] | None:
    """The data set in MLflow's terms; None for a trainer that does not describe its data."""
    data = study.info.get("data")
    if not data:
        return None
    name = study.spec.data.name
    url = SOURCES.get(name)
    return {
        "name": name,
        "digest": str(data["split_hash"])[:8],  # as long as MLflow's own; a tag holds all of it
        "source_type": "http" if url else "code",
        "source": json.dumps({"url": url} if url else {"tags": {"mlflow.source.name": f"trainers.data: {name}"}}),
        "profile": json.dumps({key: data[key] for key in ("num_classes", "train_count", "validation_count")}),
    }


def drawn(study: StudyRecord) -> str:
    """The state of a study that its plots show, to recognise plots of an earlier state."""
    return f"{len(study.trials)} trials, {sum(len(trial.epochs) for trial in study.trials)} epochs"


def study_status(study: StudyRecord) -> str:
    """MLflow's status of the study run while no driver works on the study."""
    interrupted = study.count("interrupted")
    if study.count("running") or (interrupted and study.ended is None):
        return "SCHEDULED"
    return "FINISHED" if study.best or interrupted else "FAILED"
