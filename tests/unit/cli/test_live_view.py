"""The live view holds up nobody who tells it something, and formats only what fits on the screen."""

from __future__ import annotations

import dataclasses
import io
import os
import pty
import random
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TextIO

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from hpo.cli.display import running_trials as table
from hpo.cli.display.live import LiveView
from hpo.cli.display.screen import Screen
from hpo.cli.display.terminal.painter import Painter
from hpo.driver.events import Event
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.sums.study import Sums
from tests.support.sample_records import SPEC, busy, study, trial
from tests.support.touched_trials import touched

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

    def counting(study: StudyRecord, trial: TrialRecord, now: float, *, several_hosts: bool) -> list[str]:
        formatted.append(trial.number)
        return cells(study, trial, now, several_hosts=several_hosts)

    monkeypatch.setattr(table, "_cells", counting)
    record = busy(1_000)
    running = [trial for trial in record.trials if trial.status == "running"]
    assert (
        len(list(table.running_trials(record, running, rows=10, width=120, now=0.0))) == 12
    )  # blank, titles, 9 trials, the rest
    assert len(formatted) == 9


# ------------------------------------------------------------------------------------------------- growth


def text(screen: Screen) -> str:
    console = Console(width=150, height=50, file=io.StringIO(), color_system=None)
    console.print(screen)
    return console.file.getvalue()


def begun(home: Home, record: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> LiveView:
    """A view that makes screens, but has no terminal."""
    monkeypatch.setattr(LiveView, "_painting", lambda self: nullcontext())
    home.study(record.name).mkdir(parents=True)
    view = LiveView(home)
    view.begin(record)
    view._log.touch()
    return view


def test_a_picture_looks_at_no_ended_trial_beside_the_best_one_and_the_baseline(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = [trial(100 + number, 16, ending=Ending.COMPLETE) for number in range(300)]
    record = busy(5)
    view = begun(home, dataclasses.replace(record, trials=(*record.trials, *ended)), monkeypatch)
    before = text(view._screen())
    view._events += [Event("epoch", trial(15, 3)), Event("finished", trial(16, 4, ending=Ending.PRUNED))]
    with touched(monkeypatch) as numbers:
        after = text(view._screen())
    assert "5 running" in before
    assert "4 running" in after
    assert "trial 399" in after
    assert numbers == {0, 399, *range(15, 20)}


def test_the_last_picture_shows_no_trial_as_running(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    view = begun(home, busy(5), monkeypatch)
    view._over = True
    for _ in range(2):
        assert "3 failed, 5 interrupted\n" in text(view._screen())


@pytest.mark.parametrize("asha", [{}, {"resource": "compute"}, {"align": "stages"}, {"enabled": False}])
def test_a_screen_of_kept_sums_equals_that_of_all_records_after_any_changes(
    home: Home, asha: dict[str, object]
) -> None:
    spec = SPEC.model_validate({**SPEC.model_dump(exclude_unset=True), "asha": {"reduction_factor": 2, **asha}})
    chance, sums, trials = random.Random(0), Sums(spec), dict[int, TrialRecord]()
    for step in range(120):
        number, ending = chance.randrange(30), chance.choice([None, None, *Ending])
        epochs = 16 if ending is Ending.COMPLETE else chance.randrange(16)
        trials[number] = trial(
            number,
            epochs,
            ending=ending,
            reason=chance.choice(["lost", "OutOfMemory: it is"]),
            enqueued=number in (3, 5),
            control=number % 5 == 3,
        )
        sums.update(trials[number])
        if step % 40 == 39:
            record = study(*(trials[number] for number in sorted(trials)), spec=spec)
            stale = dataclasses.replace(record, trials=())
            assert text(Screen(stale, home, sums=sums)) == text(Screen(record, home))
