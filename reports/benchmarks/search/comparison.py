"""Comparison of search policies on learning curves, in virtual time.

    python -m reports.benchmarks.search --model PATH/TO/lcbench --tasks dev --seeds 8

Four workers train on the learning curves of LCBench's surrogate, whose seconds are the clock. The budget is 16 median
full trainings; ASHA has reduction factor 4 and a grace period of 1 epoch. `random`, `tpe` and `gp` are the samplers of
this project with its ASHA. `gp-landing` is `gp` whose free workers may also finish trials that ASHA stopped.
`gp-freeze-thaw` is `gp` without ASHA: after some epochs a trial may have to pause for one that promises more per
second. `stock` is Ray's OptunaSearch with Ray's ASHAScheduler, as installed. The command needs `onnxruntime` besides
what `hpo` depends on, and matplotlib for `--plot`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from hpo.search.asha import AshaPruner, rung_levels
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.policies.seeded import SamplerOptions
from hpo.search.samplers import make_sampler
from reports.benchmarks.search.freeze_thaw.search import STARTUP_TRIALS, FreezeThawSearch
from reports.benchmarks.search.landing.search import LandingSearch
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task
from reports.benchmarks.search.page import plot, record, table
from reports.benchmarks.search.simulation import GRACE, REDUCTION, OwnSearch, Search, StockSearch, simulate
from reports.benchmarks.search.summary import BASELINE, STOCK, summarize
from reports.benchmarks.search.virtual_time import Run

POLICIES = (BASELINE, STOCK, "tpe", "gp")
LANDING, FREEZE_THAW = "gp-landing", "gp-freeze-thaw"
SIMULATED_ONLY = (STOCK, LANDING, FREEZE_THAW)
"""Their suggestions cannot be timed in a study of many trials that ASHA has judged."""
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
    many = {policy: suggestion_seconds(policy, tasks[0]) for policy in options.policies if policy not in SIMULATED_ONLY}
    print(table(summaries, many, names, seeds=options.seeds, log=options.log_weight_decay))
    if options.json:
        options.json.write_text(
            json.dumps(record(summaries, runs, many, seeds=options.seeds, log=options.log_weight_decay), indent=1)
            + "\n"
        )
    if options.plot:
        plot(summaries, options.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.search", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx and encoding.json")
    parser.add_argument("--tasks", default="dev", help="dev, all, or OpenML task ids separated by commas (dev)")
    parser.add_argument("--seeds", type=int, default=8, help="runs per task and policy (8)")
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=(*POLICIES, LANDING, FREEZE_THAW),
        default=POLICIES,
        help=f"({' '.join(POLICIES)})",
    )
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
    options = SamplerOptions(seed=seed, horizon=EPOCHS, distributions=space)
    if policy == LANDING:
        return LandingSearch(CurveGPSampler(options))
    if policy == FREEZE_THAW:
        return FreezeThawSearch(CurveGPSampler(dataclasses.replace(options, startup_trials=STARTUP_TRIALS)))
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
