"""Samplers that see a bounded number of trials against the same without bounds, in studies with many trials.

    OPENBLAS_NUM_THREADS=1 python -m reports.benchmarks.search.bounds --model PATH/TO/lcbench --seeds 2

Each study begins with `--trials` random configurations. The better half of them at epoch 4 trained on, of these the
better half at epoch 16, and those to the end. Then each sampler suggests `--asked` configurations, one after the other,
which all train to the end. Compared are the mean regret of these, and that of the best of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from optuna.trial import TrialState

from hpo.search.policies import gp, history
from hpo.search.policies.seeded import SeededSampler
from hpo.search.policies.seen import Seen
from hpo.search.samplers import make_sampler
from reports.benchmarks.search.lcbench import DEVELOPMENT, EPOCHS, Surrogate, Task

RUNGS = (4, 16)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.search.bounds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, required=True, help="folder with model.onnx and encoding.json")
    parser.add_argument("--tasks", default=",".join(DEVELOPMENT), help="OpenML task ids (the development tasks)")
    parser.add_argument("--seeds", type=int, default=2, help="studies per task (2)")
    parser.add_argument("--trials", type=int, default=3000, help="trials before the suggestions (3000)")
    parser.add_argument("--asked", type=int, default=20, help="suggestions of each sampler (20)")
    parser.add_argument("--json", type=Path, help="file for all results, written anew after each study")
    options = parser.parse_args(arguments)
    surrogate, results = Surrogate(options.model), []
    for seed in range(options.seeds):
        for name in options.tasks.split(","):
            task = Task(surrogate, name)
            before = beginning(task, options.trials, seed)
            for policy in ("gp", "tpe"):
                regrets = [asked(task, policy, before, options.asked, seed, bounded) for bounded in (False, True)]
                row = {"policy": policy, "task": name, "seed": seed}
                row["mean"] = [round(float(np.mean(values)), 5) for values in regrets]
                row["best"] = [round(float(np.min(values)), 5) for values in regrets]
                results.append(row)
                print(row, flush=True)
            if options.json:
                lines = ",\n  ".join(map(json.dumps, results))
                head = f'"trials": {options.trials}, "asked": {options.asked}, "order": ["without bounds", "bounded"]'
                options.json.write_text(f'{{{head}, "studies": [\n  {lines}\n]}}\n')
    for policy in ("gp", "tpe"):
        for measure in ("mean", "best"):
            pairs = np.array([row[measure] for row in results if row["policy"] == policy])
            gaps = pairs[:, 1] - pairs[:, 0]
            difference = f"{gaps.mean():.4f} ± {gaps.std(ddof=1) / np.sqrt(len(gaps)):.4f}"
            print(f"{policy} {measure}: {pairs.mean(axis=0).round(4)}, bounded minus not {difference}")
    return 0


def beginning(task: Task, count: int, seed: int) -> list[Seen]:
    """Random trials that have ended."""
    sampler = make_sampler("random", seed=seed, horizon=EPOCHS, distributions=task.distributions)
    assert isinstance(sampler, SeededSampler)
    empty = sampler.history()
    params = [sampler.suggest(empty, number).values for number in range(count)]
    curves = [task.curve(values).accuracy for values in params]
    lengths, going = np.full(count, EPOCHS), np.arange(count)
    for rung in RUNGS:
        values = np.array([curves[number][rung - 1] for number in going])
        passed = values >= np.median(values)
        lengths[going[~passed]] = rung
        going = going[passed]
    return [ended(*row) for row in zip(range(count), params, curves, lengths, strict=True)]


def ended(number: int, params: dict[str, object], curve: np.ndarray, length: int) -> Seen:
    """A trial that trained for so many epochs."""
    values = {epoch: float(curve[epoch - 1]) for epoch in range(1, length + 1)}
    rungs = {float(rung): values[rung] for rung in RUNGS if rung in values}
    state = TrialState.COMPLETE if length == EPOCHS else TrialState.PRUNED
    return Seen(number, params, state, values, values[length] if length == EPOCHS else None, rungs)


def asked(task: Task, policy: str, before: Sequence[Seen], count: int, seed: int, bounded: bool) -> list[float]:
    """Regrets of the configurations that a sampler suggests after these trials."""
    options = {"seed": seed, "horizon": EPOCHS, "distributions": task.distributions, "random_share": 0.0}
    sampler = make_sampler(policy, **options)
    assert isinstance(sampler, SeededSampler)
    known, regrets = sampler.history(), []
    with _bounds(bounded):
        known.take_in(before)
        for number in range(len(before), len(before) + count):
            values = sampler.suggest(known, number).values
            curve = task.curve(values).accuracy
            known.take_in([ended(number, values, curve, EPOCHS)])
            regrets.append(task.regret(float(curve[-1])))
    return regrets


@contextmanager
def _bounds(hold: bool) -> Iterator[None]:
    """Without the bounds the samplers are as they were: `gp` then sees complete trials only, once there are 256."""
    if hold:
        yield
        return
    with mock.patch.object(history, "MAX_ENDED", 10**9), mock.patch.object(gp, "MAX_AT_END", gp.MAX_OBSERVATIONS):
        yield


if __name__ == "__main__":
    raise SystemExit(main())
