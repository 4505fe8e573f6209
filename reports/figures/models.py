"""Score against cost by model: which model for which budget."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.intervals import wilson
from hpo.results.winner import validation_images
from reports.analysis.models import COSTS, Candidate, Cost, candidates, short_name, steps, trial_cost
from reports.drawing import palette
from reports.drawing.plot import Axis, Lines, Mark, Missing, Panel, Plot, Points
from reports.figures.trials import hover

TITLE = "Models by cost"
MOST_POINTS = 40
"""Of the other complete trials of one model: the best ones."""
_AXES = {"macs": "Multiply-accumulates per image (million)", "seconds": "Worker time of the training (s)"}
_UNIT = {"macs": 1e6, "seconds": 1.0}


def model_plot(study: StudyRecord, key: str) -> Plot | Missing | None:
    """The figure; None if all trials have one model."""
    rows = candidates(study)
    if not rows:
        return None
    known = [of for of in COSTS if any(row.best and trial_cost(row.best, of) is not None for row in rows)]
    if not known:
        return Missing(TITLE, "No trial is complete, or the trainer reports no costs.")
    return Plot(
        key,
        TITLE,
        [_panel(study, rows, of) for of in known],
        "Large: the best complete trial of each model. Small: its other complete trials. Steps, the Pareto front: "
        "what a budget can buy; where they rise, a model is better than all cheaper ones, noise aside.",
        columns=len(known),
        height=420,
    )


def _panel(study: StudyRecord, rows: Sequence[Candidate], of: Cost) -> Panel:
    named = sorted(rows, key=lambda row: row.name)
    points = [mark for index, row in enumerate(named) for mark in _points(study, row, of, index, short_name(row, rows))]
    right = 1.06 * max(at for mark in points for at in mark.x)
    front = steps(study, rows, of)
    heights = [_height(study, step.candidate.best) for step in front]
    x = [*(step.cost / _UNIT[of] for step in front), right]
    marks: list[Mark] = [Lines("Pareto front", [(x, [*heights, *heights[-1:]])], palette.GREY, 1.5, steps=True)]
    return Panel(
        Axis(_AXES[of], (0.0, right)), Axis(study.spec.objective.axis), [*marks, *_intervals(study, rows, of), *points]
    )


def _intervals(study: StudyRecord, rows: Sequence[Candidate], of: Cost) -> list[Lines]:
    """The interval of each best trial as an upright line, so that a difference within noise looks like one."""
    images, plotted = validation_images(study), study.spec.objective.plotted
    ends = [
        (cost / _UNIT[of], wilson(row.score, images))
        for row in rows
        if images and row.best and row.score is not None and (cost := trial_cost(row.best, of)) is not None
    ]
    paths = [((at, at), (plotted(interval.low), plotted(interval.high))) for at, interval in ends]
    return [Lines("95 % interval", paths, palette.GREY, 1.2, opacity=0.7)] if paths else []


def _points(study: StudyRecord, row: Candidate, of: Cost, index: int, name: str) -> list[Points]:
    """The best trial, and smaller the others. A colour may return, but never with the same shape."""
    if row.best is None or trial_cost(row.best, of) is None:
        return []
    others = heapq.nlargest(MOST_POINTS, (trial for trial in row.complete if trial is not row.best), _rank)
    sized = [(others, 5.0, 0.6, False), ([row.best], 12.0, 1.0, True)]
    return [
        Points(
            redact(name),
            [(trial_cost(trial, of) or 0.0) / _UNIT[of] for trial in trials],
            [_height(study, trial) for trial in trials],
            palette.study_color(index),
            symbol=palette.study_symbol(index + index // len(palette.STUDY_COLOR)),
            size=size,
            opacity=opacity,
            hover=[f"{redact(row.name)}\n{hover(study, trial, False)}" for trial in trials],
            legend=legend,
        )
        for trials, size, opacity, legend in sized
        if trials
    ]


def _rank(trial: TrialRecord) -> float:
    return trial.rank


def _height(study: StudyRecord, trial: TrialRecord | None) -> float:
    return study.spec.objective.plotted(trial.value or 0.0) if trial else 0.0
