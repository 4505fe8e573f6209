"""Contours: accuracy over two parameters at a time, as a local average of the trials."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.spec.objectives import Objective
from reports.analysis.stages import FEW_TRIALS, comparable_epoch, reached, value_after
from reports.drawing.plot import ColorScale, Mark, Missing, Panel, Plot, Points, Surface
from reports.figures.scales import NO_SHARED, Scale
from reports.figures.trials import hover, thin

GRID = 48
WIDTH = 0.11
"""Standard deviation of the averaging kernel, as a share of each range."""
FARTHEST = 2.0
"""Nothing is drawn farther than this many kernel widths from the nearest trial."""
MOST_POINTS = 300


def contours(studies: Sequence[StudyRecord], axes: Mapping[str, Scale], order: Sequence[str]) -> Plot | Missing:
    """One panel for each pair of the three most important parameters; of several studies one panel each."""
    title = "Contours"
    if len(order) < 2:
        return Missing(title, NO_SHARED if len(studies) > 1 else "Contours need two searched parameters.")
    pairs = list(itertools.combinations(order[:3], 2)) if len(studies) == 1 else [(order[0], order[1])]
    panels: list[Panel] = []
    everything: list[float] = []
    epochs = []
    for study in studies:
        epoch = comparable_epoch(study)
        if epoch is None:
            continue
        epochs.append(f"{study.name}: {epoch}" if len(studies) > 1 else str(epoch))
        for first, second in pairs:
            panel, values = _panel(study, epoch, axes[first], axes[second], compared=len(studies) > 1)
            if panel is not None:
                panels.append(panel)
                everything += values
    if not panels:
        return Missing(title, f"Contours need {FEW_TRIALS} trials that reported the same number of epochs.")
    low, high, goal = float(np.quantile(everything, 0.02)), max(everything), studies[0].spec.objective
    return Plot(
        "contours",
        title,
        panels,
        f"Colour: {goal.label} after the same number of epochs ({', '.join(epochs)}), averaged over near "
        f"trials. Dots: {_dots(panels, everything)}. Areas without a near trial stay empty.",
        columns=min(3, len(panels)),
        height=380,
        scale=ColorScale("accuracy (%)" if goal.is_accuracy else goal.axis, low, high if high > low else low + 1e-3),
    )


def _panel(study: StudyRecord, epoch: int, x: Scale, y: Scale, *, compared: bool) -> tuple[Panel | None, list[float]]:
    placed = _placed(study, epoch, x, y)
    if len(placed) < FEW_TRIALS:
        return None, []
    values = [value for _, _, value, _ in placed]
    kept = {trial.number for trial in thin(study, [trial for *_, trial in placed], MOST_POINTS)}
    dots = [(a, b, trial) for a, b, _, trial in placed if trial.number in kept]
    columns, rows = _grid(x), _grid(y)
    z = _smooth(
        np.array([[x.share(a), y.share(b)] for a, b, *_ in placed]),
        np.array(values),
        np.array([x.share(position) for position in columns]),
        np.array([y.share(position) for position in rows]),
    )
    marks: list[Mark] = [
        Surface(
            columns,
            rows,
            [[None if np.isnan(mean) else _short(mean, study.spec.objective) for mean in row] for row in z],
            stepped=bool(x.levels or y.levels),
        ),
        Points(
            "trials",
            [a for a, _, _ in dots],
            [b for _, b, _ in dots],
            "#ffffff",
            size=5,
            hover=[hover(study, trial, compared) for *_, trial in dots],
            legend=False,
        ),
    ]
    return Panel(x.axis, y.axis, marks, study.name if compared else ""), values


def _dots(panels: Sequence[Panel], values: Sequence[float]) -> str:
    """What the dots show; all values make the colours."""
    shown = sum(len(mark.x) for panel in panels for mark in panel.marks if isinstance(mark, Points))
    return "trials" if shown == len(values) else "a sample of the trials that make the colours"


def _short(mean: float, objective: Objective) -> float:
    """A mean of plotted scores, rounded to keep the file small: a loss may be of any size."""
    return round(float(mean), 3) if objective.is_accuracy else float(f"{mean:.5g}")


def _placed(study: StudyRecord, epoch: int, x: Scale, y: Scale) -> list[tuple[float, float, float, TrialRecord]]:
    placed = []
    for trial in reached(study, epoch):
        if x.name in trial.values and y.name in trial.values:
            a, b = x.position(trial.values[x.name]), y.position(trial.values[y.name])
            value = value_after(trial, epoch)
            if a is not None and b is not None and value is not None:
                placed.append((a, b, study.spec.objective.plotted(value), trial))
    return placed


def _grid(scale: Scale) -> list[float]:
    if len(scale.levels) > 1:
        return list(scale.levels)
    return [float(position) for position in np.linspace(scale.low, scale.high, GRID)]


def _smooth(
    at: NDArray[np.float64], values: NDArray[np.float64], columns: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Nadaraya-Watson average of `values` (N,) at the points `at` (N, 2), as (rows, columns); NaN far from all."""
    across = np.exp(-0.5 * ((columns[:, None] - at[None, :, 0]) / WIDTH) ** 2)
    along = np.exp(-0.5 * ((rows[:, None] - at[None, :, 1]) / WIDTH) ** 2)
    weight = along @ across.T
    nearest = np.zeros_like(weight)
    for start in range(0, len(values), 256):  # in parts, because all at once would take rows x columns x N
        part = slice(start, start + 256)
        nearest = np.maximum(nearest, np.max(along[:, None, part] * across[None, :, part], axis=2))
    mean = (along * values) @ across.T / np.maximum(weight, 1e-300)
    return np.where(nearest >= np.exp(-0.5 * FARTHEST**2), mean, np.nan)
