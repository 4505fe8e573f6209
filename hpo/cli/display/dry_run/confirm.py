"""`hpo confirm --dry-run`: which configurations would be trained again, and what that costs, from what the trials of
the study took."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from hpo.cli.display.tables import aligned
from hpo.driver.decisions.rounds import Planned, candidates, due, missing, refuse_counts, repeats, too_few
from hpo.driver.ray_backend.slots import Slots, survey
from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.summary import configuration
from hpo.text import duration, short_names, size


@dataclass(frozen=True)
class Forecast:
    """A confirmation that has not run."""

    study: StudyRecord
    trials: tuple[TrialRecord, ...]
    """The configurations, the best first."""
    left: tuple[Planned, ...]
    """The trainings that may be needed."""
    first: tuple[Planned, ...]
    """Those of the next round, which are needed for certain."""
    took: Mapping[int, float]
    """Seconds of a full training by the number of the trial; empty if no trial tells."""
    slots: Slots
    checkpoint_bytes: int | None
    """Size of the last checkpoint of a trial; None if none is left on this machine."""
    remark: str | None = None
    """What a person must know of the choice."""

    @property
    def epochs(self) -> int:
        return len(self.left) * self.study.spec.train.epochs

    @property
    def worker_seconds(self) -> float | None:
        """The sum over all trainings."""
        return sum(self.took[repeat.trial] for repeat, _ in self.left) if self.took else None

    @property
    def wall_seconds(self) -> float | None:
        """How long they take together: rounds follow one another, and a round is no shorter than its longest training.

        The first round has all the seeds up to its last one, each further round has one.
        """
        if not self.took:
            return None
        last = max((repeat.index for repeat, _ in self.first), default=0)
        rounds: dict[int, list[float]] = {}
        for repeat, _ in self.left:
            rounds.setdefault(max(last, repeat.index), []).append(self.took[repeat.trial])
        return sum(max(sum(times) / self.slots.concurrency, *times) for times in rounds.values())

    @property
    def gpu_hours(self) -> float | None:
        """0 on a CPU."""
        return None if self.worker_seconds is None else self.worker_seconds * self.slots.gpus / 3600

    @property
    def disk_bytes(self) -> int | None:
        """What the checkpoints need at most: a running training has two, and a third while it writes."""
        if self.checkpoint_bytes is None:
            return None
        ended = self.slots.concurrency if self.study.spec.storage.keep == "unfinished" else len(self.left)
        return (ended + 2 * min(self.slots.concurrency, len(self.left))) * self.checkpoint_bytes


def forecast(home: Home, name: str, top: int, seeds: int) -> Forecast:
    """What `hpo confirm` would do now. Reads the ledger and writes nothing.

    Raises:
        UsageError: as `hpo.driver.confirm.confirm`, or no machine has what a training needs.
    """
    refuse_counts(top, seeds)
    study = read_study(home, name)
    trials = candidates(study, top)
    wanted = repeats(study, trials, seeds)
    return Forecast(
        study,
        tuple(trials),
        tuple(missing(study, wanted, retry=True)),
        tuple(due(study, wanted, retry=True)),
        durations(study, trials),
        survey(study.spec, study.packing),
        _checkpoint_bytes(home, study, trials),
        too_few(study, trials, top),
    )


def durations(study: StudyRecord, trials: Sequence[TrialRecord]) -> dict[int, float]:
    """Seconds of a full training of each configuration: of its own trial, else the mean of the other complete ones."""
    known = {trial.number: seconds for trial in study.trials if trial.complete and (seconds := _seconds(trial))}
    if not known:
        return {}
    usual = statistics.fmean(known.values())
    return {trial.number: known.get(trial.number, usual) for trial in trials}


def _seconds(trial: TrialRecord) -> float:
    """What its epochs took, or the whole of its last attempt if its trainer does not report that."""
    if trial.seconds:
        return trial.seconds
    return max(0.0, trial.finished - trial.attempts[-1].started) if trial.finished and trial.attempts else 0.0


def _checkpoint_bytes(home: Home, study: StudyRecord, trials: Sequence[TrialRecord]) -> int | None:
    place = home.checkpoints(study.name, study.spec.storage.checkpoints)
    if "://" in place:
        return None
    sizes = (
        sum(file.stat().st_size for file in Path(place, f"{trial.number:05d}").rglob("*") if file.is_file())
        for trial in trials
    )
    return max(sizes, default=0) or None


def to_json(found: Forecast) -> dict[str, Any]:
    """The forecast for programs; a figure that is not known is null."""
    goal = found.study.spec.objective
    return {
        "study": found.study.name,
        "trainings": len(found.left),
        "next_round": len(found.first),
        "epochs": found.epochs,
        "concurrency": found.slots.concurrency,
        "device": found.slots.device,
        "seconds": found.wall_seconds,
        "worker_seconds": found.worker_seconds,
        "gpu_hours": found.gpu_hours,
        "disk_bytes": found.disk_bytes,
        "configurations": [
            {
                "trial": trial.number,
                "baseline": trial is found.study.baseline,
                "value": None if trial.value is None else goal.score(trial.value),
                "parameters": dict(trial.assigned),
                "trainings": _count(found, trial),
                "seconds": found.took.get(trial.number),
            }
            for trial in found.trials
        ],
    }


def rehearse(found: Forecast, home: Home, command: str, width: int | None) -> Iterator[str | Text]:
    """The forecast for people.

    Args:
        command: what to type to begin it, without the home folder.
        width: columns of the terminal; None where there is none.
    """
    study, count, first = found.study, len(found.left), len(found.first)
    configurations = "1 configuration" if len(found.trials) == 1 else f"{len(found.trials)} configurations"
    yield Text(f"Confirmation of {study.name}: {configurations}", style="bold")
    if found.remark:
        yield found.remark
    yield from _table(found, width)
    yield ""
    if not found.left:
        yield f"Nothing is left to train. See the result: {home.command(f'status {study.name}')}"
        return
    yield f"trainings  {count} at most, {study.spec.train.epochs} epochs each: {found.epochs} epochs"
    if count > first:
        rest = "the last one" if count - first == 1 else f"some of the other {count - first}"
        yield f"           {first} first; the race may save {rest}"
    yield from _costs(found, home)
    yield f"\nNothing was written. Begin with: {home.command(command)}"


def _costs(found: Forecast, home: Home) -> Iterator[str]:
    slots = found.slots
    if found.wall_seconds is None:
        yield "time       unknown: no trial of the study tells how long it took"
    else:
        yield f"time       {duration(found.wall_seconds)} at most, {slots.concurrency} at once on {slots.device}"
        yield "           by what the study's own trials took, without start-up"
        yield f"GPU-hours  {f'{found.gpu_hours:.2f} at most' if slots.gpus else '0, on the CPU'}"
    if found.checkpoint_bytes is None or found.disk_bytes is None:
        yield "disk       unknown: no checkpoint of the study is left on this machine"
        return
    yield f"disk       {size(found.disk_bytes)} at most, in checkpoints of {size(found.checkpoint_bytes)}"
    place = Path(found.study.spec.storage.checkpoints or home.path)
    free = shutil.disk_usage(next(parent for parent in (place, *place.parents) if parent.exists())).free
    yield f"           {size(free)} free{'' if found.disk_bytes < free else ', which is NOT enough'}"


def _table(found: Forecast, width: int | None) -> Iterator[Text]:
    """The configurations; on a narrow terminal with as many parameters as fit, and a line that names the others."""
    study, goal = found.study, found.study.spec.objective
    names = short_names(study.spec.space)
    rows = []
    for trial in found.trials:
        values, seconds = configuration(trial, digits=3), found.took.get(trial.number)
        rows.append(
            [
                f"{trial.number} (baseline)" if trial is study.baseline else str(trial.number),
                goal.show_score(trial.value),
                str(_count(found, trial)),
                "–" if seconds is None else duration(seconds),
                *(values.get(name, "–") for name in names),
            ]
        )
    titles = ["trial", goal.column, "trainings", "one takes", *(name.replace(".", "\n.") for name in names.values())]
    for shown in range(len(titles), len(titles) - len(names) - 1, -1):
        lines = list(aligned(titles[:shown], [row[:shown] for row in rows], left=["trial"]))
        if width is None or max(line.cell_len for line in lines) <= width:
            break
    yield from lines
    if hidden := list(names.values())[shown - len(titles) + len(names) :]:
        yield Text(f"not shown, because the terminal is too narrow: {', '.join(hidden)}", style="dim")


def _count(found: Forecast, trial: TrialRecord) -> int:
    """How many trainings of its configuration may be needed."""
    return sum(repeat.trial == trial.number for repeat, _ in found.left)
