"""The search of this project and those of other tools on the same learning curves, in virtual time.

    python -m reports.benchmarks.search.peers.environments --folder ENVIRONMENTS
    python -m reports.benchmarks.search.peers --model PATH/TO/lcbench --environments ENVIRONMENTS --json peers.json

Each tool runs in its own environment as a child process. It is set up as its users would, with its own defaults, and
told that a full training has 50 epochs. Each study is written when it ends; the same command continues a file that is
not complete, and makes no study twice. A tool that cannot be run is named with the reason, and tried again with the
next command.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from reports.benchmarks.alone import alone
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task
from reports.benchmarks.search.peers import page, results
from reports.benchmarks.search.peers.child import make
from reports.benchmarks.search.peers.environments import missing
from reports.benchmarks.search.peers.protocol import Parameter, PeerError, Problem
from reports.benchmarks.search.peers.registry import ENTRIES, Entry
from reports.benchmarks.search.peers.remote import Remote
from reports.benchmarks.search.peers.results import Results
from reports.benchmarks.search.virtual_time import WORKERS, Run, drive


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    surrogate = Surrogate(options.model)
    tasks = [Task(surrogate, name) for name in options.tasks.split(",")]
    entries = [entry for entry in ENTRIES if entry.name in options.peers]
    with alone(options.json):
        found = results.read(options.json)
        if options.take_over and not found.studies:
            found = results.taken_over(options.take_over)
        for entry in entries:
            attempt(entry, tasks, range(options.seeds), options.environments, found, options.json)
    print(page.table(found))
    if options.plot:
        page.plot(found, options.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.search.peers", description=(__doc__ or "").splitlines()[0]
    )
    names = [entry.name for entry in ENTRIES]
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder with model.onnx and encoding.json")
    add("--environments", type=Path, help="folder of the environments; without it, only searches that need none run")
    add("--tasks", default=",".join(DEVELOPMENT), help="OpenML task ids (the development tasks)")
    add("--seeds", type=int, default=5, help="studies per task and search (5)")
    add("--peers", nargs="+", choices=names, default=names, metavar="NAME", help=f"searches ({', '.join(names)})")
    add("--json", type=Path, required=True, help="the results; the file is continued if it exists")
    add("--take-over", type=Path, help="search.json, whose studies a new file begins with instead of making them again")
    add("--plot", type=Path, help="write a plot of the differences to this file (png, svg or pdf)")
    return parser


def attempt(
    entry: Entry, tasks: Sequence[Task], seeds: Sequence[int], environments: Path | None, found: Results, path: Path
) -> None:
    """Run the studies of a search that are missing, and write the file after each."""
    found.failed.pop(entry.name, None)
    done = found.done()
    for seed in seeds:
        for task in tasks:
            if (entry.name, task.name, seed) in done:
                continue
            try:
                _study(entry, task, seed, environments, found)
            except PeerError as error:
                found.failed[entry.name] = str(error)
                print(f"{entry.name} on {task.name}, seed {seed}: {error}", file=sys.stderr, flush=True)
                results.write(path, found)
                return
            results.write(path, found)


def _study(entry: Entry, task: Task, seed: int, environments: Path | None, found: Results) -> None:
    before = time.monotonic()
    run, found.versions[entry.name] = _run(entry, task, problem_of(task, seed), environments)
    found.studies.append(results.study(entry.name, task.name, seed, time.monotonic() - before, run))
    made = found.studies[-1]
    regret = made.delivered[-1]
    print(f"{entry.name} on {task.name}, seed {seed}: {regret:.3f}, {made.seconds:.0f} s", file=sys.stderr, flush=True)


def _run(entry: Entry, task: Task, problem: Problem, environments: Path | None) -> tuple[Run, str]:
    if entry.environment is None:
        try:
            return drive(task, make(entry.factory, problem)), f"{entry.package} {version(entry.package)}"
        except ImportError as error:  # of an optional package; a missing distribution is one, too
            raise PeerError(f"{type(error).__name__}: {error}") from error
    if reason := missing(environments, entry.environment):
        raise PeerError(reason)
    assert environments is not None
    with Remote(entry.python(environments), entry.factory, entry.package, problem) as remote:
        return drive(task, remote), f"{entry.package} {remote.version}"


def problem_of(task: Task, seed: int) -> Problem:
    """What a search is told of a task: the space and the number of epochs."""
    parameters = []
    for name, one in task.distributions.items():
        assert isinstance(one, FloatDistribution | IntDistribution)
        parameters.append(Parameter(name, one.low, one.high, one.log, isinstance(one, IntDistribution)))
    return Problem(tuple(parameters), EPOCHS, WORKERS, seed)
