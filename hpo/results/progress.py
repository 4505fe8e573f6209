"""How far a study has come: counts, time left, survival of rungs, failures, next steps. All from its record."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from hpo.home import command
from hpo.ledger.lock import LEASE_S
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import confirmation, seed_noise
from hpo.results.gpu_hours import newest_record
from hpo.results.summary import STATUSES
from hpo.search.forecast import plan
from hpo.search.rungs import deepest_rungs, study_levels
from hpo.spec.study import LEAST_COMPLETE
from hpo.text import duration, first_line

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


@dataclass(frozen=True)
class Survival:
    """How many trials reached one rung, and what happened to them there and before the next one."""

    level: float
    """In units of the study's ASHA resource."""
    reached: int
    """The sum of `passed` and `stopped`."""
    passed: int
    """Trials that trained on, controls included. They reach the next rung, or the end, but for those in `left`."""
    controls: int
    """The controls among them: ASHA never stops these, also where it would have stopped another trial."""
    stopped: int
    left: int
    """Trials that passed, but failed or have not ended before the next rung, or before the end."""


def progress(study: StudyRecord, silent: float = 0.0) -> Progress:
    """The study as recorded.

    Args:
        silent: seconds since its record last changed, by the clock of whoever watches it. Stamps of the driver cannot
            tell: its machine's clock may be another.
    """
    elapsed = study.seconds
    if study.count("running") and silent < LEASE_S:
        beat = max((end for _, end in study.sessions), default=study.info.get("created", 0.0))
        elapsed += newest_record(study) - beat + silent if beat else 0.0
    allowed = study.spec.budget.hours and study.spec.budget.hours * 3600
    return Progress(
        ended=sum(study.count(ending.value) for ending in Ending if ending is not Ending.INTERRUPTED),
        trials=study.spec.budget.trials,
        counts=tuple((status, study.count(status)) for status in STATUSES if study.count(status)),
        elapsed=elapsed,
        allowed=allowed,
        left=_left(study, elapsed, allowed),
        silent=silent,
        closed=study.ended is not None,
        driver=study.driver,
    )


def _left(study: StudyRecord, elapsed: float, allowed: float | None) -> float | None:
    """Seconds to the end, if epochs stay as fast and trials end as early as so far."""
    ended = done = 0
    unfinished = []
    for trial in study.trials:
        if trial.outcome is not None and trial.outcome.final:
            ended += 1
            done += len(trial.epochs)
        else:
            unfinished.append(trial)
    expected = plan(study.spec)
    typical = (done + CAUTION * expected.epochs / expected.trials) / (ended + CAUTION)
    done += sum(len(trial.epochs) for trial in unfinished)
    if not done:
        return None
    todo = typical * max(0, study.spec.budget.trials - len(study.trials))
    for trial in unfinished:
        length = study.spec.train.epochs if trial.control else typical
        todo += max(0.0, length - len(trial.epochs))
    left = elapsed / done * todo
    return left if allowed is None else max(0.0, min(left, allowed - elapsed))


def survival(study: StudyRecord) -> list[Survival]:
    """All rungs in ascending order, also those that no trial has reached."""
    spec = study.spec
    if not spec.asha.enabled:
        return []
    deepest, judged = deepest_rungs(spec), set(study_levels(spec.asha, spec.train.epochs))
    depths, controls, stopped = Counter[float](), Counter[float](), Counter[float | None]()
    for trial in study.trials:  # the whole training is the last rung, 0 is before the first one
        depth = math.inf if trial.complete else deepest(trial) or 0.0
        depths[depth] += 1
        controls[depth] += trial.control
        stopped[trial.pruned_at] += 1
        judged.update(trial.judged)
    levels = sorted(judged)
    here = [sum(count for depth, count in depths.items() if depth >= level) for level in [*levels, math.inf]]
    return [
        Survival(
            level,
            reached=count,
            passed=count - stopped[level],
            controls=sum(count for depth, count in controls.items() if depth >= level),
            stopped=stopped[level],
            left=count - stopped[level] - after,
        )
        for level, count, after in zip(levels, here[:-1], here[1:], strict=True)
    ]


def running(study: StudyRecord) -> list[TrialRecord]:
    """Running trials, the oldest first: they have passed the most rungs."""
    return [trial for trial in study.trials if trial.status == "running"]


def failures(study: StudyRecord) -> list[tuple[list[int], str]]:
    """(numbers of the trials, first line of the reason) for each kind of failure, the newest first."""
    numbers: dict[str, list[int]] = {}
    for trial in study.trials:
        if trial.outcome is not None and trial.outcome.ending is Ending.FAILED:
            reason = first_line(trial.outcome.reason)
            numbers.setdefault(reason, []).append(trial.number)
    return sorted(((failed, reason) for reason, failed in numbers.items()), key=lambda item: -item[0][-1])


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


def next_steps(study: StudyRecord, home_option: str) -> list[Step]:
    """What can be done with the study now, in this order. No command is proposed that would refuse the study.

    Args:
        home_option: `hpo.home.Home.option`, which every command needs.
    """

    def step(purpose: str, words: str, rest: str = "") -> Step:
        return Step.of(purpose, words, home_option, rest)

    steps, confirmed, name = [], confirmation(study), study.name
    if study.ended:
        setting = study.ended.partition(":")[0]
        larger = " with a larger budget" if setting.startswith("budget.") else ""
        steps.append(step(f"continue{larger}", f"resume {name}", f"{setting}=…"))
    elif study.driver != "open" and _has_work(study):
        steps.append(step("continue the study", f"resume {name}"))
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
