"""`hpo run --dry-run`: what a study would do and cost, before anything is spent or written."""

from __future__ import annotations

import dataclasses
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hpo.driver.ray_backend.slots import Slots, survey
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
from hpo.spec.configure import configure
from hpo.spec.corners import corners
from hpo.spec.parameters import Choice
from hpo.spec.paths import with_absolute_paths
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.text import duration, short_names, size
from trainers import schedule
from trainers.api import Context, DataConfig, DataError, TrialConfig

if TYPE_CHECKING:
    from trainers.loop.cost import Cost

SAMPLES = 5


def rehearse(spec: Spec, home: Home) -> Iterator[RenderableType]:
    """The parts of the report, each as soon as it is known; text that must not be wrapped is a `str`.

    All that is written goes to a temporary folder.

    Raises:
        UsageError: no machine has what a trial asks for.
        TrainerError: data cannot be had, or a training step does not fit in memory.
    """
    spec = with_absolute_paths(spec)
    yield _title("Resolved specification")
    yield redact(spec.to_yaml()).rstrip()
    with tempfile.TemporaryDirectory(prefix="hpo-dry-run-") as scratch:
        transfer = gather(spec, home)
        trials = sample(spec, scratch, transfer)
        for source in transfer.sources:
            yield Text(f"warm start from {source}")
        yield _title(f"First configurations: {len(trials) - SAMPLES} given, {SAMPLES} sampled (without any result yet)")
        yield _configurations(spec, trials)
        expected = plan(spec)
        yield _title("Pruning")
        yield _pruning(spec, expected)
        for warning in advice(spec):
            yield Text(f"warning: {warning}")
        slots = survey(spec, home)
        yield _title(f"Cluster {cluster}" if (cluster := spec.ray.cluster()) else "This machine")
        each = f"{slots.cpus:g} CPUs and {slots.gpus:g} GPUs"
        yield Text(f"{slots.concurrency} trials at once on {slots.device}, each with {each}")
        yield _title("Cost")
        if spec.trainer != SHIPPED_TRAINER:
            yield Text(f"Not measured: {spec.trainer} is a trainer of your own, so its steps are not known here.")
            return
        costs = {}
        for config in heaviest(spec):
            cost = costs[config.model.name] = _measure(config, slots, scratch)
            yield Text(_measured(config, cost, slots))
    heavy = max(costs.values(), key=lambda cost: cost.checkpoint_bytes)
    yield Text(_disk(heavy, spec, slots, home))
    yield Text(_time(spec, [_config(spec, trial) for trial in trials], costs, expected, slots))


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


# ------------------------------------------------------------------------------------------ what is tried


def sample(spec: Spec, folder: str, transfer: Transfer = NOTHING) -> list[TrialRecord]:
    """The enqueued configurations and five sampled ones, as the study itself will draw them before any result."""
    storage, sampler = open_storage(f"sqlite:///{folder}/optuna.db"), study_sampler(spec)
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
    full = f"{expected.trials} trials of {spec.train.epochs} epochs"
    if not spec.asha.enabled:
        return Text(f"none: {full}")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (f"rung ({rung_resource(spec)})", "after epoch", "trials expected there"):
        table.add_column(title, justify="right")
    for rung in expected.rungs:
        table.add_row(f"{rung.level:g}", _epochs(rung), f"{rung.reached:.0f}")
    table.add_row("end", str(spec.train.epochs), f"{expected.complete:.0f}")
    table.caption = f"{expected.epochs:.0f} epochs in all, {100 * expected.share:.0f} % of {full}"
    table.caption_justify = "left"
    return table


def _epochs(rung: RungPlan) -> str:
    """The first configuration's epoch, and the range where the space has others."""
    first, last = rung.span
    return str(rung.epoch) if first == last else f"{rung.epoch} ({first} to {last} over the space)"


# ---------------------------------------------------------------------------------------------- its cost


def heaviest(spec: Spec) -> list[TrialConfig]:
    """Of every model in the space the configuration with most pixels per micro-batch in its last stage."""
    base = spec.base()
    relevant = _that_cost(spec)
    found: dict[str, tuple[float, TrialConfig]] = {}
    for values in {repr(_only(corner, relevant)): corner for corner in corners(spec.space).combinations}.values():
        config = configure(base, values)
        pixels = _pixels(config)
        if config.model.name not in found or pixels > found[config.model.name][0]:
            found[config.model.name] = pixels, config
    return [config for _, config in found.values()]


def _that_cost(spec: Spec) -> set[str]:
    """Parameters that change what a step costs; the others are left out of the comparison."""
    costly = ("model.name", "train.batch_size", "train.accumulate", "train.progressive", "train.ema", "train.epochs")
    return {name for name in spec.space if name.startswith(costly)}


def _only(values: Mapping[str, Choice], names: set[str]) -> dict[str, Choice]:
    return {name: value for name, value in values.items() if name in names}


def _pixels(config: TrialConfig) -> float:
    train = config.train
    batch = train.batch_size if isinstance(train.batch_size, int) else 1
    last = schedule.stages(train.progressive, train.epochs)[-1]
    return float(batch / train.accumulate * last.size**2)


