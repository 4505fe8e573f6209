"""The records of a study: typed, read-only views of what the ledger (the Optuna storage) holds.

Status, reports, exports and the MLflow tracker read these records. Only `hpo.ledger.writer` writes to the ledger.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpo.gpu_sharing import Packing
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.steering.requests import Request
from hpo.ledger.transfer import NOTHING, Transfer
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec
from trainers.api import EpochMetrics

FORMER_NAMES = "former_names"
"""Key of the names that a study had before, in `StudyRecord.info`."""


@dataclass(frozen=True)
class Repeat:
    """What a trial of a confirmation repeats: a configuration of the study, with a new seed."""

    trial: int
    """Number of the trial in the study that has this configuration."""
    index: int
    """Place of the seed, from 0. All configurations are trained with the same seeds."""
    seed: int
    baseline: bool
    """Whether it is the baseline, which the other configurations are compared with."""
    seeds: int = field(default=0, compare=False)
    """Number of seeds that its configuration was planned for; the race may need fewer. 0 in records that are older than
    this field: as many as were enqueued."""


Phase = Literal["importing", "reading", "training"]
"""What a worker does, in this order: it imports the trainer, reads the data and the weights, trains. A process that has
served another trial only trains."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a trial: the first, or a later one after its worker, its node or the driver died."""

    started: float
    """Seconds since the epoch."""
    resumed_after: int = 0
    """Number of epochs that were recorded when it began."""
    host: str | None = None
    device: str | None = None
    pid: int | None = None
    """Process id of the worker."""
    lost: str | None = None
    """Why it ended without an outcome; None if it did not, or not yet."""
    gpus: float | None = None
    """Number of GPUs that it held, if they are NVIDIA's; None in records that are older than this field."""
    ended: float | None = None
    """When its worker was free again, in seconds since the epoch, if it was lost, interrupted or left by a dead driver.
    None for other ends, whose time is that of the trial, and in records that are older than this field."""
    put_back: bool = False
    """Whether its node or its neighbours were at fault, as `lost` says. Such an attempt does not count against
    `retries`."""
    crowded: bool = False
    """Whether it ran out of memory on a GPU that it shared with other trials. The next attempt gets a whole one."""
    phase: Phase | None = None
    """What its worker does; None before there is one, and in records that are older than this field."""
    phase_since: float | None = None
    """When that began, in seconds since the epoch."""
    taken_up: bool = False
    """Whether landing took up the pruned trial with it (`search.landing`)."""


@dataclass(frozen=True)
class LeftNode:
    """A node that gets no trials."""

    host: str
    reason: str
    """What it lacks, or how trials failed on it; in words that follow the host's name."""
    proved: bool
    """Whether it lacks something for certain; else trials failed there before their first report."""


@dataclass(frozen=True, slots=True)  # a driver keeps hundreds of thousands of them
class EpochRecord:
    """One finished epoch, as its worker reported it."""

    metrics: EpochMetrics
    recorded: float
    """Seconds since the epoch when the driver recorded it."""
    score: float | None = None
    """The score of an objective that is not the validation accuracy."""

    @property
    def value(self) -> float:
        """What trials are compared by, larger is better: the score of the study's primary objective, by default the
        validation accuracy, 0 to 1."""
        accuracy = self.metrics.val_accuracy
        return self.score if self.score is not None else math.nan if accuracy is None else accuracy


@dataclass(frozen=True)
class Origin:
    """Who chose a trial's configuration."""

    kind: Literal["baseline", "enqueued", "transferred", "sampler", "random"]
    """`baseline` and `enqueued`: a person. `transferred`: an earlier study. `sampler`: the search policy, from earlier
    results. `random`: the search policy, at random."""
    source: str | None = None
    """The earlier study or the file of a transferred configuration; None for others."""
    trial: int | None = None
    """Number of the trial in the earlier study, if it is known."""

    def __str__(self) -> str:
        number = "" if self.trial is None else f" trial {self.trial}"
        return f"from {self.source}{number}" if self.kind == "transferred" else self.kind


