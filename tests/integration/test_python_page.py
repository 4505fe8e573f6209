"""The session of the page about Python, and what a study started by a program does when that program is killed."""

from __future__ import annotations

import doctest
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpo
from tests.conftest import REPOSITORY
from tests.support.markdown import blocks

PAGE = REPOSITORY / "reports" / "docs" / "python.md"


@pytest.mark.ray
def test_the_session_of_the_page_prints_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPO_HOME", raising=False)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    (trainer,) = blocks(PAGE, "python")
    Path("toy.py").write_text(trainer)
    session = "\n".join(blocks(PAGE, "pycon"))
    test = doctest.DocTestParser().get_doctest(session, {}, PAGE.name, str(PAGE), 0)
    wrong = list[str]()
    doctest.DocTestRunner().run(test, out=wrong.append)
    assert "".join(wrong) == ""
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


PROGRAM = """\
import hpo
hpo.run(
    {
        "study": "left",
        "trainer": "tests.synthetic:train",
        "train": {"epochs": 8, "progressive": {"stages": 1}},
        "extra": {"light": True, "gate": "never"},
        "space": {"extra.quality": {"type": "float", "low": 0.0, "high": 1.0}},
        "asha": {"enabled": False},
        "tracking": {"enabled": False},
    }
)
"""


@pytest.mark.ray
def test_a_study_whose_program_is_killed_stops_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        program = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path, stderr=log)
    deadline = time.monotonic() + 200
    while "epoch 2/8" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        assert program.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.2)
    running = hpo.load_study("left", home=tmp_path / "runs")
    assert "running" in set(running.trials["state"])
    assert running.record.driver == "open"
    program.kill()
    program.wait()
    while (left := hpo.load_study("left", home=tmp_path / "runs")).record.driver != "none":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert set(left.trials["state"]) <= {"interrupted", "waiting"}
    assert left.epochs["epoch"].max() == 2
