"""A study in a few lines, for the terminal and for MLflow's description."""

from __future__ import annotations

from hpo.records import StudyRecord, TrialRecord
from hpo.redact import redact


def percent(value: float | None) -> str:
    """An accuracy for people: `93.21 %`."""
    return "–" if value is None else f"{100 * value:.2f} %"


def counts(study: StudyRecord) -> str:
    """`12 trials: 4 complete, 7 pruned, 1 failed`."""
    kinds = ("complete", "pruned", "failed", "interrupted", "running", "waiting")
    parts = [f"{study.count(kind)} {kind}" for kind in kinds if study.count(kind)]
    return f"{len(study.trials)} trials: {', '.join(parts)}" if parts else "no trial yet"


def configuration(trial: TrialRecord) -> dict[str, str]:
    """A trial's searched parameters, numbers to four digits."""
    return {
        path: f"{value:.4g}" if isinstance(value, float) else str(value) for path, value in sorted(trial.values.items())
    }


def description(study: StudyRecord) -> str:
    """Markdown for the study's page in MLflow."""
    spec = study.spec
    lines = [f"**{study.name}** {spec.description}".strip(), ""]
    lines += [
        f"- data: {spec.data.name}",
        f"- model: {spec.model.name}",
        f"- search: {spec.search.policy} over {', '.join(f'`{path}`' for path in spec.space)}",
        f"- ASHA: reduction factor {spec.asha.reduction_factor:g}, grace period {spec.asha.grace_period}, "
        f"{spec.train.epochs} epochs",
        f"- {counts(study)}",
    ]
    if study.best:
        lines += [
            "",
            f"Best so far: trial {study.best.number}, validation accuracy {percent(study.best.value)}",
            "",
        ]
        lines += [f"| {path} | {value} |" for path, value in configuration(study.best).items()]
        lines[-len(study.best.values) : -len(study.best.values)] = ["| parameter | value |", "|---|---|"]
    return redact("\n".join(lines))
