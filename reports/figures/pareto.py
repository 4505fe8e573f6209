"""The Pareto front of a study with several objectives: accuracy against each other objective."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.pareto import front, knee
from hpo.spec.objectives import Objective, objectives
from reports.drawing import palette
from reports.drawing.plot import Axis, Lines, Mark, Missing, Panel, Plot, Points
from reports.figures.trials import hover, thin, thinned_note

MOST_POINTS = 1_000


def pareto(study: StudyRecord, key: str) -> Plot | Missing | None:
    """The figure; None if accuracy is the only objective."""
    names = study.spec.objectives
    if len(names) < 2:
        return None
    title = f"Trade-offs of {study.name}"
    best = front(study)
    if not best:
        return Missing(title, "No trial is complete yet, and only complete trials belong to the front.")
    complete = [trial for trial in study.trials if trial.complete]
    shown = thin(study, complete, MOST_POINTS)
    middle = knee(best, names)
    return Plot(
        key,
        title,
        [_panel(study, objective, shown, best, middle) for objective in objectives(names)[1:]],
        "Each point is one complete trial. Diamonds: the Pareto front; no other trial is better than one of these in "
        "one objective without being worse in another. Star: the knee of the front "
        f"(trial {middle.number}), where it bulges most."
        f"{thinned_note(len(shown), len(complete))}",
        columns=min(2, len(names) - 1),
        height=400,
    )


def _panel(
    study: StudyRecord,
    objective: Objective,
    shown: Sequence[TrialRecord],
    best: Sequence[TrialRecord],
    middle: TrialRecord,
) -> Panel:
    inside = {trial.number for trial in best}
    others = [trial for trial in shown if trial.number not in inside and objective.of(trial.metrics) is not None]
    marks: list[Mark] = []
    if others:
        marks.append(_points(study, "complete", objective, others, palette.STATUS_COLOR["complete"], 6))
    ordered = sorted(best, key=lambda trial: objective.of(trial.metrics) or 0.0)
    if len(study.spec.objectives) == 2:
        x, y = (
            [objective.of(trial.metrics) or 0.0 for trial in ordered],
            [study.spec.objective.plotted(trial.value or 0.0) for trial in ordered],
        )
        marks.append(Lines("front", [(x, y)], palette.BEST, 1.5, legend=False))
    marks.append(_points(study, "Pareto front", objective, ordered, palette.BEST, 9))
    marks.append(
        Points(
            "knee",
            [objective.of(middle.metrics) or 0.0],
            [study.spec.objective.plotted(middle.value or 0.0)],
            palette.BEST,
            symbol="star",
            size=16,
            hover=[hover(study, middle, False)],
        )
    )
    better = "more" if objective.maximize else "fewer" if objective.name in ("params", "macs") else "less"
    across = Axis(f"{objective.label[0].upper()}{objective.label[1:]} ({better} is better)")
    return Panel(across, Axis(study.spec.objective.axis), marks)


def _points(
    study: StudyRecord, name: str, objective: Objective, trials: Sequence[TrialRecord], color: str, size: float
) -> Points:
    return Points(
        name,
        [objective.of(trial.metrics) or 0.0 for trial in trials],
        [study.spec.objective.plotted(trial.value or 0.0) for trial in trials],
        color,
        symbol="diamond" if name == "Pareto front" else "circle",
        size=size,
        hover=[
            f"{hover(study, trial, False)}\n{objective.label}: {objective.show(objective.of(trial.metrics))}"
            for trial in trials
        ],
    )
