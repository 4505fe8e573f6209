"""Figures of the searched parameters: importances, slices and parallel coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpo.ledger.records import StudyRecord, TrialRecord
from reports.analysis.importance import METHOD, Importances
from reports.analysis.stages import FEW_TRIALS
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, ColorScale, Lines, Mark, Missing, Panel, Plot, Points
from reports.figures.scales import Scale, short_names, word
from reports.figures.trials import NO_REPORT, accuracy_axis, below_note, hover, points, thin, thinned_note

MOST_SLICES = 6
MOST_POINTS = 800
MOST_LINES = 300
NO_SHARED = "The studies have no searched parameter in common."


def ranked(names: Sequence[str], found: Sequence[Sequence[Importances]]) -> list[str]:
    """The parameters by importance where most trials compare, summed over the studies; else in the given order."""

    def total(name: str) -> float:
        return sum(one[0].shares.get(name, 0.0) for one in found if one)

    return sorted(names, key=total, reverse=True)


def importance_plot(studies: Sequence[StudyRecord], found: Sequence[Sequence[Importances]]) -> Plot | Missing:
    """One bar per parameter and study; of a single study one also for the few trials that got furthest."""
    title = "Parameter importances"
    if len(studies) == 1:
        groups = [(f"after epoch {one.epoch} ({one.trials} trials)", one) for one in found[0]]
        colors = [palette.BLUE, palette.SKY]
    else:
        known = [(index, one[0]) for index, one in enumerate(found) if one]
        groups = [(studies[index].name, one) for index, one in known]
        colors = [palette.study_color(index) for index, _ in known]
    if not groups:
        return Missing(
            title,
            f"Importances need at least {FEW_TRIALS} trials that reported the same number of epochs with "
            "different accuracies.",
        )
    names = ranked(sorted({name for _, one in groups for name in one.shares}), found)[::-1]
    width = 0.78 / len(groups)
    bars = []
    for place, ((label, one), color) in enumerate(zip(groups, colors, strict=False)):
        shift = ((len(groups) - 1) / 2 - place) * width
        shares = [round(100 * one.shares.get(name, 0.0), 2) for name in names]
        texts = [f"{share:.0f} %" for share in shares]
        rows = [row + shift for row in range(len(names))]
        bars.append(Bars(label, rows, shares, color, horizontal=True, thickness=width * 0.9, texts=texts))
    short = short_names(names)
    ticks = [(float(row), short[name]) for row, name in enumerate(names)]
    said = [f"{label}: {one.top_words}" if len(studies) > 1 else one.top_words for label, one in groups]
    return Plot(
        "importances",
        title,
        [Panel(Axis("Share of the importance (%)", (0.0, 100.0)), Axis("", (-0.6, len(names) - 0.4), ticks), bars)],
        f"Method: {METHOD}. It asks what separates the best trials from all: {'; '.join(said)}. "
        "With few trials these shares are rough.",
        height=150 + 26 * len(names) * len(groups),
    )


def slices(studies: Sequence[StudyRecord], axes: Mapping[str, Scale], order: Sequence[str]) -> Plot | Missing:
    """Last accuracy over each of the most important parameters; colour says how long the trial trained."""
    title = "Slices"
    if not axes:
        return Missing(title, NO_SHARED)
    reported = [[trial for trial in study.trials if trial.epochs] for study in studies]
    if not any(reported):
        return Missing(title, NO_REPORT)
    kept = [thin(s, trials, MOST_POINTS // len(studies)) for s, trials in zip(studies, reported, strict=True)]
    axis, below = accuracy_axis(points(trial.value or 0.0) for trials in kept for trial in trials)
    panels = []
    for place, name in enumerate(order[:MOST_SLICES]):
        marks: list[Mark] = []
        for index, (study, trials) in enumerate(zip(studies, kept, strict=True)):
            marks += _slice(study, trials, axes[name], index if len(studies) > 1 else None, legend=place == 0)
        panels.append(Panel(axes[name].axis, axis if place % 3 == 0 else Axis("", axis.span), marks))
    horizon = max(study.spec.train.epochs for study in studies)
    scale = ColorScale("epochs trained", 0.0, float(horizon)) if len(studies) == 1 else None
    what = "Each point is one trial at its last epoch" + (
        ": the brighter, the longer it trained; the star is the best." if scale else "; stars: each study's best."
    )
    shown = sum(map(len, kept))
    note = thinned_note(shown, sum(map(len, reported)))
    return Plot(
        "slices",
        title,
        panels,
        f"{what} Trials without the parameter are left out.{below_note(below)}{note}",
        columns=min(3, len(panels)),
        height=330,
        scale=scale,
    )


def _slice(
    study: StudyRecord, trials: Sequence[TrialRecord], scale: Scale, index: int | None, *, legend: bool
) -> list[Mark]:
    placed = [
        (at, trial)
        for trial in trials
        if scale.name in trial.values and (at := scale.position(trial.values[scale.name])) is not None
    ]
    if not placed:
        return []
    winner = study.best
    texts = [hover(study, trial, index is not None) for _, trial in placed]
    cloud = Points(
        study.name if index is not None else "trials",
        [at for at, _ in placed],
        [points(trial.value or 0.0) for _, trial in placed],
        palette.study_color(index or 0),
        values=None if index is not None else [float(len(trial.epochs)) for _, trial in placed],
        symbol=palette.study_symbol(index or 0),
        size=6,
        opacity=0.8 if index is None else 0.6,
        hover=texts,
        legend=index is not None and legend,
    )
    best = [
        Points(
            "best" if index is None else f"{study.name}: best",
            [at],
            [points(trial.value or 0.0)],
            palette.BEST if index is None else palette.study_color(index),
            symbol="star",
            size=15,
            opacity=1.0,
            hover=[text],
            legend=legend,
        )
        for (at, trial), text in zip(placed, texts, strict=True)
        if trial is winner
    ]
    return [cloud, *best]


def parallel(studies: Sequence[StudyRecord], axes: Mapping[str, Scale], order: Sequence[str]) -> Plot | Missing:
    """One line per trial across all parameters, coloured by its fifth of the accuracies, or by study."""
    title = "Parallel coordinates"
    if not axes:
        return Missing(title, NO_SHARED)
    reported = [[trial for trial in study.trials if trial.epochs] for study in studies]
    if not any(reported):
        return Missing(title, NO_REPORT)
    kept = [thin(s, trials, MOST_LINES // len(studies)) for s, trials in zip(studies, reported, strict=True)]
    accuracies = [points(trial.value or 0.0) for trials in kept for trial in trials]
    horizon = max(study.spec.train.epochs for study in studies)
    value = Scale("", "accuracy (%)", min(accuracies), max(accuracies))
    columns = [*(axes[name] for name in order), Scale("", "epochs", 0.0, float(horizon)), value]
    marks: list[Mark] = [_posts(len(columns))]
    groups = _by_study(studies, kept) if len(studies) > 1 else _by_fifth(studies[0], kept[0])
    for name, color, members, width, opacity in groups:
        paths = [_across(trial, columns) for _, trial in members]
        texts = [hover(study, trial, len(studies) > 1) for study, trial in members]
        marks.append(Lines(name, paths, color, width, opacity=opacity, hover=texts))
    marks.append(_labels(columns))
    ticks = [(float(place), scale.label) for place, scale in enumerate(columns)]
    blank = Axis("", (-0.27, 1.12), ticks=[(-0.2, "not used"), (0.0, "low"), (1.0, "high")])
    note = thinned_note(sum(map(len, kept)), sum(map(len, reported)))
    return Plot(
        "parallel",
        title,
        [Panel(Axis("", (-0.35, len(columns) - 0.65), ticks), blank, marks)],
        "One line per trial; click a group in the legend to hide it. Logarithmic parameters are spaced by their "
        f"logarithm; a line dips to “not used” where the trial has no such parameter.{note}",
        height=460,
    )


def _by_study(
    studies: Sequence[StudyRecord], kept: Sequence[Sequence[TrialRecord]]
) -> list[tuple[str, str, list[tuple[StudyRecord, TrialRecord]], float, float]]:
    return [
        (study.name, palette.study_color(index), [(study, trial) for trial in trials], 1.2, 0.45)
        for index, (study, trials) in enumerate(zip(studies, kept, strict=True))
        if trials
    ]


def _by_fifth(
    study: StudyRecord, trials: Sequence[TrialRecord]
) -> list[tuple[str, str, list[tuple[StudyRecord, TrialRecord]], float, float]]:
    """Worst fifth first, so that the best is drawn on top; the best trial last of all."""
    by_value = sorted(trials, key=lambda one: one.value or 0.0, reverse=True)
    names = ("best fifth", "second fifth", "third fifth", "fourth fifth", "last fifth")
    parts = [list(part) for part in np.array_split(np.arange(len(by_value)), min(5, len(by_value)))]
    groups = [
        (name, color, [(study, by_value[i]) for i in part], 1.8 if name == "best fifth" else 1.1, opacity)
        for name, (color, opacity), part in zip(names, palette.FIFTHS, parts, strict=False)
    ]
    best = [("best trial", palette.BEST, [(study, study.best)], 3.5, 1.0)] if study.best else []
    return [*groups[::-1], *best]


def _across(trial: TrialRecord, columns: Sequence[Scale]) -> tuple[list[float], list[float]]:
    own = [len(trial.epochs), points(trial.value or 0.0)]
    heights = []
    for place, scale in enumerate(columns):
        position: float | None
        if place >= len(columns) - len(own):
            position = float(own[place - len(columns) + len(own)])
        else:
            position = scale.position(trial.values[scale.name]) if scale.name in trial.values else None
        heights.append(-0.2 if position is None else round(scale.share(position), 4))
    return [float(place) for place in range(len(columns))], heights


def _posts(count: int) -> Lines:
    return Lines("", [([float(i)] * 2, [0.0, 1.0]) for i in range(count)], palette.GREY, 1.0, legend=False)


def _labels(columns: Sequence[Scale]) -> Points:
    """The ends of every axis, in its own units."""
    places = [(float(i), height) for i in range(len(columns)) for height in (-0.055, 1.055)]
    return Points(
        "", [x for x, _ in places], [y for _, y in places], palette.GREY, size=0, legend=False, labels=_ends(columns)
    )


def _ends(columns: Sequence[Scale]) -> list[str]:
    found = []
    for scale in columns:
        for end in (scale.low, scale.high):
            text = word(scale.choices[int(end)]) if scale.choices else f"{10**end if scale.log else end:.3g}"
            found.append(text if len(text) <= 14 else f"{text[:13]}…")
    return found
