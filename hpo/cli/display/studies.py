"""`hpo ls`: the studies of a home folder as a table or JSON, and the newest of them."""

from __future__ import annotations

import json
from typing import Any

from rich.markup import escape
from rich.table import Table

from hpo.cli.display.tables import show
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.reader import load_study, read_study, study_names
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_existing
from hpo.results.winner import winner, winner_json
from hpo.spec.study import SHIPPED_TRAINER
from hpo.text import iso, percent


def newest(home: Home) -> str:
    """The study created last.

    Raises:
        UsageError: the home folder has no study.
    """
    studies = _all_studies(home)
    if not studies:
        raise UsageError(f"no study was run in {home.path}; name another home folder with --home")
    return max(studies, key=lambda study: float(study.info.get("created", 0.0))).name


def show_studies(home: Home, as_json: bool) -> None:
    """Print all studies."""
    studies = _all_studies(home)
    if as_json:
        print(json.dumps([_json(study) for study in studies]))
    elif studies:
        show(_table(studies), _table(studies, "data"), _table(studies, "data", "created"))
    else:
        print(f"no study in {home.path}")


def _json(study: StudyRecord) -> dict[str, Any]:
    return {
        "study": study.name,
        "created": iso(study.info.get("created")),
        "trials": len(study.trials),
        **winner_json(study),
    }


def _table(studies: list[StudyRecord], *without: str) -> Table:
    """All studies; `without` are the titles of columns to leave out."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    titles = ("study", "created", "complete", "best", "val acc", "data", "model")
    for title in (title for title in titles if title not in without):
        table.add_column(title, justify="right" if title in ("complete", "val acc") else "left", no_wrap=True)
    for study in studies:
        shipped = study.spec.trainer == SHIPPED_TRAINER  # another trainer may use other data and models
        best = winner(study)
        cells = {
            "study": study.name,
            "created": (iso(study.info.get("created")) or "").replace("T", " ")[:16],
            "complete": f"{study.count('complete')}/{len(study.trials)}",
            "best": f"trial {best.trial.number}{', confirmed' if best.confirmation else ''}" if best else "–",
            "val acc": percent(best.accuracy if best else None),
            "data": study.spec.data.name if shipped else "–",
            "model": study.spec.model.name if shipped else study.spec.trainer,
        }
        table.add_row(*(escape(cell) for title, cell in cells.items() if title not in without))
    return table


def _all_studies(home: Home) -> list[StudyRecord]:
    studies = []
    if (home.path / "optuna.db").is_file():
        storage = open_existing(home)
        studies += [load_study(storage, name) for name in study_names(storage)]
    pointers = (home.path / "studies").glob("*/ledger.url")
    return studies + [read_study(home, path.parent.name) for path in sorted(pointers)]
