"""Accuracy over each searched parameter, one panel per parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from reports.drawing import palette
from reports.drawing.plot import Axis, ColorScale, Mark, Missing, Panel, Plot, Points
from reports.figures.scales import NO_SHARED, Scale
from reports.figures.trials import NO_REPORT, below_note, best_trial, hover, score_axis, thin, thinned_note

MOST_SLICES = 6
MOST_POINTS = 800
COLUMNS = 3


def slices(studies: Sequence[StudyRecord], axes: Mapping[str, Scale], order: Sequence[str]) -> Plot | Missing:
    """One panel for each of the most important parameters; in a single study the colour shows the epochs trained."""
    title = "Slices"
    if not axes:
        return Missing(title, NO_SHARED)
    reported = [[trial for trial in study.trials if trial.epochs] for study in studies]
    if not any(reported):
        return Missing(title, NO_REPORT)
    shown = [thin(s, trials, MOST_POINTS // len(studies)) for s, trials in zip(studies, reported, strict=True)]
    axis, below = score_axis(studies[0].spec.objective, (trial.value or 0.0 for trials in shown for trial in trials))
    panels = [_panel(studies, shown, axes[name], axis, place) for place, name in enumerate(order[:MOST_SLICES])]
    notes = below_note(below) + thinned_note(sum(map(len, shown)), sum(map(len, reported)))
    return Plot(
        "slices",
        title,
        panels,
        f"{_chosen(order)}{_caption(compared=len(studies) > 1)} Trials without the parameter are left out.{notes}",
        columns=min(COLUMNS, len(panels)),
        height=330,
        scale=_epochs_scale(studies[0]) if len(studies) == 1 else None,
    )


def _epochs_scale(study: StudyRecord) -> ColorScale:
    return ColorScale("epochs trained", 0.0, float(study.spec.train.epochs))


def _chosen(order: Sequence[str]) -> str:
    return f"The {MOST_SLICES} most important of {len(order)} parameters. " if len(order) > MOST_SLICES else ""


def _caption(*, compared: bool) -> str:
    if compared:
        return "Each point is one trial after its last epoch. Stars: the best trial of each study."
    return "Each point is one trial after its last epoch. Brighter points trained longer. Star: the best trial."


def _panel(
    studies: Sequence[StudyRecord], shown: Sequence[Sequence[TrialRecord]], scale: Scale, axis: Axis, place: int
) -> Panel:
    marks: list[Mark] = []
    for index, (study, trials) in enumerate(zip(studies, shown, strict=True)):
        marks += _slice(study, trials, scale, index if len(studies) > 1 else None, legend=place == 0)
    return Panel(scale.axis, axis if place % COLUMNS == 0 else Axis("", axis.span), marks)


def _slice(
    study: StudyRecord, trials: Sequence[TrialRecord], scale: Scale, index: int | None, *, legend: bool
) -> list[Mark]:
    placed = [
        (at, trial)
        for trial in trials
        if not trial.settings  # of a reference the axis would tell only a part
        and scale.name in trial.values
        and (at := scale.position(trial.values[scale.name])) is not None
    ]
    if not placed:
        return []
    cloud = Points(
        study.name if index is not None else "trials",
        [at for at, _ in placed],
        [study.spec.objective.plotted(trial.value or 0.0) for _, trial in placed],
        palette.study_color(index or 0),
        values=None if index is not None else [float(len(trial.epochs)) for _, trial in placed],
        symbol=palette.study_symbol(index or 0),
        size=6,
        opacity=0.8 if index is None else 0.6,
        hover=[hover(study, trial, index is not None) for _, trial in placed],
        legend=index is not None and legend,
    )
    leader = best_trial(study)
    best = [_star(study, trial, at, index, legend=legend) for at, trial in placed if trial is leader]
    return [cloud, *best]


def _star(study: StudyRecord, trial: TrialRecord, at: float, index: int | None, *, legend: bool) -> Points:
    return Points(
        "best" if index is None else f"{study.name}: best",
        [at],
        [study.spec.objective.plotted(trial.value or 0.0)],
        palette.BEST if index is None else palette.study_color(index),
        symbol="star",
        size=15,
        opacity=1.0,
        hover=[hover(study, trial, index is not None)],
        legend=legend,
    )
