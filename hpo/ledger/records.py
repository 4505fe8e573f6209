"""The study as recorded: typed, read-only views of what the ledger (the Optuna storage) holds.

Status, reports, exports and the MLflow tracker all read these; only `hpo.ledger.writer` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.transfer import NOTHING, Transfer
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec
from trainers.api import EpochMetrics


@dataclass(frozen=True)
class Repeat:
    """What a trial of a confirmation repeats: a configuration of the study with a seed that is not the search's."""

    trial: int
    """Number of the configuration's trial in the study."""
    index: int
    """Of the seed, from 0. All configurations share the seeds."""
    seed: int
    baseline: bool
    """Whether it is the published recipe that the others are compared with."""


@dataclass(frozen=True)
class Attempt:
    """One go at a trial: the first, or after its worker, its node or the driver died."""

    started: float
    """Seconds since the epoch."""
    resumed_after: int = 0
    """Epochs already recorded when it began."""
    host: str | None = None
    device: str | None = None
    pid: int | None = None
    """The worker's process."""
    lost: str | None = None
    """Why it ended without an outcome, once known."""
    gpus: float | None = None
    """GPUs it held, if they are NVIDIA's; None in records that are older than this field."""
    ended: float | None = None
    """When its worker was free again, where the trial's own end does not say so: lost, interrupted or left by a dead
    driver. None also in records that are older than this field."""


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch as reported."""

    metrics: EpochMetrics
    recorded: float
    """Seconds since the epoch when the driver recorded it."""


@dataclass(frozen=True)
class Origin:
    """Who chose a trial's configuration."""

    kind: Literal["baseline", "enqueued", "transferred", "sampler", "random"]
    """`baseline` and `enqueued`: a person; `transferred`: an earlier study; `sampler`: the policy, from results;
    `random`: the policy, without looking at any."""
    source: str | None = None
    """The earlier study or the file, of a transferred one."""
    trial: int | None = None
    """Number of the trial there, where it is known."""

    def __str__(self) -> str:
        number = "" if self.trial is None else f" trial {self.trial}"
        return f"from {self.source}{number}" if self.kind == "transferred" else self.kind


@dataclass(frozen=True)
class TrialRecord:
    """One trial. `values` are its searched parameters by dotted path."""

    number: int
    values: Mapping[str, Choice] = field(default_factory=dict)
    seed: int | None = None
    enqueued: bool = False
    """Whether a person chose the configuration (the published recipe) rather than the sampler."""
    origin: Origin | None = None
    """Who chose the configuration; None until the trial begins, if nobody did beforehand."""
    control: bool = False
    """Whether ASHA's verdict on it is recorded but not carried out: the baseline, so that the recipe that all
    others are compared with has a full-length result, and the share of trials that `asha.controls` asks for. The
    first verdict to stop is the last one: from then on it is no measure for others."""
    attempts: tuple[Attempt, ...] = ()
    epochs: tuple[EpochRecord, ...] = ()
    rungs: tuple[RungDecision, ...] = ()
    outcome: Outcome | None = None
    """None while it trains or waits for its first epoch."""
    mlflow_run_id: str | None = None
    finished: float | None = None
    repeat: Repeat | None = None
    """What it repeats; None for a trial of a search."""

    @property
    def label(self) -> str:
        """What a person calls it: `trial 7`, or `trial 7 seed 1` in a confirmation."""
        return f"trial {self.repeat.trial} seed {self.repeat.index}" if self.repeat else f"trial {self.number}"

    @property
    def metrics(self) -> tuple[EpochMetrics, ...]:
        """What was reported, oldest first."""
        return tuple(epoch.metrics for epoch in self.epochs)

    @property
    def last(self) -> EpochMetrics | None:
        """The newest epoch's metrics."""
        return self.epochs[-1].metrics if self.epochs else None

    @property
    def value(self) -> float | None:
        """The newest objective value (validation accuracy, 0 to 1)."""
        return self.last.val_accuracy if self.last else None

    @property
    def complete(self) -> bool:
        """Whether it trained for all its epochs: only such trials compete for the best configuration."""
        return self.outcome is not None and self.outcome.ending is Ending.COMPLETE

    @property
    def started(self) -> bool:
        """Whether any attempt has begun."""
        return bool(self.attempts)

    @property
    def pruned_at(self) -> float | None:
        """The rung that stopped it, if one did."""
        return None if self.control else next((rung.rung for rung in self.rungs if not rung.keep), None)

    @property
    def seconds(self) -> float:
        """Worker seconds of the recorded epochs."""
        return sum(epoch.metrics.seconds or 0.0 for epoch in self.epochs)

    @property
    def status(self) -> str:
        """`waiting`, `running`, or how it ended."""
        if self.outcome is not None:
            return self.outcome.ending.value
        return "running" if self.started else "waiting"


@dataclass(frozen=True)
class StudyRecord:
    """A whole study."""

    name: str
    spec: Spec
    info: Mapping[str, Any]
    """Provenance: `versions`, `git_commit`, `host`, `created`, `data` (split hash, counts), `identity`; and
    `retrainings`, every time a configuration of the study was trained again and met the test set; and `openings`,
    every single look at it, also those whose retraining was cut off."""
    trials: tuple[TrialRecord, ...] = ()
    sessions: tuple[tuple[float, float], ...] = ()
    """(start, last sign of life) of every driver that worked on it, seconds since the epoch."""
    transfer: Transfer = NOTHING
    """What it took over from earlier studies."""
    repeats: tuple[TrialRecord, ...] = ()
    """The trials of its confirmation, finished or not; `hpo.results.confirmation` says what they mean."""
    ended: str | None = None
    """Which part of its budget ended it; None while it goes on, or where something else broke it off."""

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the greatest final validation accuracy; ties go to the earlier one."""
        complete = [trial for trial in self.trials if trial.complete]
        return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    @property
    def baseline(self) -> TrialRecord | None:
        """The published recipe's trial: the first enqueued one."""
        return next((trial for trial in self.trials if trial.enqueued), None)

    def count(self, status: str) -> int:
        """How many trials have that status."""
        return sum(trial.status == status for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Wall-clock of all its drivers."""
        return sum(end - start for start, end in self.sessions)


@dataclass(frozen=True)
class RungDecision:
    """What was decided about one trial at one rung, and from what."""

    rung: float
    """Level of the rung, in units of the resource."""
    value: float
    """What the trial reported there; larger is better."""
    cutoff: float | None
    """The value needed to go on, from earlier arrivals at this rung; None for the first one."""
    order: int
    """Arrival number over all rungs and trials of the study, from 0."""
    keep: bool
    """Whether the trial may go on."""
