"""Rung survival: how many trials reached each rung, and how many were stopped there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.results.progress import survival
from hpo.search.rungs import rung_resource
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Missing, Panel, Plot

CONTROLS = "controls, never stopped"


@dataclass(frozen=True)
class Stack:
    """The bars at one rung, or at the end of the training (`level` None)."""

    level: float | None
    passed: int
    """Without the controls."""
    controls: int
    stopped: int

    @property
    def trials(self) -> int:
        """All trials that reached it."""
        return self.passed + self.controls + self.stopped


def stacks(study: StudyRecord) -> list[Stack]:
    """All rungs in ascending order, then the end."""
    rungs = [Stack(rung.level, rung.passed - rung.controls, rung.controls, rung.stopped) for rung in survival(study)]
    complete = [trial.control for trial in study.trials if trial.complete]
    return [*rungs, Stack(None, complete.count(False), complete.count(True), 0)]


def survival_plot(studies: Sequence[StudyRecord]) -> Plot | Missing:
    """The figure: one group of bars per rung, one bar per study."""
    title = "Rung survival"
    by_study = [stacks(study) for study in studies]
    if not any(study.spec.asha.enabled for study in studies):
        return Missing(title, "ASHA is off: there are no rungs.")
    if not any(stack.trials for study_stacks in by_study for stack in study_stacks):
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
        _caption(studies, levels),
        height=340,
    )


def _bars(study: StudyRecord, counts: list[Stack], at: list[float], width: float, index: int | None) -> list[Bars]:
    """Three layers: trials that continued, controls, trials that were stopped."""
    prefix = "" if index is None else f"{study.name}: "
    color = palette.BLUE if index is None else palette.study_color(index)
    layers = [("continued", color, [float(stack.passed) for stack in counts])]
    if any(stack.controls for stack in counts):
        layers.append((CONTROLS, palette.lighter(color, 0.7), [float(stack.controls) for stack in counts]))
    faded = palette.GREY if index is None else palette.lighter(color)
    layers.append(("stopped", faded, [float(stack.stopped) for stack in counts]))
    legible = 0.035 * max(stack.trials for stack in counts)
    bars, starts = [], [0.0] * len(counts)
    for name, shade, lengths in layers:
        texts = [f"{length:,.0f}" if length > legible else "" for length in lengths]
        bars.append(Bars(prefix + name, at, lengths, shade, list(starts), thickness=width * 0.92, texts=texts))
        starts = [start + length for start, length in zip(starts, lengths, strict=True)]
    return bars


def _caption(studies: Sequence[StudyRecord], levels: Sequence[float]) -> str:
    text = "How many trials reached each rung, and how many of them ASHA stopped there."
    if any(trial.control and trial.started for study in studies for trial in study.trials):
        text += " Controls are trials that ASHA never stops."
    return text + _left(studies) + _cutoffs(studies, levels)


def _left(studies: Sequence[StudyRecord]) -> str:
    """Where trials left between two bars, in words; empty for several studies."""
    if len(studies) > 1:
        return ""
    rungs = survival(studies[0])
    started = sum(trial.started for trial in studies[0].trials)
    before = [("before the first rung", started - rungs[0].reached)] if rungs else []
    places = [*before, *((f"after rung {rung.level:g}", rung.left) for rung in rungs)]
    texts = [f"{count} {place}" for place, count in places if count]
    return f" Trials that failed or have not ended are missing in the next bar: {', '.join(texts)}." if texts else ""


def _cutoffs(studies: Sequence[StudyRecord], levels: Sequence[float]) -> str:
    """The newest cutoff of each rung, in words; empty for several studies."""
    if len(studies) > 1:
        return ""
    cutoffs = [(level, _cutoff(studies[0], level)) for level in levels]
    shown = studies[0].spec.objective.show_score
    texts = [f"{shown(cutoff)} at rung {level:g}" for level, cutoff in cutoffs if cutoff is not None]
    return f" The newest cutoffs: {', '.join(texts)}." if texts else ""


def _cutoff(study: StudyRecord, level: float) -> float | None:
    decisions = [decision for trial in study.trials for decision in trial.rungs if decision.rung == level]
    newest = max(decisions, key=lambda decision: decision.order, default=None)
    return newest.cutoff if newest else None
