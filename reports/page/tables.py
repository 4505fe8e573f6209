"""The trials and the failures as tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.text import percent
from reports.analysis.timeline import spans
from reports.figures.scales import word
from reports.page.sentences import column_names


@dataclass(frozen=True)
class Column:
    """`name` is the full one, `label` what fits a header."""

    label: str
    name: str
    numeric: bool


@dataclass(frozen=True)
class TrialRow:
    """One trial; `cells` as many as there are columns."""

    status: str
    cells: tuple[str, ...]
    value: float
    """For ranking: the accuracy of complete trials above that of all others."""


@dataclass(frozen=True)
class Failure:
    """Why a trial failed, or why an attempt at one was lost."""

    study: str
    trial: int
    when: str
    reason: str
    detail: str
    """What follows the first line, such as a traceback."""


def trial_table(studies: Sequence[StudyRecord]) -> tuple[list[Column], list[TrialRow]]:
    """All trials of all studies."""
    short = column_names(studies)
    compared = [Column("study", "study", False)] if len(studies) > 1 else []
    columns = [
        *compared,
        Column("trial", "trial", True),
        Column("status", "status", False),
        Column("origin", "who chose the configuration", False),
        Column("epochs", "epochs trained", True),
        Column("val acc (%)", "validation accuracy at the last epoch, %", True),
        Column("time (min)", "worker time, minutes", True),
        *(Column(label, name, _numeric(studies, name)) for name, label in short.items()),
        Column("note", "how it ended", False),
    ]
    rows = [row for study in studies for row in _rows(study, list(short), compared=len(studies) > 1)]
    return columns, rows


def _numeric(studies: Sequence[StudyRecord], name: str) -> bool:
    return all(name not in study.spec.space or study.spec.space[name].type != "categorical" for study in studies)


def _rows(study: StudyRecord, names: list[str], *, compared: bool) -> list[TrialRow]:
    seconds: dict[int, float] = {}
    best, baseline = study.best, study.baseline
    for span in spans(study):
        seconds[span.trial] = seconds.get(span.trial, 0.0) + span.seconds
    return [
        TrialRow(
            trial.status,
            (
                *([study.name] if compared else []),
                str(trial.number),
                trial.status,
                redact(str(trial.origin)) if trial.origin else "–",
                str(len(trial.epochs)),
                percent(trial.value).removesuffix(" %"),
                f"{seconds.get(trial.number, 0.0) / 60:.1f}",
                *(word(trial.values[name]) if name in trial.values else "–" for name in names),
                _note(trial, is_best=trial is best, is_baseline=trial is baseline),
            ),
            (trial.value or 0.0) + (1.0 if trial.complete else 0.0),
        )
        for trial in study.trials
    ]


def _note(trial: TrialRecord, *, is_best: bool, is_baseline: bool) -> str:
    parts = []
    if is_best:
        parts.append("best")
    if is_baseline:
        parts.append("default recipe")
    if len(trial.attempts) > 1:
        parts.append(f"{len(trial.attempts)} attempts")
    if trial.outcome is not None and not trial.complete:
        parts.append(_clip(redact(_first_line(trial.outcome.reason))))
    return ", ".join(parts)


def _first_line(reason: str) -> str:
    return next(iter(reason.splitlines()), "")


def _clip(text: str, length: int = 90) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def failures(studies: Sequence[StudyRecord]) -> list[Failure]:
    """Failed trials, and attempts that lost their worker and were made good."""
    found = []
    for study in studies:
        for trial in study.trials:
            for number, attempt in enumerate(trial.attempts, 1):
                if attempt.lost:
                    found.append(_failure(study, trial, f"attempt {number}, tried again", attempt.lost))
            if trial.status == "failed" and trial.outcome is not None:
                found.append(_failure(study, trial, _after(len(trial.epochs)), trial.outcome.reason))
    return found


def _after(epochs: int) -> str:
    return f"after {epochs} epoch{'' if epochs == 1 else 's'}" if epochs else "before its first report"


def _failure(study: StudyRecord, trial: TrialRecord, when: str, reason: str) -> Failure:
    first, _, rest = redact(reason).partition("\n")
    return Failure(study.name, trial.number, when, first, rest.strip())
