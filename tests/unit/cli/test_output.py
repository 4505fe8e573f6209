"""No reader of what a driver prints can stop the driver: not one that stands still, nor one that has gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hpo.cli.display.terminal import output
from hpo.cli.display.terminal.output import Relay
from hpo.driver.signals import state
from tests.conftest import REPOSITORY
from tests.support import printing_program

MUCH = 200_000
"""Bytes: more than a pipe holds."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def program(home: Path, *, stderr: int, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.printing_program", str(home)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=stdout, stderr=stderr)


def log_of(home: Path) -> Path:
    return next((home / "studies").iterdir()) / "driver.log"


def test_a_reader_that_never_reads_stops_neither_the_study_nor_its_end(tmp_path: Path, pipe: tuple[int, int]) -> None:
    process = program(tmp_path, stderr=pipe[1], stdout=pipe[1])
    try:
        assert process.wait(120) == 0, "it is through, and waits for nobody"
    finally:
        process.kill()
    os.close(pipe[0])
    assert (tmp_path / "through").exists()
    text = log_of(tmp_path).read_text()  # what the reader did not take can be read here
    last = printing_program.EVENTS - 1
    assert all(words in text for words in (f"trial {last} started", f"warning {last}", f"a library prints {last}"))
    assert "SIGTERM: stopping; a second signal exits at once" in text
    assert text.endswith("the closing text\n")


def test_results_go_to_their_own_reader_when_that_of_the_progress_stands_still(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    process = program(tmp_path, stderr=pipe[1], stdout=subprocess.PIPE)
    assert process.communicate(timeout=120)[0] == b"the closing text\n"
    os.close(pipe[0])


def test_a_reader_that_has_gone_does_not_stop_the_study_but_is_told_by_the_exit_code(tmp_path: Path) -> None:
    process = program(tmp_path, stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.read(1)
    process.stderr.close()
    assert process.wait(120) == 141
    assert (tmp_path / "through").exists()


def test_a_reader_that_reads_gets_every_line_in_order(tmp_path: Path) -> None:
    process = program(tmp_path, stderr=subprocess.PIPE)
    text = process.communicate(timeout=120)[1].decode()
    numbers = [line.split()[2] for line in text.splitlines() if " started: " in line]
    assert numbers == [str(number) for number in range(printing_program.EVENTS)]
    assert text.count("a library writes past Python") == printing_program.EVENTS
    assert not log_of(tmp_path).exists(), "nothing is kept twice"


def test_a_slow_reader_gets_everything(tmp_path: Path, pipe: tuple[int, int]) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"of an earlier driver")
    relay = Relay(log, pipe[1])
    with log.open("ab") as file:
        file.write(b"x" * MUCH)
    got: list[bytes] = []

    def read_slowly() -> None:
        while sum(map(len, got)) < MUCH:
            got.append(os.read(pipe[0], 1_000))

    reading = threading.Thread(target=read_slowly, daemon=True)
    reading.start()
    relay.close()
    reading.join()
    assert b"".join(got) == b"x" * MUCH
    assert log.read_bytes() == b"of an earlier driver"
    os.close(pipe[0])


def test_what_a_reader_did_not_take_stays_in_the_file(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "PATIENCE_S", 0.2)
    log = tmp_path / "log"
    log.touch()
    relay = Relay(log, pipe[1])
    log.write_bytes(b"x" * MUCH)
    relay.close()
    assert log.stat().st_size == MUCH
    assert relay.error is None
    os.close(pipe[0])


def test_last_words_wait_for_no_reader(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe[1], b"x" * 1_000)
    os.set_blocking(pipe[1], True)
    with state.use_terminal(pipe[1]):
        state.say("Continue with: hpo resume it")
    os.close(pipe[0])
    with state.use_terminal(pipe[1]):
        state.say("the reader has gone")


@pytest.mark.parametrize("arguments", [["schema"], ["spaces"], ["--help"], ["--version"]], ids=" ".join)
def test_a_reader_that_has_gone_is_told_by_the_same_code_whoever_notices(arguments: list[str]) -> None:
    """typer and rich notice it in a large output and have codes of their own; in a small one Python does at the end."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "hpo", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
