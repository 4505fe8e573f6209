"""A study in a few lines, for the terminal and for MLflow's description."""

from __future__ import annotations

from hpo.home import confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.confirmation import evaluate
from hpo.results.confirmation_text import markdown
from hpo.results.pareto import table
from hpo.search.rungs import rung_resource
from hpo.spec.corners import describe
from hpo.spec.study import SHIPPED_TRAINER
from hpo.text import percent


def counts(study: StudyRecord) -> str:
    """`12 trials: 4 complete, 7 pruned, 1 failed`."""
    kinds = ("complete", "pruned", "failed", "interrupted", "running", "waiting")
    parts = [f"{study.count(kind)} {kind}" for kind in kinds if study.count(kind)]
    trials = "1 trial" if len(study.trials) == 1 else f"{len(study.trials)} trials"
    return f"{trials}: {', '.join(parts)}" if parts else "no trial yet"


def stopped(study: StudyRecord) -> str | None:
    """`Stopped: reached the budget of 24 trials`; None unless its budget has ended the study."""
    return f"Stopped: {study.ended.partition(': ')[2]}" if study.ended else None


def configuration(trial: TrialRecord, digits: int = 4) -> dict[str, str]:
    """A trial's searched parameters by dotted path, numbers to so many significant digits."""
    return {
        path: f"{value:.{digits}g}" if isinstance(value, float) else str(value)
        for path, value in sorted(trial.values.items())
    }


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
        *([f"- {reason}"] if (reason := stopped(study)) else []),
    ]
    confirmed = confirmed_study(study.name) is not None
    if confirmed:
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
