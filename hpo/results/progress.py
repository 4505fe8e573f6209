"""How far a study has come: counts, time left, survival of rungs, failures, next steps. All from its record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hpo.clock import Clock
from hpo.home import command
from hpo.ledger.lock import LEASE_S
from hpo.ledger.outcome import SAME_FAILURES
from hpo.ledger.records import Phase, StudyRecord, TrialRecord
from hpo.results.confirmation import confirmation, seed_noise
from hpo.results.summary import STATUSES
from hpo.results.sums.pace import Pace
from hpo.results.sums.parts import Counts, Failures, Rungs, Survival, summed
from hpo.results.sums.time_left import time_left
from hpo.spec.study import LEAST_COMPLETE
from hpo.text import clock_time, duration

BEGINNING: Mapping[Phase | None, str] = {
    None: "Ray starts workers",
    "importing": "workers import torch and the trainer",
    "reading": "workers read the data and the weights",
}
"""What happens before any worker trains; the first that holds of a trial is told."""

State = Literal["running", "paused", "silent", "interrupted", "finished", "failed"]
"""`silent`: the ledger says that a driver runs it, but nobody has seen a sign of life of it lately. It may be on a
machine that has lost its network, or it may have died. `failed`: it is over, and no trial succeeded."""


@dataclass(frozen=True)
class Progress:
    """A study at one moment."""

    ended: int
    """Trials that will never train again."""
    trials: int
    """The budget."""
    counts: tuple[tuple[str, int], ...]
    """(status, number of trials) in a fixed order; statuses without trials are left out."""
    elapsed: float
    """Wall-clock seconds of all drivers."""
    allowed: float | None
    """The wall-clock budget in seconds; None for no limit."""
    estimate: Callable[[], float | None] = field(repr=False, compare=False)
    """Returns `left`."""
    silent: float
    """Seconds for which somebody who watches the study has seen no sign of life of its driver."""
    closed: bool = False
    """Whether the study reached its budget."""
    driver: Literal["none", "open", "dead"] = "none"
    """Of the record: whether a driver has the study open."""
    epochs: bool = True
    """Whether a trial has trained an epoch."""
    phases: tuple[Phase | None, ...] = ()
    """What the workers of running trials do; None for a trial that has no worker yet."""
    now: float = 0.0
    """Seconds since the epoch, by the driver's clock."""
    sign: float | None = None
    """When its driver gave the last sign of life, seconds since the epoch by its own clock; only of a single look."""
    stopping: str | None = None
    """Why that driver is about to end; None while it is not."""
    paused: bool = False
    """Whether that driver waits until somebody lets it continue."""
    hopeless: bool = False
    """Whether it ended because its first trials failed."""

    def counted(self, status: str) -> int:
        """Number of trials of that status."""
        return dict(self.counts).get(status, 0)

    @functools.cached_property
    def left(self) -> float | None:
        """Estimated seconds to the end; None before a trial has ended, and while nothing trains. The estimate looks at
        every epoch of the study, so it is made where it is asked for."""
        return self.estimate()

    @property
    def state(self) -> State:
        """The one answer to what the study is doing, for lists, views and messages."""
        statuses = dict(self.counts)
        ended = self.closed or self.ended >= self.trials
        if self.driver == "open" and not (ended and not statuses.get("running")):
            return "silent" if self.silent > LEASE_S else "paused" if self.paused else "running"
        if not ended:
            return "interrupted"
        fruitless = bool(statuses.get("failed")) and not statuses.keys() & {"complete", "pruned", "interrupted"}
        return "failed" if fruitless or self.hopeless else "finished"

    @property
    def deserted(self) -> str | None:
        """Why nobody runs the study, in words; None while a driver may be alive."""
        if self.driver == "none":
            return "no driver runs it"
        if self.driver == "dead":
            return "its driver has died"
        return f"no heartbeat for {duration(self.silent)}" if self.silent > LEASE_S else None

    @property
    def words(self) -> str:
        """The state in words; for one that nobody runs with the reason."""
        if self.state == "silent":
            since = f" since {clock_time(self.sign)}" if self.sign else f" of its driver: {self.deserted}"
            return f"no sign of life{since}"
        if self.state == "running" and self.stopping:
            rest = "running trials end after their epoch" if self.counted("running") else "the last records are written"
            return f"stopping: {self.stopping}; {rest}"
        return f"interrupted: {self.deserted}" if self.state == "interrupted" and self.deserted else self.state

    @property
    def resumable(self) -> bool:
        """Whether `hpo resume` is what to type next."""
        return self.state in ("interrupted", "silent")

    @property
    def beginning(self) -> str | None:
        """What happens before the first epoch of a running study is there; None after that."""
        if self.epochs or not self.counted("running"):
            return None
        for phase, text in BEGINNING.items():
            if phase in self.phases:
                return f"starting: {text}"
        return "training the first epochs"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen unless somebody resumes the study."""
        if self.counted("running"):
            return False
        spent = self.allowed is not None and self.elapsed >= self.allowed
        return self.closed or self.ended >= self.trials or spent or self.deserted is not None


def progress(
    study: StudyRecord, silent: float = 0.0, counts: Counts | None = None, pace: Pace | None = None
) -> Progress:
    """The study as recorded.

    Args:
        silent: seconds since its record last changed, by the clock of whoever watches it. Stamps of the driver cannot
            tell: its machine's clock may be another.
        counts, pace: of the newest records of its trials, where they are kept; None: of `study.trials`.
    """
    counts = counts or summed(Counts(), study.trials)
    elapsed = study.seconds
    if counts.statuses["running"] and silent < LEASE_S:
        signs = [end for _, end in study.sessions]
        beat = max(signs, default=study.info.get("created", 0.0))
        elapsed += max([counts.newest, *signs]) - beat + silent if beat else 0.0
    allowed = study.spec.budget.hours and study.spec.budget.hours * 3600
    now = max([counts.newest, *(end for _, end in study.sessions)]) + silent
    return Progress(
        ended=counts.ended,
        trials=max(study.spec.budget.trials, counts.ended),  # a confirmation grows from round to round
        counts=tuple((status, counts.statuses[status]) for status in STATUSES if counts.statuses[status]),
        elapsed=elapsed,
        allowed=allowed,
        estimate=functools.partial(_time_left, study, counts, pace, elapsed, now),
        silent=silent,
        closed=study.ended is not None,
        driver=study.driver,
        epochs=bool(counts.epochs) or any(trial.epochs for trial in counts.unfinished),
        phases=tuple(_phase(trial) for trial in counts.unfinished if trial.status == "running"),
        now=now,
        stopping=study.stopping if study.driver == "open" else None,
        paused=study.paused is not None,
        hopeless=(study.ended or "").startswith(SAME_FAILURES),
    )


def _phase(trial: TrialRecord) -> Phase | None:
    attempt = trial.attempts[-1]
    return attempt.phase or ("training" if attempt.device else None)  # an older record has the device alone


def _time_left(study: StudyRecord, counts: Counts, pace: Pace | None, elapsed: float, now: float) -> float | None:
    if study.paused or study.stopping:
        return None
    left = time_left(study.spec, counts, pace or summed(Pace(), study.trials), elapsed, now, study.packing)
    hours = study.spec.budget.hours
    return left if left is None or hours is None else max(0.0, min(left, hours * 3600 - elapsed))


def glance(study: StudyRecord) -> Progress:
    """The study by a single look, which cannot see whether its record changes: its driver's stamps are compared with
    this machine's clock. Where a driver's clock is wrong, only watching can tell.
    """
    sign = last_sign(study)
    seen = progress(study, max(0.0, Clock().now() - sign) if study.driver == "open" else 0.0)
    return dataclasses.replace(seen, sign=sign)


def last_sign(study: StudyRecord) -> float:
    """When its driver gave the last sign of life, seconds since the epoch by the driver's clock."""
    return max([float(study.info.get("created") or 0.0), *(end for _, end in study.sessions)])


