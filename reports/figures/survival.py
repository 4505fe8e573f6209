"""Rung survival: how many trials reached each rung, went on, or were stopped there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.search.rungs import rung_resource
from reports.analysis.stages import rungs
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Missing, Panel, Plot
from reports.figures.trials import points


@dataclass(frozen=True)
class Rung:
    """One rung, or the full training (`level` None)."""

    level: float | None
    passed: int
    stopped: int
    cutoff: float | None
    """The last cutoff applied there, a fraction."""


def survival(study: StudyRecord) -> list[Rung]:
    """All rungs ascending and the end. A control is never stopped, so it counts as passed."""
    found = []
    for level in rungs(study):
        decisions = [(trial, one) for trial in study.trials for one in trial.rungs if one.rung == level]
        stopped = sum(not one.keep and not trial.control for trial, one in decisions)
        latest = max((one for _, one in decisions), key=lambda one: one.order, default=None)
        found.append(Rung(level, len(decisions) - stopped, stopped, latest.cutoff if latest else None))
    return [*found, Rung(None, study.count("complete"), 0, None)]


def survival_plot(studies: Sequence[StudyRecord]) -> Plot | Missing:
    """The figure: one group of bars per rung, one bar per study."""
    title = "Rung survival"
    by_study = [survival(study) for study in studies]
    if not any(rung.passed + rung.stopped for found in by_study for rung in found):
        return Missing(title, "No trial has reached a rung or the end yet.")
    levels = sorted({rung.level for found in by_study for rung in found if rung.level is not None})
    places: dict[float | None, float] = {level: float(i) for i, level in enumerate([*levels, None])}
    unit = "compute" if rung_resource(studies[0].spec) == "compute" else "epoch"
    ticks = [(place, "full training" if level is None else f"{unit} {level:g}") for level, place in places.items()]
    width = 0.8 / len(studies)
    bars = []
    for index, (study, found) in enumerate(zip(studies, by_study, strict=True)):
        at = [places[rung.level] + (index - (len(studies) - 1) / 2) * width for rung in found]
        bars += _bars(study, found, at, width, index if len(studies) > 1 else None)
    return Plot(
        "survival",
        title,
        [Panel(Axis(f"Rung ({unit}s)", (-0.6, len(places) - 0.4), ticks), Axis("Trials"), bars)],
        "Of the trials that reached each rung, how many were stopped there and how many went on. " + _cutoffs(studies),
        height=340,
    )


def _bars(study: StudyRecord, found: list[Rung], at: list[float], width: float, index: int | None) -> list[Bars]:
    prefix = "" if index is None else f"{study.name}: "
    color = palette.BLUE if index is None else palette.study_color(index)
    passed, stopped = [float(rung.passed) for rung in found], [float(rung.stopped) for rung in found]

    legible = 0.035 * max(map(sum, zip(passed, stopped, strict=True)))

    def texts(counts: list[float]) -> list[str]:
        return [f"{count:,.0f}" if count > legible else "" for count in counts]

    return [
        Bars(f"{prefix}went on", at, passed, color, thickness=width * 0.92, texts=texts(passed)),
        Bars(
            f"{prefix}stopped",
            at,
            stopped,
            palette.GREY if index is None else palette.lighter(color),
            passed,
            thickness=width * 0.92,
            texts=texts(stopped),
        ),
    ]


def _cutoffs(studies: Sequence[StudyRecord]) -> str:
    if len(studies) > 1:
        return ""
    latest = [
        f"{points(rung.cutoff):g} % at {rung.level:g}" for rung in survival(studies[0]) if rung.cutoff is not None
    ]
    return f"Latest cutoffs: {', '.join(latest)}." if latest else ""