@dataclass(frozen=True)
class TrialRecord:
    """One trial. `values` are its searched parameters by dotted path."""

    number: int
    values: Mapping[str, Choice] = field(default_factory=dict)
    settings: Mapping[str, Choice] = field(default_factory=dict)
    """Settings outside the space that a person gave it, by dotted path. A trial that has any is a reference, from which
    nothing is learned about the space; see `hpo.spec.enqueued`."""
    title: str | None = None
    """What a person called the configuration; None for others."""
    seed: int | None = None
    enqueued: bool = False
    """Whether a person chose the configuration, not the sampler."""
    origin: Origin | None = None
    """Who chose the configuration; None if nobody did before the trial began, and it has not begun."""
    control: bool = False
    """Whether ASHA records its decisions about the trial but never stops it. Controls are the baseline, so that the
    others can be compared with a full training of it, and a share of all trials, `asha.controls`. After the first
    decision to stop a control, later rungs ignore it."""
    attempts: tuple[Attempt, ...] = ()
    epochs: tuple[EpochRecord, ...] = ()
    rungs: tuple[RungDecision, ...] = ()
    outcome: Outcome | None = None
    """How it ended; None while it trains or waits for its first attempt."""
    mlflow_run_id: str | None = None
    finished: float | None = None
    """When it ended for good, in seconds since the epoch; None before that."""
    repeat: Repeat | None = None
    """What it repeats, for a trial of a confirmation; None for a trial of a search."""

    @property
    def assigned(self) -> Mapping[str, Choice]:
        """All settings in which it differs from `Spec.base`, by dotted path: what `configure` takes."""
        return {**self.values, **self.settings} if self.settings else self.values

    @property
    def label(self) -> str:
        """Its name for people: `trial 7`, or `trial 7 seed 1` in a confirmation."""
        return f"trial {self.repeat.trial} seed {self.repeat.index}" if self.repeat else f"trial {self.number}"

    @property
    def metrics(self) -> tuple[EpochMetrics, ...]:
        """The reported metrics by epoch, the first epoch first."""
        return tuple(epoch.metrics for epoch in self.epochs)

    @property
    def last(self) -> EpochMetrics | None:
        """The metrics of the last recorded epoch; None before the first one."""
        return self.epochs[-1].metrics if self.epochs else None

    @property
    def value(self) -> float | None:
        """The score after the last recorded epoch, larger is better: the validation accuracy, 0 to 1, unless the study
        has another objective (`hpo.spec.objectives`). None before the first epoch."""
        return self.epochs[-1].value if self.epochs else None

    @property
    def rank(self) -> float:
        """`value`, to sort by; below every other one before the first epoch."""
        return -math.inf if self.value is None else self.value

    @functools.cached_property
    def complete(self) -> bool:
        """Whether it trained for all its epochs. Only complete trials can be the best configuration."""
        return self.outcome is not None and self.outcome.ending is Ending.COMPLETE

    @property
    def started(self) -> bool:
        """Whether an attempt has begun."""
        return bool(self.attempts)

    @property
    def alone(self) -> bool:
        """Whether it gets a whole GPU where trials share them, because it has run out of memory beside others."""
        return any(attempt.crowded for attempt in self.attempts)

    @property
    def unfinished(self) -> bool:
        """Whether it has started and trains on when it can: interrupted, running, or left by a dead driver."""
        return self.started and not self.ended

    @property
    def ended(self) -> bool:
        """Whether it trains no more, unless landing takes it up."""
        return self.outcome is not None and self.outcome.ended

    @property
    def kept(self) -> bool:
        """Whether it is pruned, and may be taken up again."""
        return self.outcome is not None and self.outcome.kept

    @functools.cached_property
    def taken_up(self) -> tuple[int, ...]:
        """The numbers of epochs after which landing took it up again, though ASHA had stopped it."""
        return tuple(attempt.resumed_after for attempt in self.attempts if attempt.taken_up)

    def with_attempt(self, **changes: Any) -> TrialRecord:
        """The trial with other values of its current attempt."""
        current = dataclasses.replace(self.attempts[-1], **changes)
        return dataclasses.replace(self, attempts=(*self.attempts[:-1], current))

    @functools.cached_property
    def newest(self) -> float:
        """When anything of it was recorded last, in seconds since the epoch; 0 before its first attempt."""
        attempt = max((attempt.ended or attempt.started for attempt in self.attempts[-1:]), default=0.0)
        return max(attempt, self.epochs[-1].recorded if self.epochs else 0.0, self.finished or 0.0)

    @functools.cached_property
    def judged(self) -> tuple[float, ...]:
        """The rungs that were decided, in units of the resource."""
        return tuple(decision.rung for decision in self.rungs)

    @functools.cached_property
    def pruned_at(self) -> float | None:
        """The rung at which ASHA stopped it; None if ASHA did not, or if it was taken up again."""
        spared = self.control or self.taken_up
        return None if spared else next((rung.rung for rung in self.rungs if not rung.keep), None)

    @property
    def seconds(self) -> float:
        """Seconds that its worker spent on the recorded epochs."""
        return sum(epoch.metrics.seconds or 0.0 for epoch in self.epochs)

    @functools.cached_property
    def status(self) -> str:
        """`waiting`, `running`, or how it ended (`hpo.ledger.outcome.Ending`)."""
        if self.outcome is not None:
            return self.outcome.ending.value
        return "running" if self.started else "waiting"


