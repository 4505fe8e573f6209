"""What a prior gains, and what a wrong one costs, on learning curves in virtual time.

    python -m reports.benchmarks.search.priors --model PATH/TO/lcbench --seeds 5 --json priors.json

`gp` searches every development task of LCBench without priors and with those of three people. Each knows 1,000 random
configurations with their final accuracies; these are drawn anew for each seed.

- `good`: each parameter has a prior of high confidence around its value in the best of them;
- `blurred`: of low confidence, and the centres lie a fifth of each range beside those of `good`;
- `wrong`: of high confidence around the worst of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import optuna

from hpo.search.policies import prior
from hpo.search.samplers import make_sampler
from hpo.search.unit_cube import UnitCube
from hpo.spec.parameters import Prior
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task
from reports.benchmarks.search.simulation import OwnSearch, simulate
from reports.benchmarks.search.summary import MEASURES, Array, estimate
from reports.benchmarks.search.virtual_time import FULL_TRAININGS, Run

NONE = "none"
KINDS = (NONE, "good", "blurred", "wrong")
POOL = 1_000
"""Random configurations that the person behind a prior knows."""
SHIFT = 0.2
"""By how much the centres of `blurred` are wrong, as a share of the range."""
SHARES = (0.2, 5 / FULL_TRAININGS, 0.5, 10 / FULL_TRAININGS, 1.0)
"""Shares of the budget: a fifth, 5 full trainings' worth, a half, 10 full trainings' worth, all of it."""


@dataclass(frozen=True)
class Result:
    """The runs of one task and seed."""

    task: str
    seed: int
    beta: float
    """How slowly the priors faded: see `hpo.search.policies.prior`."""
    centers: dict[str, float]
    """The regret of the configuration at the centre of each kind of prior."""
    regrets: dict[str, dict[str, list[float]]]
    """By kind of prior and by measure, at `SHARES`."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.search.priors", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx and encoding.json")
    parser.add_argument("--tasks", default=",".join(DEVELOPMENT), help="OpenML task ids (the development tasks)")
    parser.add_argument("--seeds", type=int, default=5, help="runs per task and kind of prior (5)")
    parser.add_argument(
        "--beta", type=float, nargs="+", default=[prior.BETA], help="how slowly priors fade (as shipped)"
    )
    parser.add_argument("--json", type=Path, help="file for all results, written anew after each")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    surrogate, results = Surrogate(options.model), list[Result]()
    tasks = [Task(surrogate, name) for name in options.tasks.split(",")]
    for seed in range(options.seeds):
        for task in tasks:
            for beta in options.beta:
                results.append(result(task, seed, beta))
                print(results[-1], flush=True)
                if options.json:
                    options.json.write_text(document(results))
    print(table(results))
    return 0


def result(task: Task, seed: int, beta: float, kinds: Sequence[str] = KINDS) -> Result:
    """One simulated study with each kind of prior."""
    priors = {kind: given for kind, given in priors_of(task, seed).items() if kind in kinds}
    centers = {
        kind: task.regret(float(task.curve({name: one.center for name, one in given.items()}).accuracy[-1]))
        for kind, given in priors.items()
        if given
    }
    with mock.patch.object(prior, "BETA", beta):
        runs = {kind: _run(task, seed, given) for kind, given in priors.items()}
    regrets: dict[str, dict[str, list[float]]] = {
        kind: {measure: [round(getattr(run, measure).regret_at(share), 5) for share in SHARES] for measure in MEASURES}
        for kind, run in runs.items()
    }
    return Result(task.name, seed, beta, {kind: round(regret, 5) for kind, regret in centers.items()}, regrets)


def _run(task: Task, seed: int, priors: Mapping[str, Prior]) -> Run:
    space = task.distributions
    return simulate(
        task, OwnSearch(make_sampler("gp", seed=seed, horizon=EPOCHS, distributions=space, priors=priors), space)
    )


def priors_of(task: Task, seed: int) -> dict[str, dict[str, Prior]]:
    """The priors of each kind."""
    space, rng = UnitCube(task.distributions), np.random.default_rng((seed, int(task.name)))
    cube = space.settle(rng.random((POOL, len(space))))
    finals = task.finals(space.decode(cube))
    best, worst = cube[[np.argmax(finals)]], cube[[np.argmin(finals)]]
    beside = best + np.where((best + SHIFT > 1) | ((best >= SHIFT) & (rng.random(best.shape) < 0.5)), -SHIFT, SHIFT)

    def around(point: Array, confidence: str) -> dict[str, Prior]:
        values = space.decode(space.settle(point))[0]
        return {
            name: Prior.model_validate({"center": value, "confidence": confidence}) for name, value in values.items()
        }

    return {NONE: {}, "good": around(best, "high"), "blurred": around(beside, "low"), "wrong": around(worst, "high")}


def document(results: Sequence[Result]) -> str:
    """All results as JSON, one on a line."""
    head = json.dumps({"shares": SHARES, "pool": POOL, "shift": SHIFT})
    lines = ",\n  ".join(json.dumps(asdict(one)) for one in results)
    return f'{head[:-1]}, "results": [\n  {lines}\n]}}\n'


def table(results: Sequence[Result]) -> str:
    """The regrets as Markdown, and their paired differences to the search without priors."""
    tasks, pairs = {one.task for one in results}, {(one.task, one.seed) for one in results}
    lines = [f"{len(tasks)} tasks, {len(pairs)} pairs of task and seed; regret ± standard error over tasks."]
    for measure in MEASURES:
        lines += ["", f"| {measure} | " + " | ".join(f"{share * FULL_TRAININGS:.3g}" for share in SHARES) + " |"]
        lines.append("|---|" + "---|" * len(SHARES))
        for beta in dict.fromkeys(one.beta for one in results):
            lines += _rows([one for one in results if one.beta == beta], measure)
    return "\n".join(lines)


def _rows(results: Sequence[Result], measure: str) -> list[str]:
    """Of one beta: the regrets, then the differences."""
    beta, by_kind = results[0].beta, {kind: _by_task(results, kind, measure) for kind in results[0].regrets}
    without = by_kind.pop(NONE)
    return [
        _row(NONE, without),
        *(_row(f"{kind}, beta {beta:g}", values) for kind, values in by_kind.items()),
        *(_row(f"{kind}, beta {beta:g}, minus {NONE}", values - without) for kind, values in by_kind.items()),
    ]


def _by_task(results: Sequence[Result], kind: str, measure: str) -> Array:
    """Mean regrets over the seeds of each task, (tasks, shares)."""
    tasks = list(dict.fromkeys(one.task for one in results))
    return np.array(
        [np.mean([one.regrets[kind][measure] for one in results if one.task == task], axis=0) for task in tasks]
    )


def _row(name: str, values: Array) -> str:
    return f"| {name} | {' | '.join(str(estimate(column)) for column in values.T)} |"


if __name__ == "__main__":
    raise SystemExit(main())
