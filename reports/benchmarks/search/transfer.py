"""Gain of a warm start, and cost of a misleading one, on learning curves in virtual time.

    python -m reports.benchmarks.search.transfer --model PATH/TO/lcbench --seeds 4

`gp` searches every development task of LCBench with and without an earlier study. The earlier study is short (6 median
full trainings, as in `reports.benchmarks.search.comparison`) and has another task:

- `related`: the task whose final accuracies of 500 random configurations correlate best with the target's (Spearman),
- `other`: the next task of the list,
- `reversed`: the target with reversed accuracies, the worst possible source.

With `enqueue only`, the search first tries the best configurations of the source, but the sampler does not get its
history.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import spearmanr

from hpo.ledger.transfer import TRANSFER_KEY, Past, Transfer, thinned
from hpo.search.samplers import make_sampler
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Curve, Surrogate, Task
from reports.benchmarks.search.simulation import OwnSearch, simulate
from reports.benchmarks.search.summary import SHOWN, estimate
from reports.benchmarks.search.virtual_time import Run

SOURCE_TRAININGS = 6
"""Budget of an earlier study in median full trainings; the study itself has 16."""
ENQUEUED = 4
COLD = "cold"
KINDS = ("related", "related, enqueue only", "other", "reversed", "reversed, enqueue only")


class Reversed:
    """A task with reversed accuracies: its worst configuration is the best."""

    def __init__(self, task: Task) -> None:
        self.name, self.distributions = f"{task.name} reversed", task.distributions
        self.full_training = task.full_training
        self._task = task

    def curve(self, params: Mapping[str, Any]) -> Curve:
        curve = self._task.curve(params)
        return Curve(curve.seconds, 1 - curve.accuracy)

    def regret(self, accuracy: float) -> float:
        return self._task.regret(1 - accuracy)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    surrogate = Surrogate(options.model)
    tasks = {name: Task(surrogate, name) for name in DEVELOPMENT}
    targets = options.tasks.split(",") if options.tasks else list(DEVELOPMENT)
    likeness = _likeness(list(tasks.values()))
    runs: dict[str, dict[str, list[Run]]] = {kind: {} for kind in (COLD, *KINDS)}
    for name in targets:
        before = time.perf_counter()
        index = list(tasks).index(name)
        related = list(tasks)[int(np.argsort(likeness[index])[-2])]  # the last is itself
        other = list(tasks)[(index + 1) % len(tasks)]
        rho = dict(zip(tasks, likeness[index], strict=True))
        sources = {"related": tasks[related], "other": tasks[other], "reversed": Reversed(tasks[name])}
        for kind in runs:
            runs[kind][name] = [_run(kind, tasks[name], sources, seed) for seed in range(options.seeds)]
        print(
            f"{name}: related {related} ({rho[related]:.2f}), other {other} ({rho[other]:.2f}), "
            + ", ".join(f"{k} {np.mean([r.regret_at(1.0) for r in of[name]]):.3f}" for k, of in runs.items())
            + f", {time.perf_counter() - before:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    print(table(runs))
    if options.json:
        options.json.write_text(json.dumps(record(runs), indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.search.transfer", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx and encoding.json")
    parser.add_argument("--tasks", default="", help="OpenML task ids separated by commas (the development tasks)")
    parser.add_argument("--seeds", type=int, default=4, help="runs per task and kind (4)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser


def _likeness(tasks: Sequence[Task]) -> NDArray[np.float64]:
    """Spearman's correlation between the final accuracies of all pairs of tasks, for 500 random configurations."""
    sampler = make_sampler("random", seed=123, horizon=EPOCHS, distributions=tasks[0].distributions)
    study = optuna.create_study(sampler=sampler)
    drawn = [study.ask(tasks[0].distributions).params for _ in range(500)]
    finals = np.array([[task.curve(params).accuracy[-1] for params in drawn] for task in tasks])
    return np.asarray(spearmanr(finals, axis=1).statistic)


def _run(kind: str, task: Task, sources: Mapping[str, Any], seed: int) -> Run:
    sampler = make_sampler("gp", seed=seed, horizon=EPOCHS, distributions=task.distributions)
    search = OwnSearch(sampler, task.distributions)
    if kind != COLD:
        which, _, only = kind.partition(",")
        warm(search, earlier(sources[which], seed), history=not only)
    return simulate(task, search)


def earlier(task: Any, seed: int) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of a short study of another task."""
    sampler = make_sampler("gp", seed=1000 + seed, horizon=EPOCHS, distributions=task.distributions)
    search = OwnSearch(sampler, task.distributions)
    simulate(task, search, full_trainings=SOURCE_TRAININGS)
    return search.study.get_trials()


def warm(search: OwnSearch, trials: Sequence[optuna.trial.FrozenTrial], *, history: bool) -> None:
    """Enqueue the best complete earlier trials in a search; with `history`, give the sampler their results."""
    complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    for trial in sorted(complete, key=lambda trial: -(trial.value or 0.0))[:ENQUEUED]:
        search.study.enqueue_trial(trial.params)
    past = []
    for trial in trials:
        curve = {epoch: trial.intermediate_values[epoch] for epoch in thinned(sorted(trial.intermediate_values))}
        if curve:
            past.append(Past("earlier", trial.number, trial.params, EPOCHS, curve))
    if history:
        search.study.set_user_attr(TRANSFER_KEY, Transfer(history=tuple(past)).to_json())


def table(runs: Mapping[str, Mapping[str, Sequence[Run]]]) -> str:
    """Return all results as Markdown."""
    tasks = list(runs[COLD])
    lines = [
        f"| start | {' | '.join(f'{share:.0%}' for share in SHOWN)} | at 20 % minus cold | final minus cold |",
        "|---|" + "---|" * (len(SHOWN) + 2),
    ]
    cold = _regrets(runs[COLD])
    for kind, by_task in runs.items():
        regrets = _regrets(by_task)
        means = " | ".join(str(estimate(regrets[:, :, index].mean(axis=1))) for index in range(len(SHOWN)))
        paired = [estimate((regrets - cold)[:, :, index].mean(axis=1)) for index in (0, -1)]
        lines.append(f"| {kind} | {means} | " + (" | ".join(map(str, paired)) if kind != COLD else "- | -") + " |")
    lines += ["", f"| final regret by task | {' | '.join(runs)} |", "|---|" + "---|" * len(runs)]
    for index, task in enumerate(tasks):
        finals = " | ".join(f"{_regrets(by_task)[index, :, -1].mean():.3f}" for by_task in runs.values())
        lines.append(f"| {task} | {finals} |")
    return "\n".join(lines)


def record(runs: Mapping[str, Mapping[str, Sequence[Run]]]) -> dict[str, Any]:
    """Return the regrets of every run at 20, 50 and 100 % of the budget, by start and task."""
    return {
        kind: {task: [[round(run.regret_at(share), 5) for share in SHOWN] for run in some] for task, some in of.items()}
        for kind, of in runs.items()
    }


def _regrets(by_task: Mapping[str, Sequence[Run]]) -> NDArray[np.float64]:
    """As (task, seed, share of the budget)."""
    return np.array([[[run.regret_at(share) for share in SHOWN] for run in runs] for runs in by_task.values()])


if __name__ == "__main__":
    raise SystemExit(main())
