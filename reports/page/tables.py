"""The tables of a report as plain text: best configurations, trials and failures."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.pareto import front
from hpo.text import first_line, short_names
from reports.analysis.answer import Answer
from reports.analysis.timeline import spans
from reports.figures.scales import scales, word
from reports.figures.trials import best_trial
from reports.page.cards import plural


@dataclass(frozen=True)
class Column:
    """A column of the trial table: `label` is its head, `name` says what it holds."""

    label: str
    name: str
    numeric: bool


@dataclass(frozen=True)
class TrialRow:
    """One trial, with one cell per column."""

    status: str
    marked: bool
    """Whether every table shows it: the best trial, the baseline, those of the Pareto front."""
    cells: tuple[str, ...]
    rank: tuple[bool, float]
    """Sorts the rows: complete trials and better scores are larger."""


@dataclass(frozen=True)
class ParameterRow:
    """One searched parameter, with its value in each configuration of the table."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """Why a trial failed, or why it lost its worker."""

    study: str
    trial: int
    when: str
    reason: str
    detail: str
    """What follows the first line, e.g. a traceback."""


# --------------------------------------------------------------------------------------- best configurations


def configurations(answers: Sequence[Answer]) -> tuple[list[str], list[ParameterRow]]:
    """Header and rows of the best configurations; for one study also its baseline and the searched ranges."""
    names = list(dict.fromkeys(name for answer in answers for name in answer.study.spec.space))
    if len(answers) > 1:
        rows = [ParameterRow(name, tuple(_value(answer.best, name) for answer in answers)) for name in names]
        return [_best_name(answer) for answer in answers], rows
    (answer,) = answers
    axes = scales([answer.study])
    rows = [
        ParameterRow(name, (_value(answer.best, name), _value(answer.baseline, name), axes[name].describe()))
        for name in names
    ]
    shown = (answer.best, answer.baseline)
    for name in sorted({name for trial in shown if trial for name in trial.settings}):
        own = [word(trial.settings[name]) if trial and name in trial.settings else "as the study" for trial in shown]
        rows.append(ParameterRow(name, (*own, "not searched")))
    return ["best", answer.study.spec.baseline_name, "searched"], rows


def _best_name(answer: Answer) -> str:
    return f"{answer.study.name} (trial {answer.best.number})" if answer.best else answer.study.name


def _value(trial: TrialRecord | None, name: str) -> str:
    if trial is None:
        return "–"
    return word(trial.values[name]) if name in trial.values else "not used"


# ---------------------------------------------------------------------------------------------------- trials


def trial_table(studies: Sequence[StudyRecord]) -> tuple[list[Column], list[TrialRow]]:
    """Columns and rows of all trials of all studies."""
    short = short_names(dict.fromkeys(name for study in studies for name in study.spec.space))
    compared, goal = [Column("study", "study", False)] if len(studies) > 1 else [], studies[0].spec.objective
    columns = [
        *compared,
        Column("trial", "trial", True),
        Column("val acc (%)", "validation accuracy after the last epoch, %", True)
        if goal.is_accuracy
        else Column(goal.label, f"{goal.label} after the last epoch", True),
        Column("status", "status", False),
        Column("epochs", "epochs trained", True),
        Column("time (min)", "worker time, minutes", True),
        *(Column(label, name, _numeric(studies, name)) for name, label in short.items()),
        Column("origin", "where the configuration comes from", False),
        Column("note", "how the trial ended", False),
    ]
    rows = [row for study in studies for row in _rows(study, list(short), compared=len(studies) > 1)]
    return columns, rows


def _numeric(studies: Sequence[StudyRecord], name: str) -> bool:
    return all(name not in study.spec.space or study.spec.space[name].type != "categorical" for study in studies)


def _rows(study: StudyRecord, names: list[str], *, compared: bool) -> list[TrialRow]:
    seconds: dict[int, float] = {}
    for span in spans(study):
        seconds[span.trial] = seconds.get(span.trial, 0.0) + span.seconds
    marks, best = _marks(study), {trial.number for trial in front(study)}
    return [
        TrialRow(
            trial.status,
            trial.number in marks or trial.number in best,
            (
                *([study.name] if compared else []),
                str(trial.number),
                study.spec.objective.show_score(trial.value).removesuffix(" %"),
                trial.status,
                str(len(trial.epochs)),
                f"{seconds.get(trial.number, 0.0) / 60:.1f}",
                *(word(trial.values[name]) if name in trial.values else "–" for name in names),
                redact(str(trial.origin)) if trial.origin else "–",
                _note(trial, marks.get(trial.number, ())),
            ),
            (trial.complete, trial.rank),
        )
        for trial in study.trials
    ]


def best_rows(rows: Sequence[TrialRow], most: int) -> list[TrialRow]:
    """At most `most` rows, the best first; those that are marked are always among them."""
    chosen = rows
    if len(rows) > most:
        chosen = heapq.nlargest(most, rows, key=lambda row: (row.marked, *row.rank))
    return sorted(chosen, key=lambda row: row.rank, reverse=True)


def _marks(study: StudyRecord) -> dict[int, list[str]]:
    """What the best trial and the baseline are called, by trial number; found once, because it takes all trials."""
    marks: dict[int, list[str]] = {}
    for trial, name in ((best_trial(study), "best"), (study.baseline, study.spec.baseline_name)):
        if trial is not None:
            marks.setdefault(trial.number, []).append(name)
    return marks


def _note(trial: TrialRecord, marks: Sequence[str]) -> str:
    parts = [*marks]
    if trial.title and not any(trial.title in mark for mark in marks):
        parts.append(trial.title)
    if len(trial.attempts) > 1:
        parts.append(f"{len(trial.attempts)} attempts")
    if trial.outcome is not None and not trial.complete:
        parts.append(_clip(first_line(redact(trial.outcome.reason))))
    return ", ".join(parts)


def _clip(text: str, length: int = 90) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


# -------------------------------------------------------------------------------------------------- failures


def failures(studies: Sequence[StudyRecord]) -> list[Failure]:
    """Failed trials, and lost workers of trials that were tried again."""
    rows = []
    for study in studies:
        for trial in study.trials:
            for number, attempt in enumerate(trial.attempts, 1):
                if attempt.lost:
                    again = ", tried again" if number < len(trial.attempts) else ""
                    rows.append(_failure(study, trial, f"attempt {number}{again}", attempt.lost))
            if trial.status == "failed" and trial.outcome is not None:
                rows.append(_failure(study, trial, _when(len(trial.epochs)), trial.outcome.reason))
    return rows


def _when(epochs: int) -> str:
    return f"after {plural(epochs, 'epoch')}" if epochs else "before its first report"


def _failure(study: StudyRecord, trial: TrialRecord, when: str, reason: str) -> Failure:
    first, _, rest = redact(reason).partition("\n")
    return Failure(study.name, trial.number, when, first, rest.strip())
