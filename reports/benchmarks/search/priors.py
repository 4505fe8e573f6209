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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import optuna

from hpo.search.policies import prior as shipped
from hpo.search.samplers import make_sampler
from hpo.search.unit_cube import UnitCube
from hpo.spec.parameters import Prior
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task
from reports.benchmarks.search.simulation import FULL_TRAININGS, OwnSearch, simulate
from reports.benchmarks.search.summary import MEASURES, estimate

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
    parser.add_argument("--first-seed", type=int, default=0, help="the first of these seeds (0)")
    parser.add_argument("--beta", type=float, default=shipped.BETA, help=f"how slowly priors fade ({shipped.BETA:g})")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="kinds of priors (all)")
    parser.add_argument("--json", type=Path, help="file for all results, written anew after each")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shipped.BETA = options.beta
    surrogate, results = Surrogate(options.model), []
    tasks = [Task(surrogate, name) for name in options.tasks.split(",")]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for task in tasks:
            results.append(result(task, seed, options.kinds))
            print(results[-1], flush=True)
            if options.json:
                options.json.write_text(document(results, options.beta))
    print(table(results))
    return 0


def result(task: Task, seed: int, kinds: Sequence[str] = KINDS) -> Result:
    """One simulated study with each kind of prior."""
    priors = priors_of(task, seed)
    centers = {
        kind: task.regret(float(task.curve({name: prior.center for name, prior in given.items()}).accuracy[-1]))
        for kind, given in priors.items()
        if kind != NONE and kind in kinds
    }
    regrets = {}
    for kind in kinds:
        space = task.distributions
        sampler = make_sampler("gp", seed=seed, horizon=EPOCHS, distributions=space, priors=priors[kind])
        run = simulate(task, OwnSearch(sampler, space))
        regrets[kind] = {
            measure: [round(getattr(run, measure).regret_at(share), 5) for share in SHARES] for measure in MEASURES
        }
    return Result(task.name, seed, {kind: round(regret, 5) for kind, regret in centers.items()}, regrets)


def priors_of(task: Task, seed: int) -> dict[str, dict[str, Prior]]:
    """The priors of each kind."""
    space, rng = UnitCube(task.distributions), np.random.default_rng((seed, int(task.name)))
    cube = space.settle(rng.random((POOL, len(space))))
    finals = task.finals(space.decode(cube))
    best, worst = cube[[np.argmax(finals)]], cube[[np.argmin(finals)]]
    beside = best + np.where((best + SHIFT > 1) | ((best >= SHIFT) & (rng.random(best.shape) < 0.5)), -SHIFT, SHIFT)

    def around(point: np.ndarray, confidence: str) -> dict[str, Prior]:
        values = space.decode(space.settle(point))[0]
        return {
            name: Prior.model_validate({"center": value, "confidence": confidence}) for name, value in values.items()
        }

    return {NONE: {}, "good": around(best, "high"), "blurred": around(beside, "low"), "wrong": around(worst, "high")}


def document(results: Sequence[Result], beta: float) -> str:
    """All results as JSON, one on a line."""
    head = json.dumps({"beta": beta, "shares": SHARES, "pool": POOL, "shift": SHIFT})
    lines = ",\n  ".join(json.dumps(asdict(one)) for one in results)
    return f'{head[:-1]}, "results": [\n  {lines}\n]}}\n'


def table(results: Sequence[Result]) -> str:
    """The regrets as Markdown, and their paired differences to the search without priors."""
    kinds = list(results[0].regrets)
    tasks = len({one.task for one in results})
    lines = [f"{tasks} tasks, {len(results)} pairs of task and seed; regret ± standard error over tasks."]
    for measure in MEASURES:
        lines += ["", f"| {measure} | " + " | ".join(f"{share * FULL_TRAININGS:.3g}" for share in SHARES) + " |"]
        lines.append("|---|" + "---|" * len(SHARES))
        by_kind = {kind: _by_task(results, kind, measure) for kind in kinds}
        lines += [_row(kind, values) for kind, values in by_kind.items()]
        if NONE in kinds:
            others = {kind: values for kind, values in by_kind.items() if kind != NONE}
            lines += [_row(f"{kind} minus {NONE}", values - by_kind[NONE]) for kind, values in others.items()]
    return "\n".join(lines)


def _by_task(results: Sequence[Result], kind: str, measure: str) -> np.ndarray:
    """Mean regrets over the seeds of each task, (tasks, shares)."""
    tasks = list(dict.fromkeys(one.task for one in results))
    return np.array(
        [np.mean([one.regrets[kind][measure] for one in results if one.task == task], axis=0) for task in tasks]
    )


def _row(name: str, values: np.ndarray) -> str:
    return f"| {name} | {' | '.join(str(estimate(column)) for column in values.T)} |"


if __name__ == "__main__":
    raise SystemExit(main())
