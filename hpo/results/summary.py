"""A study in a few lines, for the terminal and for the description of its run in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hpo.home import confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.confirmation import evaluate
from hpo.results.confirmation_text import certainty, markdown
from hpo.results.gpu_hours import DEFINITION, confirmation_cost, gpu_hours
from hpo.results.pareto import table
from hpo.results.pruning.cost import remark
from hpo.results.winner import Winner, winner
from hpo.search.rungs import rung_resource
from hpo.spec.corners import describe
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec

STATUSES = ("complete", "pruned", "stopped", "failed", "interrupted", "running", "waiting")
"""The statuses of a trial, in the order in which they are counted."""


def counts(study: StudyRecord) -> str:
    """`12 trials: 4 complete, 7 pruned, 1 failed`."""
    parts = [f"{study.count(status)} {status}" for status in STATUSES if study.count(status)]
    trials = "1 trial" if len(study.trials) == 1 else f"{len(study.trials)} trials"
    return f"{trials}: {', '.join(parts)}" if parts else "no trial yet"


def stopped(study: StudyRecord) -> str | None:
    """`Stopped: reached the budget of 24 trials`; None if no budget was reached."""
    return f"Stopped: {study.ended.partition(': ')[2]}" if study.ended else None


def untracked(study: StudyRecord) -> int:
    """Number of trials that have begun, but whose run in MLflow the ledger does not know."""
    if not study.spec.tracking.enabled:
        return 0
    return sum(trial.mlflow_run_id is None for trial in study.trials if trial.started)


def configuration(trial: TrialRecord, digits: int = 4) -> dict[str, str]:
    """A trial's searched parameters and other settings of its own by dotted path; numbers have so many significant
    digits."""
    return {
        path: f"{value:.{digits}g}" if isinstance(value, float) else str(value)
        for path, value in sorted(trial.assigned.items())
    }


def assigned_text(settings: Mapping[str, Choice]) -> str:
    """`train.momentum=0.9, train.optimizer=rmsprop`."""
    return ", ".join(f"{path}={value}" for path, value in sorted(settings.items()))


def description(study: StudyRecord, best_run: str | None = None) -> str:
    """The description of the study's run in MLflow, in Markdown; passwords are masked.

    Args:
        best_run: address of the run of the best trial.
    """
    lines = [f"**{study.name}** {study.spec.description}".strip(), ""]
    lines += [*_task(study), _search(study.spec), f"- {counts(study)}"]
    if reason := stopped(study):
        lines.append(f"- {reason}")
    if charged := gpu_hours(study):
        lines.append(f"- {charged:.2f} GPU-hours ({DEFINITION})")
    if pruning := remark(study):
        lines.append(f"- {pruning}")
    if extra := confirmation_cost(study):
        lines.append(f"- the confirmation took {extra} more")
    if confirmed_study(study.name) is not None:
        lines += ["", *markdown(evaluate(study.spec, study.trials)), "", *_parameters(study, {})]
    else:
        best = winner(study)
        trials = {study.spec.baseline_name: study.baseline, best_title(best): best.trial if best else None}
        lines += [*_best(best, best_run), "", *_parameters(study, trials)]
    if len(study.spec.objectives) > 1:
        lines += ["", "Pareto front of complete trials", "", *front_markdown(study)]
    return redact("\n".join(lines))


def _task(study: StudyRecord) -> Iterator[str]:
    """Data and model; only the trainer if it is not the shipped one, which alone reads those settings."""
    spec = study.spec
    if not spec.shipped:
        yield f"- trainer: {spec.trainer}"
        return
    data = study.info.get("data")
    images = f": {data['train_count']} images to train on, {data['validation_count']} to validate on" if data else ""
    yield f"- data: {spec.data.name}{images}"
    yield f"- model: {' or '.join(spec.model_names)}, from {spec.weights} weights"


def _search(spec: Spec) -> str:
    """The policy, the pruning and the budget."""
    pruning = "no pruning"
    if spec.asha.enabled:
        unit = "epoch" if rung_resource(spec) == "epochs" else "compute"
        pruning = f"ASHA with reduction factor {spec.asha.reduction_factor:g} from {unit} {spec.asha.grace_period}"
    budget = f"{spec.train.epochs} epochs, up to {spec.budget.trials} trials"
    return f"- search: {spec.search.policy}, {pruning}; {budget}"


def best_title(best: Winner | None) -> str:
    """What to call the best trial of a study: a confirmation chose it, or the search so far."""
    return "confirmed" if best and best.confirmation else "best so far"


def best_line(best: Winner) -> str:
    """`trial 7, validation accuracy 93.40 %, +0.20 points (within noise) over the baseline`."""
    label = best.objective.label
    kind = f"mean {label} over new seeds" if best.confirmation else label
    return f"trial {best.trial.number}, {kind} {best.shown}{best.compared}"


def _best(best: Winner | None, run: str | None) -> Iterator[str]:
    if best is not None:
        yield f"- {best_title(best)}: {best_line(best)}"
    if best is not None and run is not None:
        yield f"- [the run of trial {best.trial.number}]({run})"
    if best is not None and best.confirmation:
        yield f"- how sure: {certainty(best.confirmation)}"


def _parameters(study: StudyRecord, trials: dict[str, TrialRecord | None]) -> Iterator[str]:
    """A table of the search space, with the values of the trials that there are, by the titles of their columns. Other
    settings of these trials follow."""
    columns = {title: configuration(trial) for title, trial in trials.items() if trial}
    yield _row(["parameter", "searched", *columns])
    yield "|---" * (2 + len(columns)) + "|"
    for path, parameter in study.spec.space.items():
        values = describe(parameter) + (", logarithmic" if getattr(parameter, "log", False) else "")
        yield _row([path, values, *(column.get(path, "–") for column in columns.values())])
    outside = sorted({path for trial in trials.values() if trial for path in trial.settings})
    for path in outside:
        yield _row([path, "not searched", *(column.get(path, "as the study") for column in columns.values())])


def front_markdown(study: StudyRecord) -> list[str]:
    """The Pareto front as lines of a Markdown table."""
    header, rows = table(study)
    return [_row(row) for row in (header, ["---:"] * len(header), *rows)]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
