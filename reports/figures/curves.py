"""Learning curves of all trials, with the rungs and the ends of progressive stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hpo.ledger.records import StudyRecord, TrialRecord
from reports.analysis.stages import Stages, by_compute, resource, rungs
from reports.drawing import palette
from reports.drawing.plot import Axis, Lines, Mark, Missing, Panel, Plot, Points, Rule
from reports.figures.trials import NO_REPORT, best_trial, hover, thin, thinned_note
from trainers.schedule import Stage, compute

MOST_CURVES = 400
MOST_MARKED = 120
"""With more curves than this the marks of the stages are left out, because they would hide the curves."""


def curves(studies: Sequence[StudyRecord]) -> Plot | Missing:
    """The figure, with all studies on one pair of axes."""
    title = "Learning curves"
    if not any(trial.epochs for study in studies for trial in study.trials):
        return Missing(title, NO_REPORT)
    compared = len(studies) > 1
    counts_compute = all(by_compute(study) for study in studies)
    marks: list[Mark] = []
    shown = total = 0
    for index, study in enumerate(studies):
        reported = [trial for trial in study.trials if trial.epochs]
        kept = thin(study, reported, MOST_CURVES // len(studies))
        shown, total = shown + len(kept), total + len(reported)
        marks += _of_study(study, kept, counts_compute, index if compared else None)
    if not compared:
        marks += _singled_out(studies[0], counts_compute)
    changes = _stage_changes(studies[0], counts_compute) if not compared and shown <= MOST_MARKED else []
    shipped = all(study.spec.shipped for study in studies)  # another trainer has a unit of its own
    used = "Compute (epochs at the largest image size)" if shipped else "Compute, as the trainer reports it"
    unit = used if counts_compute else "Epoch"
    rules = _rules(studies, counts_compute)
    span = (0.0, 1.03 * _end(studies, rules, counts_compute))
    return Plot(
        "curves",
        title,
        [Panel(Axis(unit, span), Axis(studies[0].spec.objective.axis), [*marks, *changes], rules=rules)],
        _caption(studies, compared, bool(changes)) + thinned_note(shown, total),
        height=520,
    )


def _end(studies: Sequence[StudyRecord], rules: Sequence[Rule], counts_compute: bool) -> float:
    """The end of the x axis: it always includes the whole training, so that the rungs keep their places."""
    ends = [resource(t.epochs[-1], counts_compute) for study in studies for t in study.trials if t.epochs]
    ends += [rule.at for rule in rules]
    if not counts_compute:
        ends += [float(study.spec.train.epochs) for study in studies]
    return max(ends)


def _caption(studies: Sequence[StudyRecord], compared: bool, marked: bool) -> str:
    thin_lines = "One colour per study. Thin curves: pruned trials. " if compared else "Thin curves: pruned trials. "
    asha = "Dotted lines: the rungs of ASHA. " if any(rungs(study) for study in studies) else ""
    if any(study.spec.asha.align == "stages" for study in studies):
        asha += "ASHA judges a trial at the end of the stage that is nearest to a rung. "
    plan = _common_plan(studies)
    stage = ""
    if len(plan) > 1:
        trial = "best trial" if best_trial(studies[0]) else "first trial"
        sizes = ", ".join(f"{step.size} px until epoch {step.last_epoch}" for step in plan)
        stage = f"Dashed lines: the ends of the stages of the {trial} ({sizes}). "
    diamonds = "Diamonds: a trial begins its next stage." if marked else ""
    return f"{thin_lines}{asha}{stage}{diamonds}".strip()


def _path(study: StudyRecord, trial: TrialRecord, counts_compute: bool) -> tuple[list[float], list[float]]:
    return (
        [resource(epoch, counts_compute) for epoch in trial.epochs],
        [study.spec.objective.plotted(epoch.value) for epoch in trial.epochs],
    )


def _of_study(study: StudyRecord, kept: list[TrialRecord], counts_compute: bool, index: int | None) -> list[Mark]:
    marks: list[Mark] = []
    singled = {id(best_trial(study)), id(study.baseline)} if index is None else set()
    for status in ("pruned", "stopped", "interrupted", "running", "failed", "complete"):
        chosen = [trial for trial in kept if trial.status == status and id(trial) not in singled]
        if not chosen:
            continue
        name, color = status, palette.STATUS_COLOR[status]
        if index is not None:
            name, color = f"{study.name}: {status}", palette.study_color(index)
        paths = [_path(study, trial, counts_compute) for trial in chosen]
        texts = [hover(study, trial, index is not None) for trial in chosen]
        thin_line = status == "pruned"
        dash = "dot" if status == "failed" else palette.study_dash(index or 0)
        marks.append(
            Lines(name, paths, color, 1.1 if thin_line else 1.9, dash, opacity=1.0 if thin_line else 0.9, hover=texts)
        )
        lone = [(x[0], y[0], text) for (x, y), text in zip(paths, texts, strict=True) if len(x) == 1]
        if lone:  # a line through one point is invisible
            xs, ys, hovers = zip(*lone, strict=True)
            marks.append(Points(name, xs, ys, color, size=4, opacity=1.0, hover=hovers, legend=False))
    return marks


def _singled_out(study: StudyRecord, counts_compute: bool) -> list[Mark]:
    marks: list[Mark] = []
    if study.baseline is not None and study.baseline.epochs:
        text = [hover(study, study.baseline, False)]
        name = f"{study.spec.baseline_name}, trial {study.baseline.number}"
        marks.append(
            Lines(name, [_path(study, study.baseline, counts_compute)], palette.BASELINE, 2.5, "dash", hover=text)
        )
    if (best := best_trial(study)) is not None:
        text = [hover(study, best, False)]
        name = f"best, trial {best.number}"
        marks.append(Lines(name, [_path(study, best, counts_compute)], palette.BEST, 3.0, hover=text))
    return marks


def _stage_changes(study: StudyRecord, counts_compute: bool) -> list[Mark]:
    """A mark on each curve at the first epoch of every stage but the first."""
    changes = [
        (resource(epoch, counts_compute), study.spec.objective.plotted(epoch.value), trial, epoch.metrics)
        for trial in study.trials
        for before, epoch in zip(trial.epochs, trial.epochs[1:], strict=False)
        if epoch.metrics.stage != before.metrics.stage
    ]
    if not changes:
        return []
    texts = [f"trial {trial.number}: stage {(m.stage or 0) + 1} begins, {m.image_size} px" for *_, trial, m in changes]
    return [
        Points(
            "next stage begins",
            [x for x, *_ in changes],
            [y for _, y, *_ in changes],
            palette.GREY,
            symbol="diamond",
            size=5,
            opacity=0.8,
            hover=texts,
        )
    ]


def _plan(study: StudyRecord) -> tuple[Stage, ...]:
    """The stages of the best trial, else of the first one; empty if the trainer reports no stages."""
    stages = Stages(study)
    trial = best_trial(study) or next((trial for trial in study.trials if trial.epochs), None)
    return stages.of(trial) if stages.reported and trial is not None else ()


def _rules(studies: Sequence[StudyRecord], counts_compute: bool) -> list[Rule]:
    levels = sorted({level for study in studies for level in rungs(study)})
    rules = [Rule(level, f"rung {level:g}") for level in levels]
    plan = _common_plan(studies)
    unit = studies[0].spec.base().train.compute_size if plan else None
    for before, stage in itertools.pairwise(plan):
        at = compute(plan, before.last_epoch, unit) if counts_compute else before.last_epoch
        rules.append(Rule(at, f"{before.size} → {stage.size} px", dash="dash", raised=True))
    return rules


def _common_plan(studies: Sequence[StudyRecord]) -> tuple[Stage, ...]:
    """The stages that all studies share; empty if they differ."""
    plans = {_plan(study) for study in studies}
    return plans.pop() if len(plans) == 1 else ()
