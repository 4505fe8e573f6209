"""Rung survival: how many trials reached each rung, and how many were stopped there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.results.progress import survival
from hpo.search.rungs import rung_resource
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Missing, Panel, Plot
from reports.figures.trials import points


@dataclass(frozen=True)
class Stack:
    """The bars at one rung, or at the end of the training (`level` None)."""

    level: float | None
    passed: int
    stopped: int


def stacks(study: StudyRecord) -> list[Stack]:
    """All rungs in ascending order, then the end."""
    rungs = [Stack(rung.level, rung.passed, rung.stopped) for rung in survival(study)]
    return [*rungs, Stack(None, study.count("complete"), 0)]


def survival_plot(studies: Sequence[StudyRecord]) -> Plot | Missing:
    """The figure: one group of bars per rung, one bar per study."""
    title = "Rung survival"
    by_study = [stacks(study) for study in studies]
    if not any(stack.passed + stack.stopped for study_stacks in by_study for stack in study_stacks):
        return Missing(title, "No trial has reached a rung or the end yet.")
    levels = sorted({stack.level for study_stacks in by_study for stack in study_stacks if stack.level is not None})
    places: dict[float | None, float] = {level: float(i) for i, level in enumerate([*levels, None])}
    unit = "compute" if rung_resource(studies[0].spec) == "compute" else "epoch"
    ticks = [(place, "full training" if level is None else f"{unit} {level:g}") for level, place in places.items()]
    width = 0.8 / len(studies)
    bars = []
    for index, (study, study_stacks) in enumerate(zip(studies, by_study, strict=True)):
        at = [places[stack.level] + (index - (len(studies) - 1) / 2) * width for stack in study_stacks]
        bars += _bars(study, study_stacks, at, width, index if len(studies) > 1 else None)
    return Plot(
        "survival",
        title,
        [Panel(Axis("Rung", (-0.6, len(places) - 0.4), ticks), Axis("Trials"), bars)],
        f"How many trials reached each rung, and how many of them ASHA stopped there.{_cutoffs(studies, levels)}",
        height=340,
    )


def _bars(study: StudyRecord, counts: list[Stack], at: list[float], width: float, index: int | None) -> list[Bars]:
    prefix = "" if index is None else f"{study.name}: "
    color = palette.BLUE if index is None else palette.study_color(index)
    passed, stopped = [float(stack.passed) for stack in counts], [float(stack.stopped) for stack in counts]
    legible = 0.035 * max(map(sum, zip(passed, stopped, strict=True)))

    def texts(trials: list[float]) -> list[str]:
        return [f"{count:,.0f}" if count > legible else "" for count in trials]

    return [
        Bars(f"{prefix}continued", at, passed, color, thickness=width * 0.92, texts=texts(passed)),
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


def _cutoffs(studies: Sequence[StudyRecord], levels: Sequence[float]) -> str:
    """The newest cutoff of each rung, in words; empty for several studies."""
    if len(studies) > 1:
        return ""
    cutoffs = [(level, _cutoff(studies[0], level)) for level in levels]
    texts = [f"{points(cutoff):g} % at rung {level:g}" for level, cutoff in cutoffs if cutoff is not None]
    return f" The newest cutoffs: {', '.join(texts)}." if texts else ""


def _cutoff(study: StudyRecord, level: float) -> float | None:
    decisions = [decision for trial in study.trials for decision in trial.rungs if decision.rung == level]
    newest = max(decisions, key=lambda decision: decision.order, default=None)
    return newest.cutoff if newest else None