def survival(study: StudyRecord) -> list[Survival]:
    """All rungs in ascending order, also those that no trial has reached; none without pruning."""
    return summed(Rungs(study.spec), study.trials).survival


def failures(study: StudyRecord) -> list[tuple[list[int], str]]:
    """(numbers of the trials, first line of the reason) for each kind of failure, the newest first."""
    return summed(Failures(), study.trials).kinds


@dataclass(frozen=True)
class Step:
    """A command that a person may type next."""

    purpose: str
    command: str

    @classmethod
    def of(cls, purpose: str, words: str, home_option: str, rest: str = "") -> Step:
        """The command that `hpo.home.command` spells."""
        return cls(purpose, command(words, home_option, rest))


def _has_work(study: StudyRecord) -> bool:
    """Whether a driver would train: a trial has not ended, or the budget has trials left."""
    ended = sum(trial.outcome is not None and trial.outcome.final for trial in study.trials)
    return ended < max(len(study.trials), study.spec.budget.trials)


def continuing(study: StudyRecord, home_option: str) -> Step | None:
    """The command that trains more trials of the study; None if nothing is left to do, or while a driver runs it.

    Args:
        home_option: as of `next_steps`.
    """
    if study.ended:
        setting = study.ended.partition(":")[0]
        larger = " with a larger budget" if setting.startswith("budget.") else ""
        return Step.of(f"continue{larger}", f"resume {study.name}", home_option, f"{setting}=…")
    if study.driver != "open" and _has_work(study):
        return Step.of("continue the study", f"resume {study.name}", home_option)
    return None


def next_steps(study: StudyRecord, home_option: str) -> list[Step]:
    """What can be done with the study now, in this order. No command is proposed that would refuse the study.

    Args:
        home_option: `hpo.home.Home.option`, which every command needs.
    """

    def step(purpose: str, words: str, rest: str = "") -> Step:
        return Step.of(purpose, words, home_option, rest)

    first, confirmed, name = continuing(study, home_option), confirmation(study), study.name
    steps = [first] if first else []
    if study.best is None:
        return steps
    if confirmed is None or not confirmed.complete:
        steps.append(step("rule out luck: retrain with new seeds", f"confirm {name}"))
    if len(study.spec.objectives) > 1:
        steps.append(step("write a trial of the Pareto front", f"export {name}", "--pick PLACE"))
    steps.append(step("write the best configuration to a file", f"export {name}", "-o best.yaml"))
    if study.spec.shipped:  # hpo retrain refuses every other trainer
        steps.append(step("train on all data, then test once", "retrain best.yaml"))
    return steps


def undecided(study: StudyRecord) -> str | None:
    """Why it is not known yet what the study may still gain, where its budget asks for that; None if it is known."""
    budget = study.spec.budget
    asked = [name for name in ("patience", "min_gain_per_gpu_hour") if getattr(budget, name) is not None]
    if not asked or study.ended is not None:
        return None
    if (complete := study.count("complete")) < LEAST_COMPLETE:
        return f"budget.{asked[0]}: not known before {LEAST_COMPLETE} trials are complete; {complete} are"
    if budget.patience is not None and seed_noise(study) is None:
        return "budget.patience: not known, because nothing says how much seeds differ; a confirmation measures it"
    return None
