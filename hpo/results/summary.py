"""A study in a few lines, for the terminal and for MLflow's description."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.home import confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.confirmation import evaluate
from hpo.results.pareto import table
from hpo.search.rungs import rung_resource
from hpo.spec.corners import describe
from hpo.spec.study import SHIPPED_TRAINER


def percent(value: float | None) -> str:
    """An accuracy for people: `93.21 %`."""
    return "–" if value is None else f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    """A span of time for people: `0:07:30`, `26:00:00`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def size(count: float) -> str:
    """Bytes for people: `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counts(study: StudyRecord) -> str:
    """`12 trials: 4 complete, 7 pruned, 1 failed`."""
    kinds = ("complete", "pruned", "failed", "interrupted", "running", "waiting")
    parts = [f"{study.count(kind)} {kind}" for kind in kinds if study.count(kind)]
    trials = "1 trial" if len(study.trials) == 1 else f"{len(study.trials)} trials"
    return f"{trials}: {', '.join(parts)}" if parts else "no trial yet"


def configuration(trial: TrialRecord, digits: int = 4) -> dict[str, str]:
    """A trial's searched parameters by dotted path, numbers to so many significant digits."""
    return {
        path: f"{value:.{digits}g}" if isinstance(value, float) else str(value)
        for path, value in sorted(trial.values.items())
    }


def short_names(paths: Sequence[str]) -> list[str]:
    """The shortest endings of dotted paths that still tell them apart; `start` and `end` keep what they belong to."""
    return [_shortest(path, paths) for path in paths]


def _shortest(path: str, paths: Sequence[str]) -> str:
    parts = path.split(".")
    least = 2 if parts[-1] in ("start", "end") else 1
    for count in range(least, len(parts)):
        ending = "." + ".".join(parts[-count:])
        if sum(f".{other}".endswith(ending) for other in paths) == 1:
            return ending[1:]
    return path


def description(study: StudyRecord) -> str:
    """Markdown for the study's page in MLflow: data, model, space and the best so far."""
    spec, best, baseline = study.spec, study.best, study.baseline
    data = study.info.get("data", {})
    images = f": {data['train_count']} images to train on, {data['validation_count']} to validate on" if data else ""
    weights = "pretrained weights" if spec.model.pretrained else "random weights"
    lines = [f"**{study.name}** {spec.description}".strip(), ""]
    lines += [f"- data: {spec.data.name}{images}", f"- model: {spec.model.name}, from {weights}"]
    if spec.trainer != SHIPPED_TRAINER:
        lines = [*lines[:2], f"- trainer: {spec.trainer}"]  # data and model are its own affair
    unit = "epoch" if rung_resource(spec) == "epochs" else "compute"
    pruning = f"ASHA with reduction factor {spec.asha.reduction_factor:g} from {unit} {spec.asha.grace_period}"
    lines += [
        f"- search: {spec.search.policy}, {pruning if spec.asha.enabled else 'no pruning'}; "
        f"{spec.train.epochs} epochs, up to {spec.budget.trials} trials",
        f"- {counts(study)}",
        *([f"- ended by {study.ended}"] if study.ended else []),
    ]
    confirmed = confirmed_study(study.name) is not None
    if confirmed:
        from hpo.results.confirmation_text import markdown  # that module needs this one

        lines += ["", *markdown(evaluate(spec, study.trials))]
    if best and not confirmed:
        gain = ""
        if baseline and baseline.complete and baseline.value is not None and best.value is not None:
            gain = f", {100 * (best.value - baseline.value):+.2f} points against the default recipe"
        lines.append(f"- best so far: trial {best.number}, validation accuracy {percent(best.value)}{gain}")
    columns = {} if confirmed else {"default recipe": baseline, "best so far": best}
    shown = {title: configuration(trial) for title, trial in columns.items() if trial}
    lines += ["", f"| {' | '.join(['parameter', 'searched', *shown])} |", "|---" * (2 + len(shown)) + "|"]
    for path, parameter in spec.space.items():
        values = describe(parameter) + (", logarithmic" if getattr(parameter, "log", False) else "")
        lines.append(f"| {' | '.join([path, values, *(one.get(path, '–') for one in shown.values())])} |")
    if len(spec.objectives) > 1:
        lines += ["", "Pareto front of complete trials", "", *front_markdown(study)]
    return redact("\n".join(lines))


def front_markdown(study: StudyRecord) -> list[str]:
    """The Pareto front as lines of a Markdown table."""
    header, rows = table(study)
    return [f"| {' | '.join(row)} |" for row in (header, ["---:"] * len(header), *rows)]
