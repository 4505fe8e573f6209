"""How far a study is, computed from its record alone: counts, time left, rung survival, failures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.search.forecast import plan
from hpo.search.rungs import study_levels
from hpo.text import first_line

SILENT_S = 120.0
"""A driver gives a sign of life every 30 s; one that is silent for so long is taken for gone."""
CAUTION = 2.0
"""Weight of what ASHA should do, in trials, against what the ended trials did."""


@dataclass(frozen=True)
class Progress:
    """A study at one moment."""

    ended: int
    """Trials that will never train again."""
    trials: int
    """The budget."""
    counts: tuple[tuple[str, int], ...]
    """(status, number of trials) in a fixed order, none of them 0."""
    elapsed: float
    """Wall-clock seconds of all drivers."""
    allowed: float | None
    """The budget in seconds, None for no limit."""
    left: float | None
    """Estimated seconds to the end; None before the first epoch."""
    silent: float
    """Seconds since the last sign of life of a driver."""
    closed: bool = False
    """Whether its budget has ended it."""

    @property
    def over(self) -> bool:
        """Whether nothing more will happen unless a person resumes or extends the study."""
        running = dict(self.counts).get("running", 0)
        if running:
            return False
        spent = self.allowed is not None and self.elapsed >= self.allowed
        return self.closed or self.ended >= self.trials or spent or self.silent > SILENT_S


@dataclass(frozen=True)
class Survival:
    """What happened at one rung."""

    level: float
    """In units of the study's ASHA resource."""
    reached: int
    passed: int
    stopped: int


def progress(study: StudyRecord, now: float) -> Progress:
    """The study at `now`, seconds since the epoch."""
    found = Counter(trial.status for trial in study.trials)
    kinds = ("complete", "pruned", "failed", "interrupted", "running", "waiting")
    sign = max([end for _, end in study.sessions], default=study.info.get("created", now))
    silent = max(0.0, now - max([sign, *(trial.epochs[-1].recorded for trial in study.trials if trial.epochs)]))
    alive = found["running"] and silent < SILENT_S
    elapsed = study.seconds + (max(0.0, now - sign) if alive else 0.0)
    allowed = study.spec.budget.hours and study.spec.budget.hours * 3600
    return Progress(
        ended=sum(trial.outcome is not None and trial.outcome.final for trial in study.trials),
        trials=study.spec.budget.trials,
        counts=tuple((kind, found[kind]) for kind in kinds if found[kind]),
        elapsed=elapsed,
        allowed=allowed,
        left=_left(study, elapsed, allowed),
        silent=silent,
        closed=study.ended is not None,
    )


def _left(study: StudyRecord, elapsed: float, allowed: float | None) -> float | None:
    """Seconds to the end, if epochs go on as fast as they did and trials end as early."""
    done = sum(len(trial.epochs) for trial in study.trials)
    if not done:
        return None
    expected = plan(study.spec)
    ended = [len(trial.epochs) for trial in study.trials if trial.outcome is not None and trial.outcome.final]
    typical = (sum(ended) + CAUTION * expected.epochs / expected.trials) / (len(ended) + CAUTION)
    unfinished = [trial for trial in study.trials if trial.outcome is None or not trial.outcome.final]
    todo = sum(max(0.0, (study.spec.train.epochs if one.control else typical) - len(one.epochs)) for one in unfinished)
    todo += typical * max(0, study.spec.budget.trials - len(study.trials))
    left = elapsed / done * todo
    return left if allowed is None else max(0.0, min(left, allowed - elapsed))


def survival(study: StudyRecord) -> list[Survival]:
    """Every rung, ascending; one nobody has reached is listed too."""
    spec = study.spec
    if not spec.asha.enabled:
        return []
    at: dict[float, list[bool]] = {level: [] for level in study_levels(spec.asha, spec.train.epochs)}
    for trial in study.trials:
        for rung in trial.rungs:
            at.setdefault(rung.rung, []).append(trial.pruned_at == rung.rung)
    return [Survival(level, len(stops), len(stops) - sum(stops), sum(stops)) for level, stops in sorted(at.items())]


def running(study: StudyRecord) -> list[TrialRecord]:
    """Trials being trained, the oldest first: they have survived most."""
    return [trial for trial in study.trials if trial.status == "running"]


def failures(study: StudyRecord) -> list[tuple[list[int], str]]:
    """(numbers of the trials, first line of the reason) of every kind of failure, the latest kind first."""
    found: dict[str, list[int]] = {}
    for trial in study.trials:
        if trial.outcome is not None and trial.outcome.ending is Ending.FAILED:
            reason = first_line(trial.outcome.reason)
            found.setdefault(reason, []).append(trial.number)
    return sorted(((numbers, reason) for reason, numbers in found.items()), key=lambda item: -item[0][-1])
