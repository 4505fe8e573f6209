"""Suggestions made ahead against suggestions made when a worker is free, with many workers, in virtual time.

    OPENBLAS_NUM_THREADS=1 python -m reports.benchmarks.search.crowd --model PATH/TO/lcbench --workers 64 --seeds 5

Both searches get the same tasks, seeds and budget, and suggestions take no virtual time: the difference is what the
results are worth that a suggestion made ahead does not know. Which results those are does not depend on how long a
suggestion takes: see `hpo.search.ahead`. The runs of all tasks with one seed come before those with the next, so that a
comparison that is broken off has all tasks.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna

from hpo.search.policies.seeded import SeededSampler
from hpo.search.samplers import make_sampler
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task
from reports.benchmarks.search.simulation import AheadSearch, OwnSearch, simulate
from reports.benchmarks.search.virtual_time import Run

SHARES = (0.2, 0.5, 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.search.crowd", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx and encoding.json")
    parser.add_argument("--tasks", default=",".join(DEVELOPMENT), help="OpenML task ids (the development tasks)")
    parser.add_argument("--seeds", type=int, default=5, help="runs per task (5)")
    parser.add_argument("--workers", type=int, default=64, help="workers (64)")
    parser.add_argument("--full-trainings", type=float, default=128, help="budget, in median full trainings (128)")
    parser.add_argument("--policy", choices=("gp", "tpe"), default="gp", help="policy (gp)")
    parser.add_argument("--json", type=Path, help="file for all pairs, written anew after each")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    surrogate, pairs = Surrogate(options.model), []
    tasks = [Task(surrogate, name) for name in options.tasks.split(",")]
    for seed in range(options.seeds):
        for task in tasks:
            before = time.process_time()
            runs = [run(task, options.policy, seed, ahead, options) for ahead in (False, True)]
            seconds = round(time.process_time() - before, 1)
            regrets = [[round(one.regret_at(share), 6) for share in SHARES] for one in runs]
            pairs.append(Pair(task.name, seed, [one.trials for one in runs], regrets, seconds))
            print(pairs[-1], flush=True)
            if options.json:
                options.json.write_text(document(pairs, options))
    print(table(pairs, options))
    return 0


@dataclass(frozen=True)
class Pair:
    """Two runs of one task and seed: suggestions made when a worker is free, and ahead."""

    task: str
    seed: int
    trials: list[int]
    regrets: list[list[float]]
    """At the shares of the budget, of both."""
    seconds: float
    """Processor time of both."""


def run(task: Task, policy: str, seed: int, ahead: bool, options: argparse.Namespace) -> Run:
    """One simulated study."""
    sampler = make_sampler(policy, seed=seed, horizon=EPOCHS, distributions=task.distributions)
    assert isinstance(sampler, SeededSampler)
    search = AheadSearch(sampler) if ahead else OwnSearch(sampler, task.distributions)
    try:
        return simulate(task, search, options.full_trainings, options.workers)
    finally:
        if isinstance(search, AheadSearch):
            search.close()


def document(pairs: Sequence[Pair], options: argparse.Namespace) -> str:
    """All pairs as JSON, one on a line."""
    about = {"policy": options.policy, "workers": options.workers, "full_trainings": options.full_trainings}
    head = json.dumps(about | {"shares": SHARES})
    lines = ",\n  ".join(json.dumps(asdict(pair)) for pair in pairs)
    return f'{head[:-1]}, "pairs": [\n  {lines}\n]}}\n'


def table(pairs: Sequence[Pair], options: argparse.Namespace) -> str:
    """The results as Markdown. Errors are standard errors over tasks, of means over the seeds of each task."""
    tasks = sorted({pair.task for pair in pairs}, key=int)
    regrets = np.array([np.mean([pair.regrets for pair in pairs if pair.task == task], axis=0) for task in tasks])
    lines = [
        f"{options.policy}, {len(tasks)} tasks, {len(pairs)} pairs of runs, {options.workers} workers, "
        f"{options.full_trainings:g} full trainings; regret ± standard error over tasks:",
        "",
        "| suggestions | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |",
        "|---|" + "---|" * len(SHARES),
    ]
    rows = {"when a worker is free": regrets[:, 0], "ahead": regrets[:, 1], "difference": regrets[:, 1] - regrets[:, 0]}
    for name, values in rows.items():
        errors = values.std(axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full(len(SHARES), np.nan)
        cells = (f"{mean:.3f} ± {error:.3f}" for mean, error in zip(values.mean(axis=0), errors, strict=True))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
