"""The results of the comparison with other tools, as a file that grows by one study at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpo.files import write_atomically
from reports.benchmarks.search.peers.registry import ENTRIES
from reports.benchmarks.search.summary import SHOWN
from reports.benchmarks.search.virtual_time import Run


@dataclass(frozen=True)
class Study:
    """One study of one search."""

    peer: str
    task: str
    seed: int
    known: list[float]
    """Regrets at the shares `SHOWN` of the budget: see `Run`."""
    delivered: list[float]
    trials: int | None = None
    """None if it was taken over."""
    seconds: float | None = None
    """On the clock, under whatever other work the machine had."""


@dataclass
class Results:
    """All studies, and what could not be run."""

    versions: dict[str, str] = field(default_factory=dict)
    """By search: its package and version."""
    failed: dict[str, str] = field(default_factory=dict)
    """By search: why the last attempt ended early."""
    studies: list[Study] = field(default_factory=list)

    def done(self) -> set[tuple[str, str, int]]:
        """Return (search, task, seed) of every study."""
        return {(study.peer, study.task, study.seed) for study in self.studies}

    def of(self, peer: str) -> dict[tuple[str, int], Study]:
        """Return the studies of a search by task and seed."""
        return {(study.task, study.seed): study for study in self.studies if study.peer == peer}


def study(peer: str, task: str, seed: int, seconds: float, run: Run) -> Study:
    """The study as it is kept."""
    known, delivered = ([round(one.regret_at(share), 5) for share in SHOWN] for one in (run.known, run.delivered))
    return Study(peer, task, seed, known, delivered, run.trials, round(seconds, 1))


def taken_over(path: Path) -> Results:
    """The studies of a file of `reports.benchmarks.search`, on the linear scale: this benchmark would make the same.

    Raises:
        SystemExit: The file has the other scale, or other shares of the budget.
    """
    document: dict[str, Any] = json.loads(path.read_text())
    if document["log_weight_decay"] or tuple(document["shown_shares"]) != SHOWN:
        raise SystemExit(f"{path}: not of the linear scale at the shares {SHOWN}")
    found = Results()
    for entry in (entry for entry in ENTRIES if entry.name in document["policies"]):
        known, delivered = (document["policies"][entry.name][measure]["runs"] for measure in ("known", "delivered"))
        found.versions[entry.name] = f"{entry.package}, {path.name}"
        for task in known:
            pairs = zip(known[task], delivered[task], strict=True)
            found.studies += [Study(entry.name, task, seed, *pair) for seed, pair in enumerate(pairs)]
    return found


def read(path: Path) -> Results:
    """The results of a file; none if there is no file."""
    if not path.exists():
        return Results()
    document: dict[str, Any] = json.loads(path.read_text())
    return Results(document["versions"], document["failed"], [Study(**one) for one in document["studies"]])


def write(path: Path, results: Results) -> None:
    """Replace the file, one study on a line."""
    lines: Iterable[str] = (json.dumps(asdict(one)) for one in results.studies)
    head = json.dumps({"versions": results.versions, "failed": results.failed})
    write_atomically(path, f'{head[:-1]}, "studies": [\n ' + ",\n ".join(lines) + "\n]}\n")
