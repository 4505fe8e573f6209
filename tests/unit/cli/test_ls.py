"""The list of studies fits 80 columns where the names allow, and a wide terminal shows all of it."""

from __future__ import annotations

import dataclasses
import time

import pytest
from rich.text import Text

from hpo.cli.display import studies as module
from hpo.cli.display.studies import show_studies
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import Pause, StudyRecord
from tests.support.sample_records import busy, study, trial

ALL = ["study", "state", "progress", "best", "confirmed", "created", "data", "model"]
SHORT = ["study", "state", "done", "best", "age", "data", "model"]


def listed(
    width: int, record: StudyRecord, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Home
) -> list[str]:
    """The lines of the list, on a terminal of that width; 0 for a pipe."""
    monkeypatch.setenv("COLUMNS", str(width or 80))
    monkeypatch.setenv("FORCE_COLOR", "1" if width else "")
    monkeypatch.setattr("sys.stdout.isatty", lambda: width > 0)
    monkeypatch.setattr(module, "of_all_studies", lambda home, read: iter([(record.name, record)]))
    show_studies(home, as_json=False)
    return [line.rstrip() for line in Text.from_ansi(capsys.readouterr().out).plain.splitlines()]


@pytest.fixture
def record() -> StudyRecord:
    ended = study(trial(10, 16, ending=Ending.COMPLETE))
    return dataclasses.replace(ended, info={"created": time.time() - 9 * 86_400})


@pytest.mark.parametrize(
    ("width", "titles", "note"),
    [
        (0, SHORT, []),
        (200, ALL, []),
        (90, SHORT, []),
        (72, [title for title in SHORT if title != "data"], ["hidden column: data (a wider terminal shows all)"]),
    ],
)
def test_the_list_of_studies_has_shorter_cells_before_it_hides_a_column(
    width: int,
    titles: list[str],
    note: list[str],
    record: StudyRecord,
    home: Home,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, row, *rest = listed(width, record, capsys, monkeypatch, home)
    assert head.split() == titles
    assert rest == note
    assert ("trial 10" in row) == (width == 200)
    assert ("  9 d  " in row) == (width != 200)
    assert max(map(len, (head, row))) <= (width or 80)


def test_a_pipe_hides_no_column_however_long_the_names_are(
    record: StudyRecord, home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = study(*record.trials, spec=record.spec.model_copy(update={"study": "n" * 64}))
    head, row = listed(0, long, capsys, monkeypatch, home)
    assert head.split() == SHORT
    assert row.startswith("n" * 64 + " ")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-5, "0 min"), (59 * 60, "59 min"), (60 * 60, "1 h"), (86_400, "1 d"), (400 * 86_400, "1 y")]
)
def test_the_age_of_a_study_is_whole_minutes_hours_or_days(seconds: float, shown: str) -> None:
    record = StudyRecord("a", study().spec, {"created": time.time() - seconds - 1})
    assert module._created(record, short=True) == shown


@pytest.mark.parametrize("state", ["running", "paused", "no sign of life since ", "interrupted", "finished", "failed"])
def test_the_list_says_what_a_study_is_doing(
    state: str, home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    open_now = dataclasses.replace(busy(2), driver="open", sessions=((now - 60, now),))
    fruitless = study(*(trial(number, 0, ending=Ending.FAILED) for number in range(3)))
    records = {
        "running": open_now,
        "paused": dataclasses.replace(open_now, paused=Pause("somebody@here", now)),
        "no sign of life since ": dataclasses.replace(busy(2), driver="open"),
        "interrupted": dataclasses.replace(busy(0), driver="none"),
        "finished": dataclasses.replace(busy(0), ended="budget.hours: reached the budget of 1 hour"),
        "failed": dataclasses.replace(fruitless, ended="budget.hours: reached the budget of 1 hour"),
    }
    _, row = listed(200, records[state], capsys, monkeypatch, home)
    assert row.startswith(f"cifar10_b0  {state}")
    assert f"  {3 if state == 'failed' else 15}/100  " in row
