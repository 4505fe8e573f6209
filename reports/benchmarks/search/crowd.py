"""Suggestions made ahead against suggestions made when a worker is free, with many workers, in virtual time.

    python -m reports.benchmarks.search.crowd --model PATH/TO/lcbench --workers 64 --seeds 5

Both searches get the same tasks, seeds and budget, and suggestions take no virtual time: the difference is what the
results are worth that a suggestion made ahead does not know. See `hpo.search.ahead`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna

from hpo.search.policies.seeded import SeededSampler
from hpo.search.samplers import make_sampler
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task
from reports.benchmarks.search.simulation import AheadSearch, OwnSearch, Run, simulate

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
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    surrogate, pairs = Surrogate(options.model), []
    for name in options.tasks.split(","):
        task = Task(surrogate, name)
        of_task = []
        for seed in range(options.seeds):
            runs = [run(task, options.policy, seed, ahead, options) for ahead in (False, True)]
            of_task.append([[one.regret_at(share) for share in SHARES] for one in runs])
            print(f"{name} seed {seed}: {runs[0].trials} and {runs[1].trials} trials, {of_task[-1]}", flush=True)
        pairs.append(np.mean(of_task, axis=0))
    print(table(np.array(pairs), options))
    return 0


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


def table(regrets: np.ndarray, options: argparse.Namespace) -> str:
    """Return the results as Markdown.

    Args:
        regrets: mean over seeds by task, search (not ahead, ahead) and share of the budget.
    """
    lines = [
        f"{options.policy}, {len(regrets)} tasks x {options.seeds} seeds, {options.workers} workers, "
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
