"""`hpo run --dry-run`: the plan of a study and its cost, before anything is spent or written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hpo.cli.display.dry_run.cost import Estimate, estimate, prepared
from hpo.driver.gpus.measuring import packed
from hpo.driver.ray_backend.slots import Slots, survey
from hpo.driver.warm_start import gather
from hpo.gpu_sharing import Packing, describe
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
from trainers.api import TrainerError

SAMPLES = 5
"""Configurations that the sampler shows, besides the enqueued ones, if the budget has so many trials."""


def rehearse(spec: Spec, home: Home, command: str, *, full: bool = False) -> Iterator[RenderableType]:
    """The parts of the report, each as soon as it is known; text that must not be wrapped is a `str`.

    The first ten lines are what a person wants to know: the plan, the cost, the time. All files go to a temporary
    folder.

    Args:
        command: what to type to run the study, without the home folder.
        full: end with the whole specification.

    Raises:
        UsageError: no machine has what a trial asks for.
        TrainerError: the data is missing, or a training step does not fit in memory. Raised last, after all that is
            known without.
    """
    spec = with_absolute_paths(spec)
    expected, slots = plan(spec), survey(spec)
    yield from _plan(spec, expected)
    with tempfile.TemporaryDirectory(prefix="hpo-dry-run-") as scratch:
        packing = _packing(spec, home, slots, scratch)
        slots = survey(spec, packing)
        yield from _place(spec, slots, packing)
        transfer = gather(spec, home)
        trials = sample(spec, scratch, transfer)
        cost: Estimate | TrainerError
        try:
            cost = _estimate(spec, home, trials, expected, slots, scratch)
        except TrainerError as error:
            cost = error
        if isinstance(cost, Estimate):
            yield from map(Text, cost.summary)
            yield f"begin with: {redact(home.command(command))}" + (
                "" if full else "   (the whole specification: --full)"
            )
        yield from (Text(f"warning: {warning}") for warning in [*advice(spec), *weights_warnings(spec)])
        if isinstance(cost, Estimate) and cost.details:
            yield _title("Measured")
            yield from map(Text, cost.details)
        yield _title("Pruning")
        yield _pruning(spec, expected)
        given = min(len(trials), len(spec.enqueue) + len(transfer.first))
        sampled = f"{len(trials) - given} sampled before any result"
        yield _title(f"First configurations: {given} enqueued, {sampled}")
        yield from (Text(f"warm start from {source}") for source in transfer.sources)
        yield _configurations(spec, trials)
        if full:
            yield _title("Whole specification")
            yield redact(spec.to_yaml()).rstrip()
        if isinstance(cost, TrainerError):
            raise cost


def plan_json(spec: Spec, home: Home) -> dict[str, Any]:
    """The plan for programs. `cost` and `measured` are texts, as people read them.

    Raises:
        As `rehearse`.
    """
    spec = with_absolute_paths(spec)
    expected, slots = plan(spec), survey(spec)
    with tempfile.TemporaryDirectory(prefix="hpo-dry-run-") as scratch:
        packing = _packing(spec, home, slots, scratch)
        slots = survey(spec, packing)
        trials = sample(spec, scratch, gather(spec, home))
        cost = _estimate(spec, home, trials, expected, slots, scratch)
    return {
        "study": spec.study,
        "task": spec.task,
        "trials": expected.trials,
        "epochs_per_trial": spec.train.epochs,
        "expected_epochs": expected.epochs,
        "expected_complete": expected.complete,
        "rungs": [{"epoch": rung.epoch, "expected_trials": rung.reached} for rung in expected.rungs],
        "concurrency": slots.concurrency,
        "device": slots.device,
        "cpus_per_trial": slots.cpus,
        "gpus_per_trial": slots.gpus,
        "seconds": cost.seconds,
        "gpu_hours": cost.gpu_hours,
        "memory_bytes": cost.memory_bytes,
        "disk_bytes": cost.disk_bytes,
        "cost": [*([describe(packing)] if packing else []), *cost.summary],
        "measured": list(cost.details),
        "warnings": [*advice(spec), *weights_warnings(spec)],
        "configurations": [_configuration(trial) for trial in trials],
    }


def _configuration(trial: TrialRecord) -> dict[str, Any]:
    return {"trial": trial.number, "label": trial.title, "parameters": dict(trial.assigned)}


def _packing(spec: Spec, home: Home, slots: Slots, scratch: str) -> Packing | None:
    """How many trials share a GPU, measured as before the first trial; None where they do not, or the data is missing,
    of which the measurement of the cost tells."""
    if slots.device == "cpu":
        return None
    if not spec.shipped:
        return packed(spec, f"{scratch}/cache")
    try:
        images, cache = prepared(spec.data, home, scratch)
    except TrainerError:
        return None
    return packed(spec.model_copy(update={"data": images}), cache)


def _plan(spec: Spec, expected: AshaPlan) -> Iterator[Text]:
    """The plan in three lines."""
    epochs = spec.train.epochs
    yield Text(f"{spec.study}: {spec.task}", style="bold")
    yield Text(
        f"plan: {expected.trials} trials of at most {epochs} epochs; {spec.search.policy} searches "
        f"{len(spec.space)} parameters"
    )
    if spec.asha.enabled:
        share = f"{expected.epochs:.0f} epochs, {100 * expected.share:.0f} % of all"
        yield Text(f"pruning: about {expected.complete:.0f} trials train to the end; {share}")
    else:
        yield Text(f"pruning: none; {expected.trials * epochs} epochs")


def _place(spec: Spec, slots: Slots, packing: Packing | None) -> Iterator[Text]:
    """Where the trials run, and how many at once."""
    place = f"cluster {cluster}" if (cluster := spec.ray.cluster()) else "this machine"
    per_trial = f"CPUs per trial: {slots.cpus:g}, GPUs per trial: {slots.gpus:g}"
    yield Text(f"{place}: {slots.concurrency} trials at once on {slots.device}; {per_trial}")
    if packing is not None:
        yield Text(describe(packing))


def _estimate(
    spec: Spec, home: Home, trials: Sequence[TrialRecord], expected: AshaPlan, slots: Slots, scratch: str
) -> Estimate:
    if spec.trainer != SHIPPED_TRAINER:
        return Estimate((f"cost: not measured, because this study uses its own trainer, {spec.trainer}",), ())
    return estimate(spec, home, trials, expected, slots, scratch)


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def sample(spec: Spec, folder: str, transfer: Transfer = NOTHING) -> list[TrialRecord]:
    """The enqueued configurations and up to `SAMPLES` sampled ones, as the study will draw them before a result."""
    storage, sampler = open_storage(sqlite_url(Path(folder, "optuna.db"))), study_sampler(spec)
    ledger = Ledger.create(storage, spec, {}, sampler, transfer=transfer)
    return [
        ledger.ask(lambda asked: draw(asked, spec.space), lambda number: number)
        for _ in range(min(spec.budget.trials, len(spec.enqueue) + len(transfer.first) + SAMPLES))
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
