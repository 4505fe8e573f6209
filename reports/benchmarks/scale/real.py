"""Trials that do nothing on this machine's Ray: everything that they cost is the driver's and Ray's."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hpo.clock import Clock
from hpo.sqlite_urls import sqlite_url
from reports.benchmarks.scale.nothing import NAME
from reports.benchmarks.scale.studies import multiply

SPEC = """\
study: {name}
trainer: reports.benchmarks.scale.nothing:train
train: {{epochs: 1, progressive: {{stages: 1}}}}
space:
  extra.x: {{type: float, low: 0.0, high: 1.0}}
  extra.y: {{type: float, low: 0.0, high: 1.0}}
resources: {{device: cpu, cpus: {cpus}}}
concurrency: {at_once}
budget: {{trials: {trials}}}
"""
WARM_SHARE = 0.1
"""First ends that are not counted: the workers start meanwhile."""
POLL_S = 0.2
LIMIT_S = 7200
ENDED = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')"


@dataclass(frozen=True)
class Driven:
    """A study of one stack, from its first tenth to its end."""

    stack: str
    trials: int
    at_once: int
    counted: int
    """Trials that ended after the first tenth of them."""
    seconds: float
    """Wall-clock time in which those ended."""
    with_tracking_s: float
    """The same until the process ended: MLflow has everything, and Ray is shut down."""
    driver_cpu_s: float
    """Processor time of the driver's process, all threads, in that time; Ray's other processes not included."""
    peak_mb: float
    """Greatest resident memory of the driver's process."""
    load_average: float
    """Of the machine in the last minute, at the end."""


@dataclass(frozen=True)
class Resumed:
    """A study whose driver was killed."""

    trials: int
    """That had ended."""
    trained: int
    """Of those; the others are copies of their rows."""
    tracking: bool
    """Whether MLflow was on."""
    new_trial_s: float | None
    """Seconds from the start of `hpo resume` to the first new trial; None if it ended before."""
    peak_mb: float


class Watched:
    """A process of which time and memory are read while it runs."""

    def __init__(self, command: Sequence[str]) -> None:
        self._clock = Clock()
        # Not a pipe, which nobody reads meanwhile: a full one would stop the driver.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=self._errors, start_new_session=True
        )
        self.samples: list[tuple[float, float]] = []
        """Time and processor seconds of the process until then."""
        self.peak_mb = 0.0
        self.pid = self._process.pid

    def look(self) -> bool:
        """Read once; returns whether the process still runs."""
        folder = Path("/proc") / str(self.pid)
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            memory = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
        except OSError:
            return False
        if memory:
            self.peak_mb = int(memory[1]) / 1024
            ticks = int(fields[11]) + int(fields[12])
            self.samples.append((self._clock.now(), ticks / os.sysconf("SC_CLK_TCK")))
        return self._process.poll() is None

    def wait(self) -> float:
        """Watch until the end; returns when that was.

        Raises:
            RuntimeError: the process failed.
        """
        deadline = time.monotonic() + LIMIT_S
        while self.look() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        self._process.wait(timeout=60)
        if self._process.returncode != 0:
            self._errors.seek(0)
            raise RuntimeError(self._errors.read()[-3000:])
        return self._clock.now()

    def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end; what the process started ends by itself."""
        os.kill(self.pid, number)
        self._process.wait(timeout=LIMIT_S)

    def cpu_between(self, start: float, end: float) -> float:
        """Processor seconds between two moments, to the next sample."""
        inside = [cpu for moment, cpu in self.samples if start <= moment <= end]
        return inside[-1] - inside[0] if inside else float("nan")


def run(stack: str, trials: int, at_once: int) -> Driven:
    """Run one study to its end."""
    with tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as folder:
        if stack == "stock":
            arguments = [folder, str(trials), str(at_once)]
            watched = Watched([sys.executable, "-m", "reports.benchmarks.scale.nothing", *arguments])
        else:
            watched = _hpo(Path(folder), "run", str(write_spec(Path(folder), trials, at_once)))
        ended = watched.wait()
        ends = _ends(next(Path(folder).rglob("optuna.db")))
    first = max(1, int(len(ends) * WARM_SHARE))
    return Driven(
        stack=stack,
        trials=len(ends),
        at_once=at_once,
        counted=len(ends) - first,
        seconds=ends[-1] - ends[first - 1],
        with_tracking_s=ended - ends[first - 1],
        driver_cpu_s=watched.cpu_between(ends[first - 1], ended),
        peak_mb=watched.peak_mb,
        load_average=os.getloadavg()[0],
    )


def kill_and_resume(trials: int, trained: int, at_once: int) -> Resumed:
    """Kill a driver with SIGKILL after `trained` trials, copy them until there are `trials`, and resume.

    MLflow is off where trials are copied: it would have to take all copies first.
    """
    with tempfile.TemporaryDirectory(prefix="scale-", ignore_cleanup_errors=True) as text:
        folder, tracking = Path(text), trained >= trials
        settings = [] if tracking else ["tracking.enabled=false"]
        spec = write_spec(folder, 10 * trials, at_once)
        first = _hpo(folder, "run", str(spec), *settings)
        database = folder / "home" / "optuna.db"
        _until(first, database, ENDED, trained)
        first.end(signal.SIGKILL)
        trained = _ask(database, ENDED)
        if not tracking:
            multiply(sqlite_url(database), trials)
        before = _ask(database, "SELECT max(number) FROM trials")
        ended = _ask(database, ENDED)
        start = time.monotonic()
        again = _hpo(folder, "resume", NAME)
        new = _until(again, database, "SELECT max(number) FROM trials", before + 1)
        again.look()
        again.end(signal.SIGTERM)
    return Resumed(ended, trained, tracking, None if new is None else new - start, again.peak_mb)


def _hpo(folder: Path, *words: str) -> Watched:
    return Watched([sys.executable, "-m", "hpo", *words, "--home", str(folder / "home")])


def write_spec(folder: Path, trials: int, at_once: int) -> Path:
    """Write the specification of this tool's study into a folder; returns its file."""
    file = folder / "nothing.yaml"
    file.write_text(SPEC.format(name=NAME, trials=trials, at_once=at_once, cpus=(os.cpu_count() or 1) / at_once))
    return file


def _until(watched: Watched, database: Path, question: str, least: int) -> float | None:
    """When the answer is at least so much; None if the process ends before.

    Raises:
        TimeoutError: neither happens.
    """
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        if database.exists() and (_ask(database, question) or 0) >= least:
            return time.monotonic()
        if not watched.look():
            return None
        time.sleep(POLL_S)
    raise TimeoutError(question)


def _ask(database: Path, question: str) -> Any:
    """The answer of an SQLite database that another process writes; None while it has no tables."""
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(question).fetchone()[0]
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()


def _ends(database: Path) -> list[float]:
    """When trials ended, as Optuna says, in seconds since the epoch."""
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)
    rows = connection.execute("SELECT datetime_complete FROM trials WHERE datetime_complete IS NOT NULL").fetchall()
    connection.close()
    return sorted(datetime.fromisoformat(row[0]).timestamp() for row in rows)
