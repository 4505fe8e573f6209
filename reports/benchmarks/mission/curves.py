"""Complete learning curves of the shipped studies for two CPU cores, trained without pruning.

    python -m reports.benchmarks.mission.curves --data FOLDER --weights FILE --out FILE --rows 96

Configurations are scrambled Sobol points, mapped through the study's conditional space. Each row is written when its
training ends. The same command continues a table that is not complete, after a kill too, and makes no row twice.
`--rows` may be larger then; the studies of the file stay as they are. Costs are processor time on one thread, and not
time on the clock, because other work on the machine does not change them much.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from scipy.stats import qmc

from hpo.search.samplers import study_space
from hpo.spec.configure import configure
from hpo.spec.parameters import Choice
from hpo.spec.seeds import derive_seed
from hpo.spec.study import Spec
from hpo.validation.loader import load_spec
from reports.benchmarks.alone import alone
from reports.benchmarks.environment import environment
from reports.benchmarks.mission.table import Row, Table, read, write
from reports.benchmarks.pruning.collect import NoCheckpoints
from trainers import data, finetune
from trainers.api import Context, EpochMetrics, TrainerError, TrialConfig

STUDIES = ("cifar10_cpu", "cifar100_cpu")
SETTINGS = ("model.name=tf_efficientnet_lite0", "data.train_limit=2000", "data.validation_limit=1000")
"""What differs from the shipped studies: a model with small weights, and half of the images, for half of the cost."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    with alone(options.out):
        table = read(options.out) if options.out.exists() else begin(options)
        table = collect(table, options)
    print(f"{len(table.rows)} rows in {options.out}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.mission.curves", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--data", required=True, help="folder of the CIFAR files")
    add("--weights", required=True, help="file with the pretrained weights of the studies' model")
    add("--out", type=Path, required=True, help="the table; it is continued if it exists")
    add("--rows", type=int, default=96, help="rows that the table has at the end (96)")
    add("--workers", type=int, default=2, help="trainings at a time, of one thread each (2)")
    add("--studies", nargs="+", default=STUDIES, help=f"studies or files of a new table ({' '.join(STUDIES)})")
    add("--set", nargs="*", default=SETTINGS, help=f"settings of a new table's studies ({' '.join(SETTINGS)})")
    add("--seed", type=int, default=0, help="seed of a new table (0)")
    add("--cache-dir", default=".cache", help="folder for decoded images (.cache)")
    return parser


def begin(options: argparse.Namespace) -> Table:
    """A table without rows. It names the file of weights, but no place of a file."""
    studies = [with_weights(load_spec(source, options.set), options.weights) for source in options.studies]
    return Table(environment(), options.seed, {spec.study: spec for spec in studies})


def with_weights(spec: Spec, weights: str) -> Spec:
    """The study with the weights of a file, by the file's name."""
    return spec.model_copy(update={"model": dataclasses.replace(spec.model, pretrained=Path(weights).name)})


def collect(table: Table, options: argparse.Namespace) -> Table:
    """Train the rows that are missing, and write the table after each."""
    made = {(row.study, row.number) for row in table.rows}
    missing = [key for key in table.order(options.rows) if key not in made]
    points = {name: draw(spec, options.rows, table.seed) for name, spec in table.studies.items()}
    for spec in table.studies.values():  # decoded once, before the processes start
        data.prepare(_here(spec.base(), options.data, options.weights).data, options.cache_dir)
    write(options.out, table)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=spawn) as pool:
        futures = []
        for study, number in missing:
            values = points[study][number]
            config = _here(configure(table.studies[study].base(), values), options.data, options.weights)
            seed = derive_seed(table.seed, f"{study}/{number}")
            futures.append(pool.submit(train, study, number, seed, values, config, options.cache_dir))
        try:
            for future in as_completed(futures):
                table = dataclasses.replace(table, rows=(*table.rows, future.result()))
                write(options.out, table)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else Ctrl-C waits for all rows
            raise
    return table


def draw(spec: Spec, count: int, seed: int) -> list[dict[str, Choice]]:
    """At least `count` scrambled Sobol points of the study's space. The first ones do not depend on the count."""
    space = study_space(spec)
    sequence = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(seed))
    return space.decode(space.settle(sequence.random_base2(max(count - 1, 1).bit_length())))


def _here(config: TrialConfig, root: str, weights: str) -> TrialConfig:
    """The training with the places of its files on this machine."""
    return configure(config, {"data.root": root, "model.pretrained": weights})


def train(study: str, number: int, seed: int, values: dict[str, Choice], config: TrialConfig, cache_dir: str) -> Row:
    """Train one configuration to its end on one thread."""
    warnings.simplefilter("ignore")  # of the weights: one line per row
    context = Context(seed=seed, checkpoints=NoCheckpoints(), threads=1, cache_dir=cache_dir)
    epochs: list[EpochMetrics] = []
    seconds: list[float] = []
    failure, before = None, time.process_time()
    try:
        for metrics in finetune.train(config, context):
            now = time.process_time()
            epochs.append(metrics)
            seconds.append(round(now - before, 2))
            before = now
    except TrainerError as error:
        failure = f"{type(error).__name__}: {error}"
    row = Row(
        study=study,
        number=number,
        seed=seed,
        values=values,
        val_accuracy=[round(epoch.val_accuracy or 0.0, 5) for epoch in epochs],
        val_loss=[round(epoch.val_loss or 0.0, 5) for epoch in epochs],
        image_size=[epoch.image_size or 0 for epoch in epochs],
        images=[round((epoch.images_per_second or 0.0) * (epoch.train_seconds or 0.0)) for epoch in epochs],
        cpu_seconds=seconds,
        failure=failure,
    )
    result = failure or f"{row.val_accuracy[-1]:.1%}"
    print(f"{study} {number}: {result} after {sum(seconds):.0f} s of processor time", file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    raise SystemExit(main())