def _measure(config: TrialConfig, slots: Slots, scratch: str) -> Cost:
    from trainers.checkpoint import DirectoryStore
    from trainers.loop.cost import measure

    context = Context(
        seed=0,
        checkpoints=DirectoryStore(f"{scratch}/checkpoints"),
        device=slots.device,
        threads=max(1, int(slots.cpus)) if slots.device == "cpu" else None,
        cache_dir=f"{scratch}/cache",
    )
    return measure(dataclasses.replace(config, data=_data(config.data, scratch)), context)


def _data(config: DataConfig, scratch: str) -> DataConfig:
    """Where the images are to be found; those that the study would download are fetched to the temporary folder."""
    from trainers import data

    if not config.download:
        return config
    there = dataclasses.replace(config, download=False)
    try:
        data.prepare(there, f"{scratch}/cache")
    except DataError:
        return dataclasses.replace(config, root=f"{scratch}/data")
    return there


def _measured(config: TrialConfig, cost: Cost, slots: Slots) -> str:
    share = slots.concurrency if slots.device == "cpu" else max(1, int(1 / slots.gpus)) if slots.gpus else 1
    fits = "fits in" if cost.memory_bytes * share <= cost.memory_available else "does NOT fit in"
    place = "this machine" if slots.device == "cpu" else "the GPU"
    together = f"; {share} at once take {size(cost.memory_bytes * share)}" if share > 1 else ""
    return (
        f"{config.model.name}: {cost.parameters / 1e6:.1f} million parameters\n"
        f"measured at the largest stage, {cost.size} px with batches of {cost.batch}: {cost.step_seconds:.2f} s per "
        f"step, {cost.batch / cost.step_seconds:,.0f} images/s; evaluation {1 / cost.eval_seconds:,.0f} images/s\n"
        f"memory: {size(cost.memory_bytes)} for one trial{together}, which {fits} the "
        f"{size(cost.memory_available)} of {place}"
    )


def _disk(cost: Cost, spec: Spec, slots: Slots, home: Home) -> str:
    # A trial that has ended keeps one checkpoint, one that runs has two, and a third while it writes.
    kept = spec.budget.trials + 2 * slots.concurrency
    needed = kept * cost.checkpoint_bytes
    text = f"disk: checkpoints of {size(cost.checkpoint_bytes)}, at most {kept} at a time: {size(needed)}"
    place = Path(spec.storage.checkpoints or home.path)
    if "://" in str(spec.storage.checkpoints):
        return f"{text} at {redact(str(spec.storage.checkpoints))}"
    folder = next(parent for parent in (place, *place.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    return f"{text}; {size(free)} free at {folder}{'' if needed < free else ', which is NOT enough'}"


def _time(
    spec: Spec, configs: Sequence[TrialConfig], costs: Mapping[str, Cost], expected: AshaPlan, slots: Slots
) -> str:
    """Estimated from the mean of the configurations shown: pixels times the measured time of one."""
    per_epoch = [
        statistics.fmean(_epoch_seconds(config, costs[config.model.name], epoch) for config in configs)
        for epoch in range(1, spec.train.epochs + 1)
    ]
    worker = sum(
        seconds * count for seconds, count in zip(per_epoch, trials_by_epoch(expected, len(per_epoch)), strict=True)
    )
    wall = max(worker / slots.concurrency, sum(per_epoch))
    text = (
        f"time: about {duration(wall)} for {expected.trials} trials, {slots.concurrency} at once "
        f"({duration(sum(per_epoch))} for one full trial), start-up apart; without pruning "
        f"{duration(sum(per_epoch) * expected.trials / slots.concurrency)}"
    )
    hours = spec.budget.hours
    if hours is not None and wall > hours * 3600:
        text += (
            f"\nthe budget of {hours:g} hours ends it before that, after about {3600 * hours / wall:.0%} of the trials"
        )
    return text


def trials_by_epoch(expected: AshaPlan, epochs: int) -> list[float]:
    """How many trials are expected to train each epoch, from the first on."""
    ends = [0, *(rung.epoch for rung in expected.rungs), epochs]
    counts = [*(rung.reached for rung in expected.rungs), expected.complete]
    return [count for (start, end), count in zip(pairwise(ends), counts, strict=True) for _ in range(end - start)]


def _epoch_seconds(config: TrialConfig, cost: Cost, epoch: int) -> float:
    train = config.train
    stage = schedule.stage_of(schedule.stages(train.progressive, train.epochs), epoch)
    eval_size = train.eval_size or schedule.stages(train.progressive, train.epochs)[-1].size
    training = cost.train_images * cost.step_seconds / cost.batch * (stage.size / cost.size) ** 2
    scores = 2 if train.ema.decay else 1
    return training + scores * cost.validation_images * cost.eval_seconds * (eval_size / cost.eval_size) ** 2


def _config(spec: Spec, trial: TrialRecord) -> TrialConfig:
    return configure(spec.base(), trial.values)
