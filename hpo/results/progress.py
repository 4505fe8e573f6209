"""How far a study has come: counts, time left, survival of rungs, failures, next steps. All from its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpo.home import command
from hpo.ledger.lock import LEASE_S
from hpo.ledger.records import StudyRecord
from hpo.results.confirmation import confirmation, seed_noise
from hpo.results.summary import STATUSES
from hpo.results.sums.parts import Counts, Failures, Rungs, Survival, summed
from hpo.search.forecast import plan
from hpo.spec.study import LEAST_COMPLETE, Spec
from hpo.text import duration

CAUTION = 2.0
"""The estimate of the time left mixes the lengths of ended trials with the forecast; this is the weight of the
forecast, in trials."""


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
    left: float | None
    """Estimated seconds to the end; None before the first epoch."""
    silent: float
    """Seconds for which somebody who watches the study has seen no sign of life of its driver."""
    closed: bool = False
    """Whether the study reached its budget."""
    driver: Literal["none", "open", "dead"] = "none"
    """Of the record: whether a driver has the study open."""

    @property
    def deserted(self) -> str | None:
        """Why nobody runs the study, in words; None while a driver may be alive."""
        if self.driver == "none":
            return "no driver runs it"
        if self.driver == "dead":
            return "its driver has died"
        return f"no heartbeat for {duration(self.silent)}" if self.silent > LEASE_S else None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen unless somebody resumes the study."""
        if dict(self.counts).get("running"):
            return False
        spent = self.allowed is not None and self.elapsed >= self.allowed
        return self.closed or self.ended >= self.trials or spent or self.deserted is not None


def progress(study: StudyRecord, silent: float = 0.0, counts: Counts | None = None) -> Progress:
    """The study as recorded.

    Args:
        silent: seconds since its record last changed, by the clock of whoever watches it. Stamps of the driver cannot
            tell: its machine's clock may be another.
        counts: of the newest records of its trials, where they are kept; None: of `study.trials`.
    """
    counts = counts or summed(Counts(), study.trials)
    elapsed = study.seconds
    if counts.statuses["running"] and silent < LEASE_S:
        signs = [end for _, end in study.sessions]
        beat = max(signs, default=study.info.get("created", 0.0))
        elapsed += max([counts.newest, *signs]) - beat + silent if beat else 0.0
    allowed = study.spec.budget.hours and study.spec.budget.hours * 3600
    return Progress(
        ended=counts.ended,
        trials=study.spec.budget.trials,
        counts=tuple((status, counts.statuses[status]) for status in STATUSES if counts.statuses[status]),
        elapsed=elapsed,
        allowed=allowed,
        left=_left(study.spec, counts, elapsed, allowed),
        silent=silent,
        closed=study.ended is not None,
        driver=study.driver,
    )


def _left(spec: Spec, counts: Counts, elapsed: float, allowed: float | None) -> float | None:
    """Seconds to the end, if epochs stay as fast and trials end as early as so far."""
    unfinished, expected = counts.unfinished, plan(spec)
    typical = (counts.epochs_of_ended + CAUTION * expected.epochs / expected.trials) / (counts.ended + CAUTION)
    done = counts.epochs_of_ended + sum(len(trial.epochs) for trial in unfinished)
    if not done:
        return None
    todo = typical * max(0, spec.budget.trials - counts.trials)
    for trial in unfinished:
        length = spec.train.epochs if trial.control else typical
        todo += max(0.0, length - len(trial.epochs))
    left = elapsed / done * todo
    return left if allowed is None else max(0.0, min(left, allowed - elapsed))


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
    budget, complete = study.spec.budget, [trial for trial in study.trials if trial.complete]
    asked = [name for name in ("patience", "min_gain_per_gpu_hour") if getattr(budget, name) is not None]
    if not asked or study.ended is not None:
        return None
    if len(complete) < LEAST_COMPLETE:
        return f"budget.{asked[0]}: not known before {LEAST_COMPLETE} trials are complete; {len(complete)} are"
    if budget.patience is not None and seed_noise(study) is None:
        return "budget.patience: not known, because nothing says how much seeds differ; a confirmation measures it"
    return None
