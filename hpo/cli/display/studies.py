"""`hpo ls`: the studies of a home folder as a table or JSON, and the newest of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from rich.markup import escape
from rich.table import Table

from hpo.cli.display.tables import show
from hpo.cli.programs import documents
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


def newest(home: Home) -> str:
    """The study created last.

    Raises:
        UsageError: the home folder has no study, or a newer one is starting.
    """
    created = dict(_of_all_studies(home, creation_time))
    for name in _folders(home) - set(created):
        if driver_of(home.study(name)) and (start := unrecorded(home, name)):
            raise UsageError(start)
    if not created:
        raise UsageError(f"no study was run in {home.path}; name another home folder with --home")
    return max(created, key=lambda name: created[name])


def show_studies(home: Home, as_json: bool) -> None:
    """Print all studies."""
    studies = [study for _, study in _of_all_studies(home, load_study)]
    if as_json:
        documents.show_list("summary", map(summary_json, studies))
    elif studies:
        hidden = ("data", "created", "model")
        show(*(_table(studies, *hidden[:count]) for count in range(4)), hidden=hidden)
    else:
        print(f"no study in {home.path}")


def summary_json(study: StudyRecord) -> dict[str, Any]:
    """A study in a list, for programs."""
    now = glance(study)
    return {
        "study": study.name,
        "state": now.state,
        "last_sign_of_life": iso(last_sign(study)),
        "progress": {"ended": now.ended, "trials": now.trials},
        "created": iso(study.info.get("created")),
        "task": study.spec.task,
        "trials": len(study.trials),
        **winner_json(study),
    }


def _value(trial: TrialRecord | None, score: float | None, goal: Objective) -> str:
    """`93.40 %, trial 7`, or `rmse 22.36, trial 7` for an objective that people do not guess."""
    if trial is None:
        return "–"
    shown = goal.show_score(score)
    return f"{shown if goal.is_accuracy else f'{goal.label} {shown}'}, trial {trial.number}"


def _confirmed(study: StudyRecord) -> str:
    """The value and the trial that a confirmation chose, how far it has come, or a dash."""
    found, best = confirmation(study), winner(study)
    if found is None:
        return "–"
    if best is None or best.confirmation is None:
        return f"{found.done}/{found.planned} trained"
    return _value(best.trial, best.accuracy, best.objective)


def _table(studies: list[StudyRecord], *without: str) -> Table:
    """All studies; `without` are the titles of columns to leave out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ("study", "state", "progress", "best", "confirmed", "created", "data", "model")
    for title in (title for title in titles if title not in without):
        table.add_column(title, justify="right" if title == "progress" else "left", no_wrap=True)
    for study in studies:
        shipped, now = study.spec.shipped, glance(study)  # another trainer may use other data and models
        cells = {
            "study": study.name,
            "state": now.words if now.state == "silent" else now.state,
            "progress": f"{now.ended}/{now.trials}",
            "best": _value(study.best, study.best.value if study.best else None, study.spec.objective),
            "confirmed": _confirmed(study),
            "created": (iso(study.info.get("created")) or "").replace("T", " ")[:16],
            "data": study.spec.data.name if shipped else "–",
            "model": " or ".join(study.spec.model_names) if shipped else study.spec.trainer,
        }
        table.add_row(*(escape(cell) for title, cell in cells.items() if title not in without))
    return table


def _of_all_studies(home: Home, read: Callable[..., R]) -> Iterator[tuple[str, R]]:
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
