"""Time of a suggestion in a study of a shipped, conditional search space that already has many trials.

    python -m reports.benchmarks.search.latency --spec cifar10 --trials 1000

The trials have made-up values and went through the conductor, ASHA and a ledger in memory; a few of them are still
running. The command measures the processor time of the sampler. Set OPENBLAS_NUM_THREADS=1 for the time on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from hpo.driver.conductor import Assignment, Conductor
from hpo.ledger.writer import Ledger
from hpo.search.distributions import suggest
from hpo.search.samplers import study_sampler
from hpo.spec.study import Spec
from hpo.validation.loader import load_spec
from trainers import schedule
from trainers.api import EpochMetrics

RUNNING = 3
ASKED = 5
POLICIES = ("random", "tpe", "gp")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.search.latency", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--spec", default="cifar10", help="name of a shipped study, or a file (cifar10)")
    parser.add_argument("--trials", type=int, default=1000, help="trials of the study (1000)")
    options = parser.parse_args(arguments)
    spec = load_spec(options.spec)
    conditional = sum(bool(parameter.when) for parameter in spec.space.values())
    print(f"{spec.study}: {len(spec.space)} parameters, {conditional} of them conditional; {options.trials} trials\n")
    print("| policy | median | greatest |\n|---|---|---|")
    storage = filled(spec, options.trials)
    for policy in POLICIES:
        seconds = suggestion_seconds(storage, with_policy(spec, policy))
        print(f"| {policy} | {1e3 * np.median(seconds):.0f} ms | {1e3 * max(seconds):.0f} ms |")
    return 0


def with_policy(spec: Spec, policy: str) -> Spec:
    """Return the same study with another policy and without random suggestions."""
    search = {**spec.search.model_dump(), "policy": policy, "random_share": 0.0}
    return Spec.model_validate({**spec.model_dump(), "search": search})


def filled(spec: Spec, trials: int) -> BaseStorage:
    """Return a ledger with `trials` random trials, of which the last few are running after one epoch."""
    drawn = Spec.model_validate({**with_policy(spec, "random").model_dump(), "budget": {"trials": trials}})
    storage = InMemoryStorage()
    conductor = Conductor(Ledger.create(storage, drawn, {}, study_sampler(drawn)))
    for number in range(trials):
        assignment = conductor.next_trial()
        assert assignment is not None
        train(conductor, assignment, 1 if number >= trials - RUNNING else spec.train.epochs)
    return storage


def train(conductor: Conductor, assignment: Assignment, epochs: int) -> None:
    """Report up to `epochs` epochs of a curve whose height depends on the seed."""
    settings = assignment.config.train
    plan = schedule.stages(settings.progressive, settings.epochs)
    height = np.random.default_rng(assignment.seed).random()
    for epoch in range(1, epochs + 1):
        used = schedule.compute(plan, epoch, settings.compute_size)
        metrics = EpochMetrics(epoch=epoch, val_accuracy=height * epoch / (epoch + 2), compute=used)
        if not conductor.on_epoch(assignment.number, metrics):
            return


def suggestion_seconds(storage: BaseStorage, spec: Spec) -> list[float]:
    """Return the processor times of a few suggestions, without the first. Their trials stay running."""
    study = optuna.load_study(study_name=spec.study, storage=storage, sampler=study_sampler(spec))
    seconds = []
    for _ in range(ASKED + 1):
        before = time.process_time()
        trial = study.ask()
        suggest(trial, spec.space)
        seconds.append(time.process_time() - before)
    return seconds[1:]


if __name__ == "__main__":
    raise SystemExit(main())
