"""Cost of each call that the scheduling thread of a driver makes, in a study of a given size.

    python -m reports.benchmarks.scale.calls '{"url": …, "policy": "gp"}'

measures one study in this process, so that its memory is that of one driver, and prints the figures as JSON.
"""

from __future__ import annotations

import functools
import io
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.storages import RDBStorage
from rich.console import Console
from sqlalchemy import event

from hpo.cli.display.screen import Screen
from hpo.clock import Clock
from hpo.driver.conductor import Assignment, Conductor
from hpo.driver.events import Event
from hpo.driver.listeners import BestFile
from hpo.home import Home
from hpo.ledger.records import TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.sums.study import Sums
from hpo.search.samplers import study_sampler
from hpo.spec.study import Spec
from reports.benchmarks.scale.servers import Proxy, proxy
from reports.benchmarks.scale.studies import NAME, search_spec
from trainers.api import EpochMetrics

R = TypeVar("R")
LIMITS = {"hours": 1e6, "gpu_hours": 1e6}
"""Budgets that are checked and never reached."""
SUGGESTIONS = 5
WIDTH, HEIGHT = 120, 40
"""Of the terminal with the live view."""


@dataclass
class Cost:
    """One kind of call, measured several times. All lists are in order of measurement."""

    cpu_s: list[float] = field(default_factory=list)
    """Processor time of the calling thread, seconds."""
    wall_s: list[float] = field(default_factory=list)
    statements: list[int] = field(default_factory=list)
    """SQL statements of the calling process."""
    commits: list[int] = field(default_factory=list)
    """Transactions that wrote, each of which waits for the disk."""
    round_trips: list[int] = field(default_factory=list)
    """Waits for the server's answer, as its proxy counts them; empty for SQLite."""

    def median(self, figure: str) -> float | None:
        """The median of one of the lists; None if it is empty."""
        values = getattr(self, figure)
        return statistics.median(values) if values else None


class Meter:
    """Measures calls. Counts statements and commits by the events of the storage's SQLAlchemy engine."""

    def __init__(self, storage: RDBStorage, way: Proxy | None = None) -> None:
        self.costs: dict[str, Cost] = {}
        self._way = way
        self._statements = self._commits = 0
        event.listen(storage.engine, "before_cursor_execute", self._executes)
        event.listen(storage.engine, "commit", self._commits_now)

    def __call__(self, name: str, call: Callable[[], R]) -> R:
        """Measure a call under a name."""
        before, cpu, wall = self._counts(), time.thread_time(), time.perf_counter()
        result = call()
        self._add(name, time.thread_time() - cpu, time.perf_counter() - wall, before)
        return result

    def _add(self, name: str, cpu: float, wall: float, before: tuple[int, int, int]) -> None:
        cost = self.costs.setdefault(name, Cost())
        statements, commits, trips = (now - then for now, then in zip(self._counts(), before, strict=True))
        cost.cpu_s.append(cpu)
        cost.wall_s.append(wall)
        cost.statements.append(statements)
        cost.commits.append(commits)
        if self._way is not None:
            cost.round_trips.append(trips)

    def _counts(self) -> tuple[int, int, int]:
        return self._statements, self._commits, self._way.round_trips if self._way else 0

    def _executes(self, connection: Any, cursor: Any, statement: str, *ignored: Any) -> None:
        self._statements += 1
        if re.match(r"\s*(INSERT|UPDATE|DELETE)", statement, re.IGNORECASE):
            connection.info["scale_wrote"] = True

    def _commits_now(self, connection: Any) -> None:
        self._commits += bool(connection.info.pop("scale_wrote", False))


@dataclass(frozen=True)
class Cell:
    """The costs in one study."""

    policy: str
    database: str
    """`sqlite` or `postgresql`."""
    delay_ms: float
    """Added to every round trip."""
    trials: int
    """That have ended."""
    running: int
    costs: dict[str, Cost]
    memory_mb: float
    """Resident memory of the process after all calls but those with limits, without Ray and MLflow."""
    base_memory_mb: float
    """That before the study was opened."""


