"""`hpo run --dry-run`: the plan of a study and its cost, before anything is spent or written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hpo.cli.display.dry_run.cost import estimate
from hpo.driver.ray_backend.slots import survey
from hpo.driver.warm_start import gather
from hpo.home import Home
from hpo.ledger.records import TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.transfer import NOTHING, Transfer
from hpo.ledger.writer import Ledger
from hpo.redact import redact
from hpo.results.summary import configuration
from hpo.search.forecast import AshaPlan, RungPlan, advice, plan
from hpo.search.rungs import rung_resource
from hpo.search.samplers import draw, study_sampler
from hpo.spec.paths import with_absolute_paths
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.sqlite_urls import sqlite_url
from hpo.text import short_names
from hpo.validation.machine_checks import weights_warnings

SAMPLES = 5
"""Configurations that the sampler shows, besides the enqueued ones."""


def rehearse(spec: Spec, home: Home) -> Iterator[RenderableType]:
    """The parts of the report, each as soon as it is known; text that must not be wrapped is a `str`.

    All files go to a temporary folder.

    Raises:
        UsageError: no machine has what a trial asks for.
        TrainerError: the data is missing, or a training step does not fit in memory.
    """
    spec = with_absolute_paths(spec)
    yield _title("Resolved specification")
    yield redact(spec.to_yaml()).rstrip()
    with tempfile.TemporaryDirectory(prefix="hpo-dry-run-") as scratch:
        transfer = gather(spec, home)
        trials = sample(spec, scratch, transfer)
        yield from (Text(f"warm start from {source}") for source in transfer.sources)
        enqueued = len(trials) - SAMPLES
        yield _title(f"First configurations: {enqueued} enqueued, {SAMPLES} sampled before any result")
        yield _configurations(spec, trials)
        expected = plan(spec)
        yield _title("Pruning")
        yield _pruning(spec, expected)
        yield from (Text(f"warning: {warning}") for warning in [*advice(spec), *weights_warnings(spec)])
        slots = survey(spec)
        yield _title(f"Cluster {cluster}" if (cluster := spec.ray.cluster()) else "This machine")
        per_trial = f"CPUs per trial: {slots.cpus:g}, GPUs per trial: {slots.gpus:g}"
        yield Text(f"{slots.concurrency} trials at once on {slots.device}; {per_trial}")
        yield _title("Cost")
        if spec.trainer == SHIPPED_TRAINER:
            yield from map(Text, estimate(spec, home, trials, expected, slots, scratch))
        else:
            yield Text(f"Not measured: this study uses its own trainer, {spec.trainer}.")


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def sample(spec: Spec, folder: str, transfer: Transfer = NOTHING) -> list[TrialRecord]:
    """The enqueued configurations and `SAMPLES` sampled ones, as the study will draw them before it has a result."""
    storage, sampler = open_storage(sqlite_url(Path(folder, "optuna.db"))), study_sampler(spec)
    ledger = Ledger.create(storage, spec, {}, sampler, transfer=transfer)
    return [
        ledger.ask(lambda asked: draw(asked, spec.space), lambda number: number)
        for _ in range(len(spec.enqueue) + len(transfer.first) + SAMPLES)
    ]


def _configurations(spec: Spec, trials: Sequence[TrialRecord]) -> Table:
    names = list(spec.space)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("trial", justify="right")
    for title in short_names(names).values():
        table.add_column(Text(title.replace(".", "\n.")), justify="right", no_wrap=True)
    for trial in trials:
        values = configuration(trial, digits=3)
        given = trial.origin is not None and trial.origin.kind not in ("sampler", "random")
        number = f"{trial.number} {trial.origin}" if given else str(trial.number)
        table.add_row(number, *(Text(values.get(name, "–")) for name in names))
    return table


def _pruning(spec: Spec, expected: AshaPlan) -> RenderableType:
    full = expected.trials * spec.train.epochs
    if not spec.asha.enabled:
        return Text(f"No pruning: {expected.trials} trials of {spec.train.epochs} epochs, {full} epochs in total.")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (f"rung ({rung_resource(spec)})", "after epoch", "expected trials"):
        table.add_column(title, justify="right")
    for rung in expected.rungs:
        table.add_row(f"{rung.level:g}", _epochs(rung), f"{rung.reached:.0f}")
    table.add_row("end", str(spec.train.epochs), f"{expected.complete:.0f}")
    share = f"{100 * expected.share:.0f} % of the {full} epochs without pruning"
    return Group(table, Text(f"Expected training: {expected.epochs:.0f} epochs in total, {share}."))


def _epochs(rung: RungPlan) -> str:
    """The baseline's epoch, and the range if other configurations of the space differ."""
    first, last = rung.span
    return str(rung.epoch) if first == last else f"{rung.epoch} ({first} to {last} in the whole space)"
