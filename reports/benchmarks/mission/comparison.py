"""Search policies and settings compared on a table of recorded fine-tunings.

    python -m reports.benchmarks.mission reports/benchmarks/mission/curves.json --seeds 40 \\
        --json reports/benchmarks/mission/mission.json

The command writes a page and a plot beside the JSON file. It needs no GPU, no images and no weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from hpo.spec.study import Spec
from reports.benchmarks.mission import page
from reports.benchmarks.mission.page import Runs
from reports.benchmarks.mission.pool import FULL_TRAININGS, PoolSearch, simulate, varied
from reports.benchmarks.mission.table import Row, Table, read
from reports.benchmarks.search.page import plot
from reports.benchmarks.search.summary import BASELINE, REFERENCE
from reports.benchmarks.search.virtual_time import Run

LEAST_ROWS = 24
"""With fewer rows per study a pool has hardly anything to choose from."""


@dataclass(frozen=True)
class Variant:
    """A policy, and what differs from the shipped study."""

    policy: str
    restricted: bool = True
    """Whether the policy compares free rows only; see `PoolSearch`."""
    asha: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)


VARIANTS: dict[str, Variant] = {
    BASELINE: Variant("random"),
    "tpe": Variant("tpe"),
    REFERENCE: Variant("gp"),
    "gp, any point": Variant("gp", restricted=False),
    "gp, reduction factor 2": Variant("gp", asha={"reduction_factor": 2.0}),
    "gp, reduction factor 4": Variant("gp", asha={"reduction_factor": 4.0}),
    "gp, no pruning": Variant("gp", asha={"enabled": False}),
    "gp, rungs in epochs": Variant("gp", asha={"resource": "epochs"}),
    "gp, no controls": Variant("gp", asha={"controls": 0.0}),
    "gp, 4 first trials": Variant("gp", search={"startup_trials": 4}),
    "gp, random share 0": Variant("gp", search={"random_share": 0.0}),
}
"""What is compared, by name: policies first, then settings of the shipped studies."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    table = read(options.table)
    short = [name for name in table.studies if len(table.of(name)) < options.least_rows]
    if short:
        raise SystemExit(
            f"{options.table}: {', '.join(short)} has fewer than {options.least_rows} complete rows; continue the "
            "table with `python -m reports.benchmarks.mission.curves`"
        )
    runs = compare(table, options.variants, options.seeds, options.full_trainings, options.workers)
    text = page.page(table, runs, options.full_trainings)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(page.record(table, runs), indent=1) + "\n", encoding="utf-8")
        options.json.with_suffix(".md").write_text(text, encoding="utf-8")
        plot(page.over_seeds(runs, table.studies), options.json.with_suffix(".png"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.mission", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("table", type=Path, help="the table that `reports.benchmarks.mission.curves` has made")
    add("--seeds", type=int, default=40, help="runs per study and variant (40)")
    add("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME", help="what to compare (all)")
    add("--full-trainings", type=float, default=FULL_TRAININGS, help=f"budget, mean full trainings ({FULL_TRAININGS})")
    add("--workers", type=int, default=1, help="processes of this command (1)")
    add("--least-rows", type=int, default=LEAST_ROWS, help=f"complete rows that each study must have ({LEAST_ROWS})")
    add("--json", type=Path, help="write all figures to this file, and page and plot beside it")
    return parser


def compare(table: Table, names: Sequence[str], seeds: int, full_trainings: float, workers: int = 1) -> Runs:
    """Run every variant on every study with the same seeds."""
    jobs = [
        (VARIANTS[name], table.studies[study], table.of(study), seed, full_trainings)
        for name in names
        for study in table.studies
        for seed in range(seeds)
    ]
    with ProcessPoolExecutor(workers) as pool:
        done = iter(list(pool.map(run, *zip(*jobs, strict=True), chunksize=4)))
    return {name: {study: [next(done) for _ in range(seeds)] for study in table.studies} for name in names}


def run(variant: Variant, spec: Spec, rows: Sequence[Row], seed: int, full_trainings: float) -> Run:
    """One simulated study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    changes = {"search": {"policy": variant.policy, **variant.search}, "asha": dict(variant.asha)}
    search = PoolSearch(varied(spec, seed, changes), rows, restricted=variant.restricted)
    return simulate(rows, search, full_trainings)
