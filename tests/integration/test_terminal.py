"""The live view on a real terminal: tmux is the terminal, its capture is what a person sees."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import RungDecision
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from tests.conftest import synthetic_spec
from tests.support.terminal import Tmux
from trainers.api import EpochMetrics

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed (apt install tmux)")


@pytest.fixture
def tmux() -> Iterator[Callable[..., Tmux]]:
    """Starts sessions and ends them with the test."""
    started: list[Tmux] = []

    def start(width: int, height: int, command: list[str], **environment: str) -> Tmux:
        started.append(Tmux(width, height, command, **environment))
        return started[-1]

    yield start
    for session in started:
        session.close()


def show(how: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "tests.support.live_view_program", how, str(folder)]


def painted(text: str) -> bool:
    return "ETA" in text and "rung at epoch" in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_noise_of_libraries_does_not_garble_the_view(
    tmux: Callable[..., Tmux], tmp_path: Path, width: int, height: int
) -> None:
    session = tmux(width, height, show("noise", tmp_path))
    text = session.until(lambda text: painted(text) and "note     a library's print" in text, "the view")
    assert text.count("cifar10_b0  tf_efficientnetv2_s") == 1
    assert text.count("images/s  device") == 1
    assert "written past Python" not in text
    text = session.until(lambda text: "status=0" in text, "the end")
    assert "the end" in text
    everything = session.history()
    assert everything.count("warning: a notice that stays") == 1
    assert everything.count("rung at epoch") == 1, "painted in place"
    assert "64 interrupted" in everything, "a driver that is done leaves no trial running"
    log = (tmp_path / "studies" / "cifar10_b0" / "driver.log").read_text()
    assert "(raylet) written past Python" in log
    assert "a library's print" in log


def test_a_view_that_breaks_prints_the_error_and_continues_in_plain_lines(
    tmux: Callable[..., Tmux], tmp_path: Path
) -> None:
    session = tmux(200, 50, show("broken", tmp_path))
    session.until(lambda text: "status=0" in text, "the end")
    everything = session.history()
    assert everything.count("RuntimeError: a mistake in the rendering") == 1
    assert everything.count("the study continues without it") == 1
    assert re.search(r"0:0\d  trial 78 epoch 14/16", everything)


def test_ctrl_c_leaves_the_terminal_as_it_was(tmux: Callable[..., Tmux], tmp_path: Path) -> None:
    session = tmux(80, 24, show("interrupt", tmp_path))
    session.until(painted, "the view")
    session.keys("C-c")
    text = session.until(lambda text: "status=0" in text and "echo" in text.splitlines(), "the end")
    assert "the end" in text
    assert session.history().count("cifar10_b0  tf_efficientnetv2_s") == 1, "the terminal's ^C moved nothing"
    assert (tmp_path / "stopping").read_text() == "interrupted by SIGINT"


def test_a_second_ctrl_c_prints_the_command_that_continues_on_the_terminal(
    tmux: Callable[..., Tmux], tmp_path: Path
) -> None:
    (tmp_path / "twice").touch()
    session = tmux(80, 24, show("interrupt", tmp_path))
    session.until(painted, "the view")
    session.keys("C-c")
    session.until(lambda text: "note     SIGINT: stopping; a second signal exits at once" in text, "the first signal")
    session.keys("C-c")
    text = session.until(lambda text: "status=130" in text and "echo" in text.splitlines(), "the end")
    assert "Continue with: hpo resume cifar10_b0" in text
    assert session._run("display-message", "-p", "#{cursor_flag}").strip() == "1", "the cursor is visible"


def test_a_killed_view_leaves_a_visible_cursor(tmux: Callable[..., Tmux], tmp_path: Path) -> None:
    session = tmux(80, 24, ["sh", "-c", 'echo $$ > "$0/pid"; exec "$@"', str(tmp_path), *show("kill", tmp_path)])
    session.until(painted, "the view")
    os.kill(int((tmp_path / "pid").read_text()), 9)
    session.until(lambda text: "status=137" in text and "echo" in text.splitlines(), "the end")
    assert session._run("display-message", "-p", "#{cursor_flag}").strip() == "1"
    assert session._run("display-message", "-p", "#{alternate_on}").strip() == "0"


def test_a_resized_terminal_is_painted_anew(tmux: Callable[..., Tmux], tmp_path: Path) -> None:
    session = tmux(200, 50, show("kill", tmp_path))
    session.until(painted, "the view")
    session.resize(80, 24)
    text = session.until(lambda text: painted(text) and "more: epochs" in text, "the narrow view")
    session.until(lambda text: text.count("cifar10_b0  tf_efficientnetv2_s") == 1, "one clean frame")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("variable", ["TERM", "NO_COLOR"])
def test_a_dumb_terminal_gets_plain_lines_and_no_color_turns_colours_off(
    tmux: Callable[..., Tmux], followed: Home, variable: str
) -> None:
    value = {"TERM": "dumb", "NO_COLOR": "1"}[variable]
    session = tmux(80, 24, status(followed), **{variable: value})
    text = session.until(lambda text: "status=0" in text, "the end")
    assert ("rung at epoch" in text) == (variable == "NO_COLOR")
    assert ("0:00  trial 0 complete: trained for all 8 epochs" in text) == (variable == "TERM")
    colours = re.compile(r"\x1b\[(3[0-7]|9[0-7]|38)")
    assert not any(colours.search(line) for line in session.screen("-e"))


# -------------------------------------------------------------------------------------- status --watch


@pytest.fixture
def followed(home: Home) -> Home:
    """A home with one study: a complete trial, a failed one, and the budget used up."""
    spec = synthetic_spec("followed", budget={"trials": 2})
    ledger = Ledger.create(open_storage(home.ledger_url), spec, {"created": time.time()})
    for failure in (None, "ValueError: broken"):
        trial = ledger.ask(lambda asked: ({"extra.quality": asked.suggest_float("extra.quality", 0, 1)}, "random"), int)
        for epoch in range(1, 9 if failure is None else 2):
            decision = RungDecision(1.0, 0.5, None, trial.number, keep=True) if epoch == 1 else None
            ledger.record(trial.number, EpochMetrics(epoch=epoch, val_accuracy=0.1 * epoch, seconds=1.0), decision)
        outcome = Outcome(Ending.FAILED, failure) if failure else Outcome(Ending.COMPLETE, "trained for all 8 epochs")
        ledger.finish(trial.number, outcome)
    ledger.close()
    return home


def status(home: Home, *options: str) -> list[str]:
    return [sys.executable, "-m", "hpo", "status", "followed", "--watch", "--home", str(home.path), *options]


def test_watch_shows_an_ended_study_once(tmux: Callable[..., Tmux], followed: Home) -> None:
    session = tmux(80, 24, status(followed))
    text = session.until(lambda text: "status=0" in text, "the end")
    assert "2/2 ended" in text
    assert "1 complete, 1 failed" in text
    assert "80.00 %  trial 0, epoch 8/8" in text
    assert "failed   trial 1: ValueError: broken" in text
    assert text.count("rung at epoch") == 1


def test_watch_in_a_pipe_is_plain_lines_and_json_stays_json(followed: Home) -> None:
    watched = CliRunner().invoke(app, ["status", "followed", "--watch", "--home", str(followed.path)])
    assert watched.exit_code == 0, watched.output
    assert [line[8:] for line in watched.output.splitlines()] == [
        "trial 0 complete: trained for all 8 epochs",
        "best so far: 80.00 % by trial 0",
        "trial 1 failed: ValueError: broken",
        "finished",
    ]
    found = CliRunner().invoke(app, ["status", "followed", "--json", "--home", str(followed.path)])
    assert json.loads(found.stdout)["best"] == 0
