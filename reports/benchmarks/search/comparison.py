"""Comparison of search policies on learning curves, in virtual time.

    python -m reports.benchmarks.search --model PATH/TO/lcbench --tasks dev --seeds 8

Four workers train on the learning curves of LCBench's surrogate, whose seconds are the clock. The budget is 16 median
full trainings; ASHA has reduction factor 4 and a grace period of 1 epoch. `random`, `tpe` and `gp` are the samplers of
this project with its ASHA; `stock` is Ray's OptunaSearch with Ray's ASHAScheduler, as installed. The command needs
`onnxruntime` besides the dependencies of `hpo`, and matplotlib for `--plot`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from hpo.search.asha import AshaPruner, rung_levels
from hpo.search.samplers import make_sampler
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task
from reports.benchmarks.search.simulation import GRACE, REDUCTION, OwnSearch, Run, Search, StockSearch, simulate
from reports.benchmarks.search.summary import BASELINE, SHARES, STOCK, Summary, summarize

POLICIES = (BASELINE, STOCK, "tpe", "gp")
MANY_TRIALS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    surrogate = Surrogate(options.model)
    names = _task_names(options.tasks, surrogate)
    tasks = [Task(surrogate, name, options.log_weight_decay) for name in names]
    runs = {policy: _run(policy, tasks, options.seeds) for policy in options.policies}
    summaries = summarize(runs)
    many = {policy: suggestion_seconds(policy, tasks[0]) for policy in options.policies if policy != STOCK}
    print(table(summaries, many, names, options.seeds, options.log_weight_decay))
    if options.json:
        options.json.write_text(json.dumps(_record(summaries, runs, many, options), indent=1) + "\n")
    if options.plot:
        plot(summaries, options.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.search", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx and encoding.json")
    parser.add_argument("--tasks", default="dev", help="dev, all, or OpenML task ids separated by commas (dev)")
    parser.add_argument("--seeds", type=int, default=8, help="runs per task and policy (8)")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES, help="policies to compare (all)")
    parser.add_argument("--log-weight-decay", action="store_true", help="search the weight decay on a log scale")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--plot", type=Path, help="write a plot of regret over the budget to this file (png, svg or pdf)"
    )
    return parser


def _task_names(wanted: str, surrogate: Surrogate) -> list[str]:
    all_tasks = surrogate.tasks()
    names = {"dev": list(DEVELOPMENT), "all": all_tasks}.get(wanted, wanted.replace(",", " ").split())
    unknown = [name for name in names if name not in all_tasks]
    if unknown or not names:
        raise SystemExit(f"--tasks: unknown task {', '.join(unknown) or wanted!r}; known tasks: {', '.join(all_tasks)}")
    return names


def _run(policy: str, tasks: Sequence[Task], seeds: int) -> dict[str, list[Run]]:
    before = time.perf_counter()
    runs = {
        task.name: [simulate(task, _search(policy, seed, task.distributions)) for seed in range(seeds)]
        for task in tasks
    }
    print(f"{policy}: {len(tasks) * seeds} runs in {time.perf_counter() - before:.0f} s", file=sys.stderr)
    return runs


def _search(policy: str, seed: int, space: Mapping[str, BaseDistribution]) -> Search:
    if policy == STOCK:
        return StockSearch(seed, space)
    return OwnSearch(make_sampler(policy, seed=seed, horizon=EPOCHS, distributions=space), space)


def suggestion_seconds(policy: str, task: Task) -> float:
    """Return the median processor time of a suggestion in a study of 1,000 trials that ASHA has judged."""
    study = optuna.create_study(
        direction="maximize", sampler=make_sampler(policy, seed=0, horizon=EPOCHS, distributions=task.distributions)
    )
    draw = make_sampler("random", seed=1, horizon=EPOCHS, distributions=task.distributions)
    asha = AshaPruner(rung_levels(GRACE, REDUCTION, EPOCHS), REDUCTION)
    for number in range(MANY_TRIALS):
        blank = create_trial(state=TrialState.RUNNING)
        blank.number = number
        params = draw.sample_relative(study, blank, task.distributions)
        study.add_trial(_asha_trial(params, task, asha, number))
    waits = []
    for _ in range(8):
        before = time.process_time()
        study.ask(task.distributions)
        waits.append(time.process_time() - before)
    return float(np.median(waits[3:]))


def _asha_trial(params: dict[str, Any], task: Task, asha: AshaPruner, number: int) -> optuna.trial.FrozenTrial:
    values: dict[int, float] = {}
    for epoch, value in enumerate(task.curve(params).accuracy.tolist(), start=1):
        values[epoch] = value
        decision = asha.decide(number, epoch, value)
        if decision is not None and not decision.keep:
            break
    state = TrialState.COMPLETE if len(values) == EPOCHS else TrialState.PRUNED
    return create_trial(
        state=state,
        value=values[len(values)],
        params=params,
        distributions=task.distributions,
        intermediate_values=values,
    )


def table(summaries: Sequence[Summary], many: Mapping[str, float], tasks: Sequence[str], seeds: int, log: bool) -> str:
    """Return all results as Markdown."""
    lines = [
        f"{len(tasks)} tasks x {seeds} seeds, weight decay on a {'log' if log else 'linear'} scale. Mean normalised",
        "regret ± standard error over tasks, at shares of the budget; lower is better.",
        "",
        "| policy | 20 % | 50 % | 100 % | final minus random | at stock's final by | trials | suggestion | at 1,000 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for summary in summaries:
        difference = summary.versus_baseline
        reached = "-" if summary.reaches_stock_at is None else f"{summary.reaches_stock_at:.0%}"
        lines.append(
            f"| {summary.policy} | "
            + " | ".join(map(str, summary.regret.values()))
            + f" | {difference.overall if difference else '-'} | {reached} | {summary.trials:.0f}"
            + f" | {1e3 * summary.suggestion_seconds:.1f} ms"
            + (f" | {1e3 * many[summary.policy]:.0f} ms |" if summary.policy in many else " | - |")
        )
    lines += ["", f"| final regret by task | {' | '.join(summary.policy for summary in summaries)} |"]
    lines.append("|---|" + "---|" * len(summaries))
    lines += [f"| {task} | {' | '.join(f'{summary.by_task[task]:.3f}' for summary in summaries)} |" for task in tasks]
    lines.append("")
    for summary in summaries:
        if summary.versus_baseline is not None:
            worse = summary.versus_baseline.worse_tasks()
            tasks_named = ", ".join(worse) or "no task"
            lines.append(f"- {summary.policy}: worse than random by more than two standard errors on {tasks_named}")
    return "\n".join(lines)


def _record(
    summaries: Sequence[Summary],
    runs: Mapping[str, Mapping[str, Sequence[Run]]],
    many: Mapping[str, float],
    options: argparse.Namespace,
) -> dict[str, Any]:
    policies = {}
    for summary in summaries:
        policies[summary.policy] = {
            **asdict(summary),
            "curve": summary.curve.round(5).tolist(),
            "curve_error": summary.curve_error.round(5).tolist(),
            "suggestion_seconds_at_1000_trials": many.get(summary.policy),
            "final_regrets": {
                task: [round(run.regret_at(1.0), 5) for run in of_task]
                for task, of_task in runs[summary.policy].items()
            },
        }
    return {
        "log_weight_decay": options.log_weight_decay,
        "seeds": options.seeds,
        "shares": SHARES.tolist(),
        "policies": policies,
    }


def plot(summaries: Sequence[Summary], path: Path) -> None:
    """Draw the mean regret over the budget, with a band of one standard error over tasks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for summary in summaries:
        (line,) = axes.plot(100 * SHARES, summary.curve, label=summary.policy)
        low, high = summary.curve - summary.curve_error, summary.curve + summary.curve_error
        axes.fill_between(100 * SHARES, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set(xlabel="share of the budget, %", ylabel="mean normalised regret", xlim=(0, 100), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
