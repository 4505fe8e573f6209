"""What a study of many trials costs its driver, at the time of each call and as a whole.

    python -m reports.benchmarks.scale --json reports/benchmarks/scale/scale.json --column after

`--parts` chooses from four parts. What is done is written to the JSON file at once, so the command may be repeated for
the rest; figures of the same study are replaced.

- `calls`: the cost of each call of the scheduling thread, in studies of several sizes, on SQLite and PostgreSQL.
- `simulation`: 100 GPUs in virtual time, through the real conductor, ledger and sampler.
- `real`: trials that do nothing on this machine's Ray, and the same with the three libraries connected by hand.
- `resume`: such a study killed and resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hpo.sqlite_urls import sqlite_url
from reports.benchmarks.environment import environment
from reports.benchmarks.scale import page, real, simulation, studies
from reports.benchmarks.scale.servers import new_database, postgresql

PACKAGES = ("optuna", "sqlalchemy", "psycopg", "ray", "mlflow", "numpy", "scipy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the figures and the page; or write the page again from its JSON file."""
    options = _parser().parse_args(arguments)
    # More threads than one on small matrices measure each other's waiting.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    record: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    for part in () if options.page_only else options.parts:
        column = record.setdefault(options.column, {})
        for key, figures in PARTS[part](options):
            column.setdefault("environments", {})[part] = _environment()
            column.setdefault(part, {})[key] = figures
            options.json.write_text(compact(record), encoding="utf-8")
            print(f"{part}: {key}", file=sys.stderr, flush=True)
    options.json.with_suffix(".md").write_text(page.page(record), encoding="utf-8")
    page.plot(record, options.json.with_suffix(".png"))
    print(page.page(record))
    return 0


def compact(record: dict[str, Any]) -> str:
    """The record as JSON: one line for each list of numbers, five digits for each number."""
    rounded = json.loads(json.dumps(record), parse_float=lambda text: float(f"{float(text):.5g}"))
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(rounded, indent=1)) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.scale", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--json", type=Path, required=True, help="write the figures here, and the page and the plot beside it")
    add("--column", default="after", help="name of the state of the code that is measured (after)")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (all)")
    add("--page-only", action="store_true", help="write the page from the existing JSON file")
    add("--trials", type=int, nargs="+", default=[100, 1000, 10000], help="calls: ended trials (100 1000 10000)")
    add("--policies", nargs="+", default=["gp", "tpe"], help="calls: search policies (gp tpe)")
    add(
        "--databases",
        nargs="+",
        choices=("sqlite", "postgresql", "postgresql+5ms"),
        default=["sqlite", "postgresql", "postgresql+5ms"],
        help="calls: where the ledger is (all)",
    )
    add("--running", type=int, default=100, help="calls and simulation: trials that run at once (100)")
    add("--rounds", type=int, default=12, help="calls: measurements of each call (12)")
    add("--pause", type=float, default=0.3, help="calls: seconds before each new trial (0.3)")
    add("--simulated", type=int, default=10000, help="simulation: trials (10000)")
    add("--simulated-from", type=int, default=0, help="simulation: trials that have ended before it begins (0)")
    add("--real-trials", type=int, default=2000, help="real: trials of this tool (2000)")
    add("--stock-trials", type=int, default=2000, help="real: trials of the stock stack (2000)")
    add("--real-rounds", type=int, default=1, help="real: studies of each, in turn (1)")
    add("--at-once", type=int, default=16, help="real and resume: trials that run at once (16)")
    add("--killed-at", type=int, default=5000, help="resume: ended trials at the kill (5000)")
    add("--killed-after", type=int, default=0, help="resume: of those, how many are trained; others are copies (all)")
    return parser


def _environment() -> dict[str, Any]:
    """The machine, the versions and the commit."""
    versions = {package: version(package) for package in PACKAGES}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return environment() | {"versions": versions, "commit": commit}


def _calls(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """One process for each cell, so that its memory is that of one driver."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, ExitStack() as stack:
        server = ""
        if set(options.databases) - {"sqlite"}:
            server = stack.enter_context(postgresql())
        template = Path(folder) / "template.db"
        studies.create(sqlite_url(template), options.running, min(studies.TEMPLATES, *options.trials))
        for trials in options.trials:
            grown = Path(folder) / f"{trials}.db"
            shutil.copy(template, grown)
            studies.multiply(sqlite_url(grown), trials)
            for database in options.databases:
                for policy in options.policies:
                    key = f"{database} {policy} {trials}"
                    yield key, _cell(options, grown, server, database, policy, key.replace(" ", "-"))


def _cell(
    options: argparse.Namespace, grown: Path, server: str, database: str, policy: str, name: str
) -> dict[str, Any]:
    copy = grown.with_name(f"{name}.db")
    shutil.copy(grown, copy)
    url = sqlite_url(copy)
    if database != "sqlite":
        url = new_database(server, name)
        studies.transfer(sqlite_url(copy), url)
    asked = {
        "url": url,
        "policy": policy,
        "delay_ms": 5.0 if database.endswith("+5ms") else 0.0,
        "running": options.running,
        "rounds": options.rounds,
        "pause": options.pause,
    }
    command = [sys.executable, "-m", "reports.benchmarks.scale.calls", json.dumps(asked)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _simulation(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        database = Path(folder) / "simulated.db"
        studies.create(sqlite_url(database), 1, min(studies.TEMPLATES, max(8, options.simulated_from)))
        studies.multiply(sqlite_url(database), options.simulated_from)
        for policy in options.policies[:1]:
            copy = database.with_name(f"{policy}.db")
            shutil.copy(database, copy)
            run = simulation.simulate(sqlite_url(copy), policy, trials=options.simulated, gpus=options.running)
            yield f"{policy} to {options.simulated}", asdict(run)


def _real(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Both stacks in turn, so that a busy hour of the machine meets both."""
    for round_ in range(options.real_rounds):
        order = (("hpo", options.real_trials), ("stock", options.stock_trials))
        for stack, trials in order if round_ % 2 == 0 else reversed(order):
            yield f"{stack} {round_ + 1}", asdict(real.run(stack, trials, options.at_once))


def _resume(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    trained = options.killed_after or options.killed_at
    yield f"killed at {options.killed_at}", asdict(real.kill_and_resume(options.killed_at, trained, options.at_once))


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[tuple[str, Any]]]] = {
    "calls": _calls,
    "simulation": _simulation,
    "real": _real,
    "resume": _resume,
}
"""Each yields its figures by the name of the study."""
