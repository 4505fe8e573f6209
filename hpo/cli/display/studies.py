"""`hpo ls`: the studies of a home folder as a table or JSON, and the newest of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from rich.markup import escape
from rich.table import Table

from hpo.cli.display.tables import show
from hpo.cli.programs import documents
from hpo.clock import Clock
from hpo.errors import UsageError
from hpo.home import NAME, Home
from hpo.ledger.lock import driver_of
from hpo.ledger.reader import creation_time, load_study, open_existing, study_names, unrecorded
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import confirmation
from hpo.results.progress import glance, last_sign
from hpo.results.winner import winner, winner_json
from hpo.spec.objectives import Objective
from hpo.text import iso

R = TypeVar("R")
SHORT = {"progress": "done", "created": "age"}
"""Shorter titles."""
AGES = ((525_600, "y"), (1440, "d"), (60, "h"), (1, "min"))
"""Minutes of a unit of time, and its name."""
PIPED = 80
"""Columns that the list has in a pipe or a file if the names allow; no column of the table is left out there."""


def newest(home: Home) -> str:
    """The study created last.

    Raises:
        UsageError: the home folder has no study, or a newer one is starting.
    """
    created = dict(of_all_studies(home, creation_time))
    for name in _folders(home) - set(created):
        if driver_of(home.study(name)) and (start := unrecorded(home, name)):
            raise UsageError(start)
    if not created:
        raise UsageError(f"no study was run in {home.path}; name another home folder with --home")
    return max(created, key=lambda name: created[name])


def show_studies(home: Home, as_json: bool) -> None:
    """Print all studies."""
    studies = [study for _, study in of_all_studies(home, load_study)]
    if as_json:
        documents.show_list("summary", [summary_json(study, home) for study in studies])
    elif studies:
        hidden = ("data", "created", "model")
        narrower = [_table(studies, *hidden[:count], short=True) for count in (1, 2, 3) if sys.stdout.isatty()]
        show(_table(studies), _table(studies, short=True), *narrower, hidden=("", *hidden), piped=PIPED)
    else:
        print(f"no study in {home.path}")


def summary_json(study: StudyRecord, home: Home) -> dict[str, Any]:
    """A study in a list, for programs."""
    return {**known_json(study, home), "trials": len(study.trials)}


def known_json(study: StudyRecord, home: Home) -> dict[str, Any]:
    """What lists and views say of a study, for programs."""
    now = glance(study)
    return {
        "study": study.name,
        "home": str(home.path.resolve()),
        "folder": str(home.study(study.name).resolve()),
        "state": now.state,
        "last_sign_of_life": iso(last_sign(study)),
        "progress": {"ended": now.ended, "trials": now.trials},
        "created": iso(study.info.get("created")),
        "task": study.spec.task,
        **winner_json(study),
    }


def _value(trial: TrialRecord | None, score: float | None, goal: Objective, *, short: bool) -> str:
    """`93.40 %, trial 7`, or `rmse 22.36, trial 7` for an objective that people do not guess; `93.40 % #7` if short."""
    if trial is None:
        return "–"
    shown = goal.show_score(score)
    place = f" #{trial.number}" if short else f", trial {trial.number}"
    return f"{shown if goal.is_accuracy else f'{goal.label} {shown}'}{place}"


def _confirmed(study: StudyRecord, *, short: bool) -> str:
    """The value and the trial that a confirmation chose, how far it has come, or a dash."""
    found, best = confirmation(study), winner(study)
    if found is None:
        return "–"
    if best is None or best.confirmation is None:
        return f"{found.done}/{found.planned} trained"
    return _value(best.trial, best.accuracy, best.objective, short=short)


def _created(study: StudyRecord, *, short: bool) -> str:
    """`2026-11-14 22:13`; if short, its age: `5 min`, `3 h`, `14 d` or `2 y`."""
    created = study.info.get("created")
    if not short or created is None:
        return (iso(created) or "").replace("T", " ")[:16]
    minutes = int(max(0.0, Clock().now() - created) // 60)
    count, unit = next((minutes // size, unit) for size, unit in AGES if minutes >= size or size == 1)
    return f"{count} {unit}"


def _models(study: StudyRecord, *, short: bool) -> str:
    """The models, or who trains; if short, without the tags of their weights."""
    if not study.spec.shipped:
        return study.spec.trainer
    names = study.spec.model_names
    return " or ".join(dict.fromkeys(name.partition(".")[0] for name in names) if short else names)


def _table(studies: list[StudyRecord], *without: str, short: bool = False) -> Table:
    """All studies.

    Args:
        without: the titles of columns to leave out.
        short: with shorter titles and cells, and without the column `confirmed` where nothing was confirmed.
    """
    if short and all(confirmation(study) is None for study in studies):
        without = (*without, "confirmed")
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ("study", "state", "progress", "best", "confirmed", "created", "data", "model")
    for title in (title for title in titles if title not in without):
        shown = SHORT.get(title, title) if short else title
        table.add_column(shown, justify="right" if title == "progress" else "left", no_wrap=True)
    for study in studies:
        now = glance(study)
        cells = {
            "study": study.name,
            "state": now.words if now.state == "silent" else now.state,
            "progress": f"{now.ended}/{now.trials}",
            "best": _value(study.best, study.best.value if study.best else None, study.spec.objective, short=short),
            "confirmed": _confirmed(study, short=short),
            "created": _created(study, short=short),
            "data": study.spec.data.name if study.spec.shipped else "–",  # another trainer may use other data
            "model": _models(study, short=short),
        }
        table.add_row(*(escape(cell) for title, cell in cells.items() if title not in without))
    return table


def of_all_studies(home: Home, read: Callable[..., R]) -> Iterator[tuple[str, R]]:
    """What `read` says of each study, by name: those of the home's own ledger, then those that have one elsewhere.

    Args:
        read: takes a storage and the name of a study.
    """
    if (home.path / "optuna.db").is_file():
        storage = open_existing(home)
        for name in study_names(storage):
            yield name, read(storage, name)
    for name in sorted(_folders(home)):
        if home.pointer(name).is_file():
            try:
                yield name, read(open_existing(home, name), name)
            except UsageError as error:  # it has no record yet, which hides no other study
                print(f"note: {error}", file=sys.stderr)


def _folders(home: Home) -> set[str]:
    """Names of the studies that have a folder."""
    return {path.name for path in (home.path / "studies").glob("*") if NAME.fullmatch(path.name) and path.is_dir()}