class Hand:
    """The clock of a driver, which a benchmark can put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.clock = Clock(monotonic=lambda: time.monotonic() + self.ahead)


def measure(
    url: str, policy: str, *, delay_ms: float = 0.0, running: int = 100, rounds: int = 12, pause: float = 0.3
) -> Cell:
    """Open the study at `url`, which waits to be resumed, and measure every kind of call.

    Args:
        delay_ms: added to each round trip to a server while calls are measured.
        rounds: how often each call is measured.
        pause: seconds before each new trial, in which a driver on a cluster would work ahead.
    """
    base, server = memory_mb(), not url.startswith("sqlite")
    with proxy(url) if server else nullcontext() as way, tempfile.TemporaryDirectory(prefix="scale-") as folder:
        storage = open_storage(way.url if way else url)
        home, meter = Home.at(Path(folder)).create(), Meter(storage, way)
        with _delayed(way, delay_ms):
            hand, ledger = _open(meter, storage, search_spec(policy), "Ledger.open")
        ended = sum(trial.outcome is not None and trial.outcome.final for trial in ledger.trials)
        conductor, assigned = _running(ledger, running)
        best = BestFile(ledger.study, conductor.tally, home)
        with _delayed(way, delay_ms):
            for _ in range(rounds):
                time.sleep(pause)
                _round(meter, hand, conductor, assigned, best)
            _painted(meter, conductor, assigned, rounds=min(rounds, 5))
        held = memory_mb()
        _suggestions(meter, storage, search_spec(policy))
        conductor.close()
        if not delay_ms:
            _with_limits(meter, storage, policy, running, rounds)
    kind = "postgresql" if server else "sqlite"
    return Cell(policy, kind, delay_ms, ended, running, meter.costs, held, base)


@contextmanager
def _delayed(way: Proxy | None, delay_ms: float) -> Iterator[None]:
    if way is not None:
        way.set_delay(delay_ms / 1e3)
    try:
        yield
    finally:
        if way is not None:
            way.set_delay(0.0)


def _open(meter: Meter, storage: RDBStorage, spec: Spec, name: str) -> tuple[Hand, Ledger]:
    hand = Hand()
    ledger = meter(name, lambda: Ledger.open(storage, NAME, study_sampler(spec), clock=hand.clock))
    ledger.respecify(spec)
    return hand, ledger


def _running(ledger: Ledger, count: int) -> tuple[Conductor, list[Assignment]]:
    """A conductor of which `count` trials train, each on a GPU."""
    conductor, assigned = Conductor(ledger), []
    for _ in range(count):
        assignment = conductor.next_trial()
        assert assignment is not None, conductor.fatal
        _place(conductor, assignment)
        assigned.append(assignment)
    return conductor, assigned


def _place(conductor: Conductor, assignment: Assignment) -> None:
    conductor.on_placed(assignment.number, "node", "cuda:0", 1000 + assignment.number, "node-id")


def _round(meter: Meter, hand: Hand, conductor: Conductor, assigned: list[Assignment], best: BestFile) -> None:
    """One report that lets its trial continue, one that ends it, and what follows from them."""
    good = _report(conductor, assigned, 0.99)
    assert meter("epoch", good), conductor.fatal
    hand.ahead += 1.1
    meter("tick", conductor.tick)
    untried = next(at for at, one in enumerate(assigned) if not conductor.ledger.trial(one.number).epochs)
    ended = assigned.pop(untried)
    bad = EpochMetrics(epoch=1, val_accuracy=0.0, seconds=20.0)
    assert not meter("epoch that ends the trial", lambda: conductor.on_epoch(ended.number, bad)), "must be pruned"
    meter("best.yaml", lambda: best(Event("finished", conductor.ledger.trial(ended.number))))
    assignment = meter("next_trial", conductor.next_trial)
    assert assignment is not None, conductor.fatal
    meter("on_placed", lambda: _place(conductor, assignment))
    assigned.append(assignment)


def _report(conductor: Conductor, assigned: list[Assignment], value: float) -> Callable[[], bool]:
    """The call that reports the next epoch of the trial that has waited longest."""
    assigned.append(assigned.pop(0))
    number = assigned[-1].number
    epoch = len(conductor.ledger.trial(number).epochs) + 1
    metrics = EpochMetrics(epoch=epoch, val_accuracy=value, seconds=20.0, train_loss=0.1)
    return lambda: conductor.on_epoch(number, metrics)


def _painted(meter: Meter, conductor: Conductor, assigned: list[Assignment], rounds: int) -> None:
    """A picture after a report, as the live view makes it: from sums that it keeps."""
    console, home = Console(file=io.StringIO(), force_terminal=True, width=WIDTH, height=HEIGHT), Home.at()
    study, changed = conductor.ledger.study, dict[int, TrialRecord]()
    sums = Sums(study.spec, study.trials)
    conductor.ledger.watch(lambda trial: changed.update({trial.number: trial}))
    changed.clear()

    def picture() -> None:
        sums.update(*changed.values())
        console.render_lines(Screen(study, home, sums=sums))

    for _ in range(rounds):
        assert _report(conductor, assigned, 0.99)(), conductor.fatal
        meter("live view", picture)
        changed.clear()


def _with_limits(meter: Meter, storage: RDBStorage, policy: str, running: int, rounds: int) -> None:
    """Reports of a study whose budget limits hours and GPU-hours, after another resume."""
    hand, ledger = _open(meter, storage, search_spec(policy, budget=LIMITS), "Ledger.open")
    conductor, assigned = _running(ledger, running)
    for _ in range(rounds):
        assert meter("epoch, hours and gpu_hours", _report(conductor, assigned, 0.99)), conductor.fatal
        hand.ahead += 1.1
        meter("tick, hours and gpu_hours", conductor.tick)
    conductor.close()


def _suggestions(meter: Meter, storage: RDBStorage, spec: Spec) -> None:
    """Suggestions of a sampler of their own; the first one, which may fill caches, is kept apart.

    Called while no trial waits: Optuna would hand that one out, and suggest nothing.
    """
    sampler = study_sampler(spec)
    study = optuna.load_study(study_name=NAME, storage=storage, sampler=sampler)
    for name in ("first suggestion alone", *["suggestion alone"] * SUGGESTIONS):
        trial = storage.get_trial(study.ask()._trial_id)
        assert not trial.params, "a trial that waited"
        space = sampler.infer_relative_search_space(study, trial)
        values = meter(name, functools.partial(sampler.sample_relative, study, trial, space))
        assert values.keys() <= spec.space.keys()


def memory_mb() -> float:
    """Resident memory of this process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


if __name__ == "__main__":
    print(json.dumps(asdict(measure(**json.loads(sys.argv[1])))))
