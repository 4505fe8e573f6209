"""What `hpo mcp` tells of studies. Each method is a tool; its docstring is what an agent reads of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from threading import Lock
from typing import Any, Literal

from hpo.cli.display.status import overview_json, trial_json
from hpo.cli.display.studies import newest, of_all_studies, summary_json
from hpo.cli.programs.bounded import MOST_ROWS, bounded, page
from hpo.cli.programs.documents import document
from hpo.cli.programs.findings import finding_json
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.reader import Follower, open_existing
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.summary import STATUSES
from hpo.results.tables.table import json_rows
from hpo.results.tables.trials import trial_table
from hpo.text import show

Order = Literal["number", "newest", "best"]
TABLE_LIMIT = 20


class Reading:
    """Reads the studies of one home folder. A name of a study is all that a caller gives: no path is taken."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._followers: dict[tuple[str, str], Follower] = {}
        self._reads = Lock()  # the server calls tools in several threads

    def list_studies(self, limit: int = TABLE_LIMIT, offset: int = 0) -> dict[str, Any]:
        """List the studies, the newest first: name, state, progress, best trial and its value.

        limit: at most so many studies, up to 100. offset: how many to skip; next_offset of the last answer continues.
        """
        found = [study for _, study in of_all_studies(self._home, self._load)]
        found.sort(key=lambda study: float(study.info.get("created") or 0.0), reverse=True)
        rows, rest = page(found, limit, offset, lambda shown: [summary_json(study, self._home) for study in shown])
        return bounded({"studies": rows, **rest}, MOST_ROWS)

    def get_status(self, study: str | None = None) -> dict[str, Any]:
        """Tell how a study goes: state, best trial, gain over the baseline, confirmation, cost, and what to do next.

        study: its name; without it, the newest study. The trials are left out: list_trials has them.
        """
        record = self._read(study or newest(self._home))
        trials = {"total": len(record.trials), **_states(record)}
        return bounded(document("status", {**overview_json(record, self._home), "trials": trials}))

    def list_trials(
        self,
        study: str,
        order: Order = "best",
        state: str | None = None,
        limit: int = TABLE_LIMIT,
        offset: int = 0,
    ) -> dict[str, Any]:
        """List trials of a study with state, value, parameters, seconds and the reason of the end.

        order: best (complete trials first, by their value), newest, or number. state: only trials in this state, for
        example complete, pruned, failed or running. limit: at most so many rows, up to 100. offset: how many to skip.
        """
        if state not in (None, *STATUSES):
            raise UsageError(f"state: there is no state {show(state)}; states: {', '.join(STATUSES)}")
        record = self._read(study)
        wanted = [trial for trial in record.trials if state in (None, trial.status)]

        def told(shown: Sequence[TrialRecord]) -> list[dict[str, Any]]:
            return json_rows(trial_table([dataclasses.replace(record, trials=tuple(shown))]))

        rows, rest = page(_ordered(wanted, order), limit, offset, told)
        return bounded({"study": record.name, "trials": rows, **rest}, MOST_ROWS)

    def get_trial(self, study: str, trial: int) -> dict[str, Any]:
        """Tell everything about one trial: parameters, state, the value after each epoch, attempts, reason of its end.

        trial: its number.
        """
        record = self._read(study)
        found = next((one for one in record.trials if one.number == trial), None)
        if found is None:
            raise UsageError(f"{study} has no trial {trial}; trials: 0 to {len(record.trials) - 1}")
        return bounded({"study": record.name, **trial_json(found, record.spec.objective)}, 1000)

    def get_report(self, study: str) -> dict[str, Any]:
        """Tell the headline of a study: what was found, whether it is more than chance, why, and what to do next.

        page and markdown are the files of the report in the home folder, null before `hpo report` has written it.
        """
        record = self._read(study)
        page = self._home.study(record.name) / "report" / "report.html"
        files = {
            "page": str(page) if page.is_file() else None,
            "markdown": str(page.with_suffix(".md")) if page.with_suffix(".md").is_file() else None,
            "write": self._home.command(f"report {record.name}"),
        }
        return bounded({**finding_json(record, self._home), **files})

    def _read(self, name: str) -> StudyRecord:
        return self._load(open_existing(self._home, name), name)

    def _load(self, storage: Any, name: str) -> StudyRecord:
        """The study now. Only what is new in it is read, because an agent asks for the same study again and again."""
        with self._reads:
            place = (self._home.ledger_of(name), name)
            return self._followers.setdefault(place, Follower(storage, name)).read()


def _states(record: StudyRecord) -> dict[str, int]:
    states = [trial.status for trial in record.trials]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def _ordered(trials: list[TrialRecord], order: Order) -> list[TrialRecord]:
    if order == "best":
        return sorted(trials, key=lambda trial: (not trial.complete, -trial.rank, trial.number))
    return trials[::-1] if order == "newest" else trials
