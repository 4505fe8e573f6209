"""The live view holds up nobody who tells it something, and formats only what fits on the screen."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest
from rich.console import RenderableType
from rich.text import Text

from hpo.cli.display import running_trials as table
from hpo.cli.display.painter import Painter
from hpo.ledger.records import StudyRecord, TrialRecord
from tests.support.sample_records import busy

WAIT_S = 20.0


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """A terminal of which nobody reads much: what it shows is read when the test ends."""
    reader, writer = pty.openpty()
    reading = threading.Thread(target=_read_all, args=(reader,), daemon=True)
    reading.start()
    with os.fdopen(writer, "w") as stream:
        yield stream


def _read_all(reader: int) -> None:
    try:
        while os.read(reader, 65536):
            pass
    except OSError:
        os.close(reader)


def test_a_picture_that_takes_long_holds_up_no_event(terminal: TextIO) -> None:
    painting, go_on, painters = threading.Event(), threading.Event(), set[str]()

    def picture() -> RenderableType:
        if threading.current_thread() is not threading.main_thread():
            painters.add(threading.current_thread().name)
            painting.set()
            assert go_on.wait(WAIT_S)
        return Text("a picture")

    with Painter(picture, terminal) as painter:
        painter.paint()
        assert painting.wait(WAIT_S), "painted in a thread of its own"
        for _ in range(1_000):  # while a picture is being painted
            painter.paint()
            painter.say("a line that stays")
        go_on.set()
    assert painter.failure is None
    assert painters == {"screen"}


def test_many_events_make_few_pictures(terminal: TextIO) -> None:
    pictures: list[int] = []

    def picture() -> RenderableType:
        pictures.append(1)
        return Text("a picture")

    with Painter(picture, terminal) as painter:
        for _ in range(10_000):
            painter.paint()
    assert len(pictures) < 20


def test_an_error_of_a_picture_is_kept_and_ends_the_painting(terminal: TextIO) -> None:
    failed = threading.Event()

    def picture() -> RenderableType:
        if threading.current_thread() is threading.main_thread():
            return Text("the first picture")
        failed.set()
        raise RuntimeError("a mistake in the rendering")

    with Painter(picture, terminal) as painter:
        painter.paint()
        assert failed.wait(WAIT_S)
        painter.paint()
    assert str(painter.failure) == "a mistake in the rendering"


def test_only_running_trials_that_are_shown_are_formatted(monkeypatch: pytest.MonkeyPatch) -> None:
    formatted: list[int] = []
    cells = table._cells

    def counting(study: StudyRecord, trial: TrialRecord, *, several_hosts: bool) -> list[str]:
        formatted.append(trial.number)
        return cells(study, trial, several_hosts=several_hosts)

    monkeypatch.setattr(table, "_cells", counting)
    study = busy(1_000)
    running = [trial for trial in study.trials if trial.status == "running"]
    assert (
        len(list(table.running_trials(study, running, rows=10, width=120))) == 12
    )  # blank, titles, 9 trials, the rest
    assert len(formatted) == 9
