"""Optimisation history: the accuracy of each trial, and the best complete trial so far."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from reports.analysis.timeline import Clock, ended, spans
from reports.drawing import palette
from reports.drawing.plot import Axis, Lines, Mark, Missing, Panel, Plot, Points, Rule
from reports.figures.trials import NO_REPORT, below_note, hover, score_axis, thin, thinned_note
from reports.figures.workers import time_unit

MOST_POINTS, MOST_COMPLETE = 2_000, 500
"""Points of the left panel, and of one study in the right one."""


def history(studies: Sequence[StudyRecord]) -> Plot | Missing:
    """The figure: one panel over the number of ended trials, one over study time."""
    title = "Optimisation history"
    by_study = [_ordered(study) for study in studies]
    if not any(by_study):
        return Missing(title, NO_REPORT)
    compared, objective = len(studies) > 1, studies[0].spec.objective
    every = [trial for trials in by_study for trial, _ in trials]
    axis, below = score_axis(objective, (trial.value or 0.0 for trial in every))
    complete_axis, _ = score_axis(objective, (trial.value or 0.0 for trial in every if trial.complete))
    unit, seconds = time_unit(max(moment for trials in by_study for _, moment in trials))
    count: list[Mark] = []
    clock: list[Mark] = []
    shown = 0
    for index, (study, trials) in enumerate(zip(studies, by_study, strict=True)):
        kept = {trial.number for trial in thin(study, [trial for trial, _ in trials], MOST_POINTS)}
        shown += len(kept)
        count += _over_count(study, trials, kept, index, compared)
        clock += _over_time(study, [(trial, moment / seconds) for trial, moment in trials], index, compared)
    rules = _baseline_rules(studies[0]) if not compared else []
    dashed = f" Dashed line: the {studies[0].spec.baseline_name}." if rules else ""
    return Plot(
        "history",
        title,
        [
            Panel(Axis("Trials ended"), axis, count, "all trials", rules),
            Panel(Axis(f"Study time ({unit})"), complete_axis, clock, "complete trials over time", rules),
        ],
        f"Each point is one trial after its last epoch. Line: the best complete trial so far.{dashed}"
        f"{below_note(below)}{thinned_note(shown, len(every))}{_complete_note(by_study)}",
        columns=2,
        height=400,
    )


def _ordered(study: StudyRecord) -> list[tuple[TrialRecord, float]]:
    """Trials that reported, in the order in which they ended, each with the study time at its end in seconds."""
    timed = [(moment, trial) for trial in study.trials if trial.epochs and (moment := ended(trial)) is not None]
    clock = Clock(study, spans(study))
    timed.sort(key=lambda pair: (pair[0], pair[1].number))
    return [(trial, clock.position(moment)) for moment, trial in timed]


def _over_count(
    study: StudyRecord, trials: Sequence[tuple[TrialRecord, float]], kept: set[int], index: int, compared: bool
) -> list[Mark]:
    """Marks of one study over the number of ended trials."""
    places = [(place, trial) for place, (trial, _) in enumerate(trials, 1)]
    shown = [(place, trial) for place, trial in places if trial.number in kept]
    marks = _compared(study, shown, index) if compared else _by_status(study, shown)
    return [*marks, *_incumbent(study, places, index, compared)]


def _over_time(
    study: StudyRecord, trials: Sequence[tuple[TrialRecord, float]], index: int, compared: bool
) -> list[Mark]:
    """Marks of one study over study time, given in units of the axis."""
    places = [(moment, trial) for trial, moment in trials]
    return [
        *_incumbent(study, places, index, compared, legend=False),
        *_complete(study, trials, index, compared),
    ]


def _by_status(study: StudyRecord, ranked: list[tuple[int, TrialRecord]]) -> list[Mark]:
    marks: list[Mark] = []
    for status in ("pruned", "stopped", "failed", "interrupted", "running", "complete"):
        chosen = [(place, trial) for place, trial in ranked if trial.status == status]
        if chosen:
            marks.append(
                Points(
                    status,
                    [float(place) for place, _ in chosen],
                    [study.spec.objective.plotted(trial.value or 0.0) for _, trial in chosen],
                    palette.STATUS_COLOR[status],
                    symbol=palette.STATUS_SYMBOL[status],
                    opacity=0.95,
                    size=6 if status == "pruned" else 8,
                    hover=[hover(study, trial, False) for _, trial in chosen],
                )
            )
    return marks


def _compared(study: StudyRecord, ranked: list[tuple[int, TrialRecord]], index: int) -> list[Mark]:
    if not ranked:
        return []
    return [
        Points(
            study.name,
            [float(place) for place, _ in ranked],
            [study.spec.objective.plotted(trial.value or 0.0) for _, trial in ranked],
            palette.study_color(index),
            symbol=palette.study_symbol(index),
            opacity=0.9,
            size=6,
            hover=[hover(study, trial, True) for _, trial in ranked],
        )
    ]


def _incumbent(
    study: StudyRecord, ranked: Sequence[tuple[float, TrialRecord]], index: int, compared: bool, *, legend: bool = True
) -> list[Mark]:
    """The best complete trial so far, as a line that reaches to the end of the last trial."""
    x: list[float] = []
    y: list[float] = []
    for place, trial in ranked:
        value = study.spec.objective.plotted(trial.value or 0.0)
        if trial.complete and (not y or value > y[-1]):
            x.append(place)
            y.append(value)
    if not x:
        return []
    x.append(max(ranked[-1][0], x[-1]))
    y.append(y[-1])
    name = f"{study.name}: best so far" if compared else "best so far"
    color = palette.study_color(index) if compared else palette.BEST
    return [Lines(name, [(x, y)], color, 2.5, palette.study_dash(index), steps=True, legend=legend)]


def _complete(
    study: StudyRecord, trials: Sequence[tuple[TrialRecord, float]], index: int, compared: bool
) -> list[Mark]:
    """Complete trials over time, so that each step of the line has its trial."""
    complete = [(trial, moment) for trial, moment in trials if trial.complete]
    kept = {trial.number for trial in thin(study, [trial for trial, _ in complete], MOST_COMPLETE)}
    chosen = [(trial, moment) for trial, moment in complete if trial.number in kept]
    if not chosen:
        return []
    return [
        Points(
            "complete",
            [moment for _, moment in chosen],
            [study.spec.objective.plotted(trial.value or 0.0) for trial, _ in chosen],
            palette.study_color(index) if compared else palette.STATUS_COLOR["complete"],
            symbol=palette.study_symbol(index) if compared else palette.STATUS_SYMBOL["complete"],
            size=7,
            hover=[hover(study, trial, compared) for trial, _ in chosen],
            legend=False,
        )
    ]


def _complete_note(by_study: Sequence[Sequence[tuple[TrialRecord, float]]]) -> str:
    counts = [sum(trial.complete for trial, _ in trials) for trials in by_study]
    shown = sum(min(count, MOST_COMPLETE) for count in counts)
    return f" Right: {shown:,} of {sum(counts):,} complete trials." if shown < sum(counts) else ""


def _baseline_rules(study: StudyRecord) -> list[Rule]:
    baseline = study.baseline
    if baseline is None or not baseline.complete or baseline.value is None:
        return []
    return [Rule(study.spec.objective.plotted(baseline.value), study.spec.baseline_name, vertical=False, dash="dash")]