@dataclass(frozen=True)
class Pause:
    """A driver waits: it stays alive, trains nothing and holds no GPU, until somebody lets it continue."""

    by: str
    """Who asked for it, as `user@host`."""
    since: float
    """Seconds since the epoch, of the driver's clock."""


@dataclass(frozen=True)
class StudyRecord:
    """A whole study."""

    name: str
    spec: Spec
    info: Mapping[str, Any]
    """Provenance: `versions`, `git_commit`, `host`, `created`, `data` (split hash, counts), `identity`,
    `former_names`; `retrainings`, one entry per `hpo retrain` that evaluated a configuration of the study on the test
    set; and `test_set_evaluations`, one entry per evaluation, also of retrainings that were cut off."""
    trials: tuple[TrialRecord, ...] = ()
    sessions: tuple[tuple[float, float], ...] = ()
    """(start, last sign of life) of every driver that worked on the study, in seconds since the epoch. Both come from
    one `hpo.clock.Clock`, so the difference is the time that the driver worked, whatever the machine's clock did."""
    transfer: Transfer = NOTHING
    """What it took over from earlier studies."""
    repeats: tuple[TrialRecord, ...] = ()
    """The trials of its confirmation, finished or not; `hpo.results.confirmation` evaluates them."""
    ended: str | None = None
    """Which part of the budget stopped the study; None while it continues, or if something else stopped it."""
    driver: Literal["none", "open", "dead"] = "none"
    """Whether a driver has the study open. `open`: the ledger says so, but the driver may have died. `dead`: it has
    certainly died. What the ledger cannot tell, only watching can: a living driver's record changes."""
    left_nodes: tuple[LeftNode, ...] = ()
    """The nodes that get no trials of its newest driver."""
    packing: Packing | None = None
    """How many trials of its newest driver share a GPU; None where `resources.gpus: auto` did not decide that."""
    paused: Pause | None = None
    """Who paused it, and when; None while it is not paused. A study without a living driver is never paused."""
    stopping: str | None = None
    """Why its driver begins nothing new and lets running trials end after their epoch; None while it does not."""
    requests: tuple[Request, ...] = ()
    """What people asked of its drivers while they ran, and what became of it; the oldest first."""

    @functools.cached_property
    def best(self) -> TrialRecord | None:
        """The complete trial with the highest final score; of equal ones, the first."""
        complete = [trial for trial in self.trials if trial.complete]
        return max(complete, key=lambda trial: (trial.rank, -trial.number), default=None)

    @property
    def former_names(self) -> tuple[str, ...]:
        """The names that it had before it was renamed, the oldest first; of a confirmation, those of its study."""
        return tuple(self.info.get(FORMER_NAMES, ()))

    @functools.cached_property
    def baseline(self) -> TrialRecord | None:
        """The trial of the baseline, the first enqueued configuration; None if nothing was enqueued."""
        return next((trial for trial in self.trials if trial.enqueued), None)

    def count(self, status: str) -> int:
        """Number of trials with this status."""
        return self._counts[status]

    @functools.cached_property
    def _counts(self) -> Counter[str]:
        return Counter(trial.status for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all its drivers."""
        return sum(max(0.0, end - start) for start, end in self.sessions)  # an old one may be from a clock that jumped


@dataclass(frozen=True, slots=True)
class RungDecision:
    """ASHA's decision about one trial at one rung, and the numbers behind it."""

    rung: float
    """Level of the rung, in units of the resource (`asha.resource`)."""
    value: float
    """The trial's value at the rung; higher is better."""
    cutoff: float | None
    """The value needed to continue, from earlier arrivals at this rung; None for the first arrival."""
    order: int
    """Arrival number over all rungs and trials of the study, from 0."""
    keep: bool
    """Whether the trial may continue."""
