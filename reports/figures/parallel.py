"""Parallel coordinates: one line per trial across all searched parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpo.ledger.records import StudyRecord, TrialRecord
from reports.drawing import palette
from reports.drawing.plot import Axis, Lines, Mark, Missing, Panel, Plot, Points
from reports.figures.scales import NO_SHARED, Scale, word
from reports.figures.trials import NO_REPORT, best_trial, hover, thin, thinned_note

MOST_LINES = 300
NOT_USED = -0.2
"""Height of a line where its trial does not have the parameter."""
FIFTHS = ("best fifth", "second fifth", "third fifth", "fourth fifth", "last fifth")


@dataclass(frozen=True)
class _Group:
    """Lines of one colour."""

    name: str
    color: str
    members: Sequence[tuple[StudyRecord, TrialRecord]]
    width: float
    opacity: float


def parallel(studies: Sequence[StudyRecord], axes: Mapping[str, Scale], order: Sequence[str]) -> Plot | Missing:
    """The figure; lines are coloured by fifths of the accuracies, or by study if there are several."""
    title = "Parallel coordinates"
    if not axes:
        return Missing(title, NO_SHARED)
    reported = [[trial for trial in study.trials if trial.epochs] for study in studies]
    if not any(reported):
        return Missing(title, NO_REPORT)
    shown = [thin(s, trials, MOST_LINES // len(studies)) for s, trials in zip(studies, reported, strict=True)]
    columns = [*(axes[name] for name in order), *_result_columns(studies, shown)]
    groups = _by_study(studies, shown) if len(studies) > 1 else _by_fifth(studies[0], shown[0])
    marks: list[Mark] = [_posts(len(columns))]
    marks += [_lines(group, columns, compared=len(studies) > 1) for group in groups]
    marks.append(_labels(columns))
    ticks = [(float(place), scale.label) for place, scale in enumerate(columns)]
    heights = Axis("", (-0.27, 1.12), ticks=[(NOT_USED, "not used"), (0.0, "low"), (1.0, "high")])
    note = thinned_note(sum(map(len, shown)), sum(map(len, reported)))
    return Plot(
        "parallel",
        title,
        [Panel(Axis("", (-0.35, len(columns) - 0.65), ticks), heights, marks)],
        "One line per trial. In report.html, a click on a group in the legend hides or shows it. Axes "
        "of logarithmic parameters are logarithmic. A line drops to “not used” where the trial does not have the "
        f"parameter.{note}",
        height=460,
        least_width=90 + len(columns) * max(56, 7 * max(len(scale.label) for scale in columns)),
    )


def _result_columns(studies: Sequence[StudyRecord], shown: Sequence[Sequence[TrialRecord]]) -> list[Scale]:
    """The last two axes: epochs and accuracy."""
    objective = studies[0].spec.objective
    scores = [objective.plotted(trial.value or 0.0) for trials in shown for trial in trials]
    title = "accuracy (%)" if objective.is_accuracy else objective.axis
    horizon = max(study.spec.train.epochs for study in studies)
    return [Scale("", "epochs", 0.0, float(horizon)), Scale("", title, min(scores), max(scores))]


def _by_study(studies: Sequence[StudyRecord], shown: Sequence[Sequence[TrialRecord]]) -> list[_Group]:
    return [
        _Group(study.name, palette.study_color(index), [(study, trial) for trial in trials], 1.1, 0.9)
        for index, (study, trials) in enumerate(zip(studies, shown, strict=True))
        if trials
    ]


def _by_fifth(study: StudyRecord, trials: Sequence[TrialRecord]) -> list[_Group]:
    """The worst fifth first and the best trial last, so that better trials are drawn on top."""
    by_value = sorted(trials, key=lambda trial: trial.rank, reverse=True)
    parts = [list(part) for part in np.array_split(np.arange(len(by_value)), min(5, len(by_value)))]
    groups = [
        _Group(name, color, [(study, by_value[i]) for i in part], 1.8 if name == FIFTHS[0] else 1.1, opacity)
        for name, (color, opacity), part in zip(FIFTHS, palette.FIFTHS, parts, strict=False)
    ]
    leader = best_trial(study)
    best = [_Group("best trial", palette.BEST, [(study, leader)], 3.5, 1.0)] if leader else []
    return [*groups[::-1], *best]


def _lines(group: _Group, columns: Sequence[Scale], *, compared: bool) -> Lines:
    paths = [_across(study, trial, columns) for study, trial in group.members]
    texts = [hover(study, trial, compared) for study, trial in group.members]
    return Lines(group.name, paths, group.color, group.width, opacity=group.opacity, hover=texts)


def _across(study: StudyRecord, trial: TrialRecord, columns: Sequence[Scale]) -> tuple[list[float], list[float]]:
    """(x, y) of a trial's line: its height on each axis, epochs and accuracy last."""
    *parameters, epochs, accuracy = columns
    positions = [
        scale.position(trial.values[scale.name]) if scale.name in trial.values else None for scale in parameters
    ]
    heights = [
        NOT_USED if position is None else round(scale.share(position), 4)
        for scale, position in zip(parameters, positions, strict=True)
    ]
    heights += [
        round(epochs.share(len(trial.epochs)), 4),
        round(accuracy.share(study.spec.objective.plotted(trial.value or 0.0)), 4),
    ]
    return [float(place) for place in range(len(columns))], heights


def _posts(count: int) -> Lines:
    """The vertical lines of the axes."""
    return Lines("", [([float(i)] * 2, [0.0, 1.0]) for i in range(count)], palette.GREY, 1.0, legend=False)


def _labels(columns: Sequence[Scale]) -> Points:
    """The values at both ends of every axis, in the parameter's own unit."""
    places = [(float(i), height) for i in range(len(columns)) for height in (-0.055, 1.055)]
    return Points(
        "", [x for x, _ in places], [y for _, y in places], palette.GREY, size=0, legend=False, labels=_ends(columns)
    )


def _ends(columns: Sequence[Scale]) -> list[str]:
    labels = []
    for scale in columns:
        for end in (scale.low, scale.high):
            text = word(scale.choices[int(end)]) if scale.choices else f"{10**end if scale.log else end:.3g}"
            labels.append(text if len(text) <= 14 else f"{text[:13]}…")
    return labels
