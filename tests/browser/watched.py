"""A simulated study as every program reads it: in the ledger, in MLflow and in event files. And those programs."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.tracking.mirror import Mirror
from hpo.tracking.tensorboard import EventFiles
from reports.benchmarks.large_study import insert
from reports.page.render import plots
from tests.browser.simulation import simulated_study

ANSWER_S = 120
"""How long a program may take to start on a busy machine."""


@dataclass(frozen=True)
class Watched:
    """A study in a home folder of its own."""

    home: Home
    study: StudyRecord
    mirror: Mirror
    """Wrote the study to MLflow; knows its runs."""


def watched_study(folder: Path) -> Watched:
    """Write a study of twelve trials."""
    home, study = Home.at(folder / "home").create(), simulated_study("watched", trials=12, epochs=8)
    record(study, home)
    mirror = Mirror(study, home)
    mirror.begin()
    for trial in study.trials:
        mirror.sync(trial)
    mirror.finish(study)
    mirror.study_run.draw(study, plots(study))
    return Watched(home, study, mirror)


def record(study: StudyRecord, home: Home) -> None:
    """Write a study to the ledger and to event files."""
    storage = open_storage(home.ledger_url)
    ledger = Ledger.create(storage, study.spec.model_copy(update={"enqueue": ()}), study.info)
    ledger.respecify(study.spec)  # its baseline is among the trials
    ledger.close()
    insert(storage, study.spec, study.trials)
    assert EventFiles(study, home).close() is None


@contextmanager
def served(*command: str, folder: Path | None = None) -> Iterator[str]:
    """The address at which a program of this environment answers. It runs in `folder` and ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).with_name(command[0]))
    process = subprocess.Popen(
        [program, *command[1:], "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(process, address)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # it waits for a connection that the browser keeps open
            process.kill()


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    limit = time.monotonic() + ANSWER_S
    while time.monotonic() < limit and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"{process.args} did not answer; exit code {process.poll()}")
