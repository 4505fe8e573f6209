"""`hpo status`: one study as a table or JSON, from the ledger alone."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from hpo.cli.display.studies import known_json
from hpo.cli.display.tables import aligned, show
from hpo.cli.programs import documents
from hpo.files import folder_bytes
from hpo.gpu_sharing import describe
from hpo.home import Home, confirmation_of
from hpo.ledger.outcome import Ending
from hpo.ledger.reader import read_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.confirmation import confirmation
from hpo.results.confirmation_text import confirmation_json, lines
from hpo.results.gpu_hours import (
    DEFINITION,
    confirmation_cost,
    confirmation_gpu_hours,
    confirmation_worker_seconds,
    gpu_hours,
)
from hpo.results.pareto import front
from hpo.results.pareto import table as front_table
from hpo.results.progress import failures, glance, next_steps, undecided
from hpo.results.pruning.cost import remark
from hpo.results.summary import assigned_text, best_line, configuration, counts, stopped, untracked
from hpo.results.tables.trials import worker_seconds
from hpo.results.warm_start_effect import effect
from hpo.results.winner import winner
from hpo.spec.objectives import VAL_ACCURACY, Objective, objectives, values
from hpo.text import duration, first_line, iso, short_names, size

MOST_ROWS, BEST_ROWS = 100, 30
"""Rows of the table of trials, and how many of them the best trials take where the table cannot hold all."""
LEAST_LAG = 10
"""Trials by which MLflow is behind before it is told of a study that a driver runs: the newest ones always are."""
MOST_FAILURES = 20
"""Lines about failed trials."""


def show_study(home: Home, name: str, as_json: bool) -> None:
    """Print one study."""
    study = read_study(home, name)
    if as_json:
        documents.show("status", study_json(study, home))
        return
    console, now = Console(), glance(study)
    console.print(
        f"[bold]{escape(study.name)}[/bold]  {counts(study)}; wall-clock time {duration(study.seconds)}, "
        f"checkpoints {_checkpoints(study, home)}"
    )
    console.print(escape(study.spec.task), highlight=False)
    if reason := stopped(study):
        console.print(escape(reason), highlight=False)
    again = f"; continue with: {home.command(f'resume {study.name}')}" if now.resumable else ""
    console.print(escape(f"state: {now.words}{again}"), highlight=False, soft_wrap=True)
    if study.packing is not None:
        console.print(escape(describe(study.packing)), highlight=False)
    for node in study.left_nodes:
        console.print(escape(f"no trials on {node.host}: {node.host} {node.reason}"), highlight=False)
    if lag := _lag(study, home):
        console.print(escape(lag), highlight=False, soft_wrap=True)
    if charged := gpu_hours(study):
        console.print(f"GPU-hours: {charged:.2f} ({DEFINITION})", highlight=False)
    if unknown := undecided(study):
        console.print(escape(unknown), highlight=False)
    if extra := confirmation_cost(study):
        console.print(f"the confirmation took {extra} more", highlight=False)
    if pruning := remark(study):
        console.print(escape(pruning), highlight=False)
    confirmed, best = confirmation(study), winner(study)
    for line in lines(confirmed) if confirmed else ():
        console.print(escape(line), highlight=False)
    if best and best.confirmation and study.best:
        searched = f"trial {study.best.number}, {best.objective.label} {best.objective.show_score(study.best.value)}"
        console.print(f"best of the search: {searched}", highlight=False)
    elif best:
        console.print(f"best: {best_line(best)}", highlight=False)
    for source in study.transfer.sources:
        console.print(f"warm start from {escape(str(source))}", highlight=False)
    if comparison := effect(study):
        console.print(escape(f"warm start: {comparison}"), highlight=False)
    if len(study.spec.objectives) > 1:
        show(_front(study))
    shown = _shown(study)
    hidden = ("origin", "epochs")
    show(*(_trials(study, shown, *hidden[:count]) for count in range(3)), hidden=hidden)
    if len(shown) < len(study.trials):
        console.print(escape(_left_out(study, shown, home)), highlight=False, soft_wrap=True)
    for line in (*_named(study), *_failures(study)):
        console.print(escape(line), highlight=False)


def _lag(study: StudyRecord, home: Home) -> str | None:
    """By how much MLflow is behind the ledger; None if it is not."""
    behind, driven = untracked(study), study.driver == "open"
    if behind < (LEAST_LAG if driven else 1):
        return None
    text = f"MLflow is {behind:,} trial{'s' if behind > 1 else ''} behind"
    return text if driven else f"{text}; write the rest with: {home.command(f'doctor {study.name}')}"


def _front(study: StudyRecord) -> Table:
    """The Pareto front; `hpo export --pick` takes its places."""
    header, rows = front_table(study)
    table = Table(title="Pareto front of complete trials", title_justify="left", box=None, pad_edge=False)
    for title in header:
        table.add_column(title, justify="right", header_style="bold")
    for row in rows:
        table.add_row(*row)
    return table


def _shown(study: StudyRecord) -> list[TrialRecord]:
    """The trials of the table. Of more than `MOST_ROWS`: the best, the baseline, and the newest of the others."""
    if len(study.trials) <= MOST_ROWS:
        return list(study.trials)
    best = winner(study)
    ranked = heapq.nlargest(BEST_ROWS, study.trials, key=lambda trial: (trial.complete, trial.rank, -trial.number))
    first = [best.trial if best else None, study.baseline, *ranked, *reversed(study.trials)]
    chosen = {trial.number: trial for trial in first if trial is not None}
    return sorted(list(chosen.values())[:MOST_ROWS], key=lambda trial: trial.number)


def _left_out(study: StudyRecord, shown: Sequence[TrialRecord], home: Home) -> str:
    everything = home.command(f"status {study.name}", "--json")
    return (
        f"This table shows {len(shown)} of {len(study.trials):,} trials: the {BEST_ROWS} best, the "
        f"{study.spec.baseline_name}, and the newest. All of them: {everything}"
    )


def _trials(study: StudyRecord, shown: Sequence[TrialRecord], *without: str) -> RenderableType:
    """A table of trials; `without` are the titles of columns to leave out."""
    names, best = list(study.spec.space), winner(study)
    first = ("trial", "status", "origin", "epochs", study.spec.objective.column)
    titles = [title for title in first if title not in without]
    # A long path wraps at its dots, so that five parameters fit into 80 columns.
    titles += [title.replace(".", "\n.") for title in short_names(names).values()]
    rows, bold = list[list[str]](), set[int]()
    for place, trial in enumerate(shown):
        kept = [cell for title, cell in _cells(trial, study).items() if title not in without]
        values = configuration(trial, digits=3)
        rows.append([*kept, *(values.get(name, "-") for name in names)])
        if best and trial is best.trial:
            bold.add(place)
    return Group(*aligned(titles, rows, left=("status", "origin"), bold=bold))


def _cells(trial: TrialRecord, study: StudyRecord) -> dict[str, str]:
    """The cells before the configuration, by the title of their column."""
    return {
        "trial": str(trial.number),
        "status": trial.status,
        "origin": _origin(trial),
        "epochs": f"{len(trial.epochs)}/{study.spec.train.epochs}",
        study.spec.objective.column: study.spec.objective.show_score(trial.value),
    }


def _origin(trial: TrialRecord) -> str:
    """A short text for a table; a transferred trial has its number in the earlier study."""
    origin = trial.origin
    if origin is None:
        return "-"
    if origin.kind != "transferred":
        return origin.kind
    return f"{Path(origin.source or '').name[:12]}" + ("" if origin.trial is None else f" #{origin.trial}")


def _named(study: StudyRecord) -> list[str]:
    """A line for each configuration that a person named, or gave settings outside the space."""
    return [
        f"trial {trial.number} is {called}"
        + (f", with {assigned_text(trial.settings)}: not searched, so no sampler learns from it" * bool(trial.settings))
        for trial in study.trials
        for called in [study.spec.baseline_name if trial is study.baseline else trial.title or "a configuration"]
        if trial.title or trial.settings
    ]


def _failures(study: StudyRecord) -> list[str]:
    """A line per failed trial; if there are more than `MOST_FAILURES`, a line per reason."""
    if study.count("failed") <= MOST_FAILURES:
        return [
            f"trial {trial.number} failed: {first_line(trial.outcome.reason)}"
            for trial in study.trials
            if trial.outcome is not None and trial.outcome.ending is Ending.FAILED
        ]
    reasons = failures(study)
    lines = [f"{len(numbers)} failed, the last is trial {numbers[-1]}: {text}" for numbers, text in reasons]
    rest = len(reasons) - MOST_FAILURES
    return [*lines[:MOST_FAILURES], *([f"and {rest} other reasons; see --json"] if rest > 0 else [])]


def study_json(study: StudyRecord, home: Home) -> dict[str, Any]:
    """A study as JSON, for programs."""
    return {**overview_json(study, home), "trials": [trial_json(trial, study.spec.objective) for trial in study.trials]}


def overview_json(study: StudyRecord, home: Home) -> dict[str, Any]:
    """The same without its trials: all that `hpo ls` says of it, and more."""
    best_file = home.incumbent(study.name)
    return {
        **known_json(study, home),
        "best_file": str(best_file.resolve()) if best_file.is_file() else None,
        "checkpoints": redact(home.checkpoints(study.name, study.spec.storage.checkpoints)),
        "seconds": study.seconds,
        "gpu_hours": gpu_hours(study),
        "confirmation_gpu_hours": confirmation_gpu_hours(study),
        "confirmation_worker_seconds": confirmation_worker_seconds(study),
        "ended": study.ended,
        "requests": [request.told() for request in study.requests],
        "mlflow_behind": untracked(study),
        "gpu_sharing": describe(study.packing) if study.packing else None,
        "left_nodes": [dataclasses.asdict(node) for node in study.left_nodes],
        "pruning_cost": remark(study) or None,
        "confirmation": confirmation_json(confirmation(study)),
        "checkpoint_bytes": checkpoint_bytes(study, home),
        "objectives": [objective.name for objective in objectives(study.spec.objectives)],
        "front": [
            {"place": place, "trial": trial.number, "values": values(trial.metrics, study.spec.objectives)}
            for place, trial in enumerate(front(study))
        ],
        "warm_start": _warm_start(study),
        "next": [dataclasses.asdict(step) for step in next_steps(study, home.option)],
    }


def _warm_start(study: StudyRecord) -> dict[str, Any] | None:
    """The earlier studies it started from, and the effect; a trial that failed may have no value to compare."""
    if not study.transfer.sources:
        return None
    comparison, goal = effect(study), study.spec.objective

    def values_of(scores: Iterable[float]) -> list[float | None]:
        return [goal.score(score) if math.isfinite(score) else None for score in scores]

    return {
        "sources": [dataclasses.asdict(source) for source in study.transfer.sources],
        "effect": comparison
        and {
            "transferred": values_of(comparison.transferred),
            "random": values_of(comparison.random),
            "superiority": comparison.superiority,
            "p": comparison.p,
            "verdict": comparison.verdict,
        },
    }


def trial_json(trial: TrialRecord, goal: Objective = VAL_ACCURACY) -> dict[str, Any]:
    """A trial as JSON, for programs. `number`, `status` and `values` are the earlier names of `trial`, `state` and
    `parameters`, which every document has."""
    return {
        "trial": trial.number,
        "number": trial.number,
        "state": trial.status,
        "status": trial.status,
        "reason": redact(trial.outcome.reason) if trial.outcome else None,
        "origin": dataclasses.asdict(trial.origin) if trial.origin else None,
        "label": trial.title,
        "parameters": dict(trial.assigned),
        "values": dict(trial.assigned),
        "settings": dict(trial.settings),
        "epochs": len(trial.epochs),
        "value": goal.score(trial.value) if trial.value is not None else None,
        "val_accuracy": trial.last.val_accuracy if trial.last else None,
        "history": [goal.score(epoch.value) for epoch in trial.epochs],
        "attempts": len(trial.attempts),
        "taken_up": list(trial.taken_up),
        "seconds": worker_seconds(trial),
        "started": iso(trial.attempts[0].started) if trial.attempts else None,
        "ended": iso(trial.finished),
        "mlflow_run_id": trial.mlflow_run_id,
    }


def checkpoint_bytes(study: StudyRecord, home: Home) -> int | None:
    """Bytes on disk of the checkpoints of a study and its confirmation; None if they are not on this machine."""
    root = study.spec.storage.checkpoints
    places = [home.checkpoints(name, root) for name in (study.name, confirmation_of(study.name))]
    return None if "://" in places[0] else sum(folder_bytes(Path(place)) for place in places)


def _checkpoints(study: StudyRecord, home: Home) -> str:
    total, place = checkpoint_bytes(study, home), home.checkpoints(study.name, study.spec.storage.checkpoints)
    return size(total) if total is not None else f"at {escape(redact(place))}"
