"""Was the pruning of a study right? Its controls say what it costs, its records say whether ASHA decided by its rule.

Controls are trials that train for all their epochs whatever ASHA decides about them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.search.asha import AshaPruner, Mismatch, replay
from hpo.search.rank_statistics import RankStatistic, tau, winner_share, winner_weights
from hpo.search.rungs import decision_epochs, rung_resource, study_levels
from hpo.spec.configure import configure
from hpo.spec.study import Asha as Settings
from trainers import schedule
from trainers.api import TrainConfig

LEAST_CONTROLS = 3
"""With fewer controls the ranks say nothing."""
ENOUGH_CONTROLS = 8
"""With fewer controls the audit shows intervals, but gives no advice."""
TOLERATED = 0.1
"""Greatest chance of pruning the winner that a suggested setting may have."""
GRACE_PERIODS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
FACTORS = (2.0, 3.0, 4.0)
REHEARSED = 400
"""Curves sent through each setting that is tried; fewer controls are sent in several orders of arrival."""


@dataclass(frozen=True)
class RungAudit:
    """What the controls say about one rung."""

    level: float
    """In units of the study's resource."""
    controls: int
    """Controls that reached it before their last epoch."""
    tau: RankStatistic
    """Rank agreement with the final result: Kendall's tau-b between the values at the rung and at the end."""
    retention: RankStatistic
    """The chance that the winner survives this rung, over the controls that reached it without being stopped before."""


@dataclass(frozen=True)
class Rehearsal:
    """A setting of ASHA, tried on the recorded curves of the controls."""

    grace_period: int
    reduction_factor: float
    share: float
    """The share of all epochs that it trains, 0 to 1."""
    lost: float
    """The chance that it prunes the winner, 0 to 1."""
    cost: float
    """How far the best control that it keeps lies below the best of all, on average, in units of the score."""


@dataclass(frozen=True)
class Audit:
    """All findings about a study."""

    controls: int
    """Complete controls."""
    pending: int
    """Controls that failed or are not complete yet."""
    rungs: tuple[RungAudit, ...]
    winner_pruned: RankStatistic
    """The chance that ASHA would have stopped the winner at some rung."""
    present: Rehearsal | None
    """The study's own setting, tried like the others."""
    advised: Rehearsal | None
    """The cheapest setting that prunes the winner with a chance of at most `TOLERATED`; None if there is none, or if
    there are too few controls."""
    decisions: int
    """Recorded decisions of ASHA."""
    mismatches: tuple[Mismatch, ...]
    """The decisions that do not follow from the values recorded before them."""
    taken_up: int = 0
    """Trials that trained on after ASHA had stopped them, because landing took them up. They are no controls: it chose
    them for what they promised."""
    landed: int = 0
    """Those of them that are complete."""

    @property
    def enough(self) -> bool:
        """Whether there are enough controls for advice."""
        return self.controls >= ENOUGH_CONTROLS


def audit(study: StudyRecord) -> Audit:
    """Audit the pruning of a study; without controls only its decisions can be checked."""
    chosen = [trial for trial in study.trials if trial.control]
    controls = _controls(study, (trial for trial in chosen if trial.complete))
    decisions = [(trial.number, decision) for trial in study.trials for decision in trial.rungs]
    result = Audit(
        controls=len(controls),
        pending=len(chosen) - len(controls),
        rungs=(),
        winner_pruned=winner_share([], []),
        present=None,
        advised=None,
        decisions=len(decisions),
        mismatches=tuple(replay(decisions, study.spec.asha.reduction_factor)),
        taken_up=sum(bool(trial.taken_up) for trial in study.trials),
        landed=sum(bool(trial.taken_up) and trial.complete for trial in study.trials),
    )
    if not study.spec.asha.enabled or len(controls) < LEAST_CONTROLS:
        return result
    stopped = [any(not decision.keep for decision in control.trial.rungs) for control in controls]
    present, advised = _advice(study, controls) if result.enough else (None, None)
    return replace(
        result,
        rungs=tuple(_rungs(study, controls)),
        winner_pruned=winner_share(stopped, [control.end for control in controls]),
        present=present,
        advised=advised,
    )


# ------------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True)
class _Control:
    """A complete control, and what decides when it is judged."""

    trial: TrialRecord
    values: tuple[float, ...]
    """Score after each epoch."""
    used: tuple[float, ...]
    """What it had used of the study's resource after each epoch."""
    stage_ends: tuple[int, ...]

    @property
    def end(self) -> float:
        """The final score."""
        return self.values[-1]

    def decided(self, asha: Settings) -> dict[int, float]:
        """The epochs after which rungs would be decided with these settings, and the rungs."""
        levels = study_levels(asha, len(self.values))
        return decision_epochs(levels, self.used, self.stage_ends, asha.align)


def _controls(study: StudyRecord, trials: Iterable[TrialRecord]) -> list[_Control]:
    base = study.spec.base()
    by_compute = rung_resource(study.spec) == "compute"
    return [_control(configure(base, trial.assigned).train, trial, by_compute) for trial in trials]


def _control(train: TrainConfig, trial: TrialRecord, by_compute: bool) -> _Control:
    plan = schedule.stages(train.progressive, train.epochs)
    return _Control(
        trial=trial,
        values=tuple(epoch.value for epoch in trial.epochs),
        used=tuple((metrics.compute or 0.0) if by_compute else float(metrics.epoch) for metrics in trial.metrics),
        stage_ends=tuple(stage.last_epoch for stage in plan),
    )


def _rungs(study: StudyRecord, controls: Sequence[_Control]) -> list[RungAudit]:
    """The values come from the curves: a control has no decisions after the one that would have stopped it."""
    audits = []
    epochs = [{level: epoch for epoch, level in control.decided(study.spec.asha).items()} for control in controls]
    for level in study_levels(study.spec.asha, study.spec.train.epochs):
        pairs = zip(controls, epochs, strict=True)
        arrived = [(control, control.values[at[level] - 1]) for control, at in pairs if level in at]
        ends = [control.end for control, _ in arrived]
        decided = [
            (decision.keep, control.end)
            for control, _ in arrived
            for decision in control.trial.rungs
            if decision.rung == level
        ]
        audits.append(
            RungAudit(
                level=level,
                controls=len(arrived),
                tau=tau([value for _, value in arrived], ends),
                retention=winner_share([keep for keep, _ in decided], [end for _, end in decided]),
            )
        )
    return audits


# ------------------------------------------------------------------------------------------------- advice


def _advice(study: StudyRecord, controls: Sequence[_Control]) -> tuple[Rehearsal, Rehearsal | None]:
    """The study's own setting and the suggested one, both tried on the curves of the controls."""
    asha = study.spec.asha
    half = max(1, study.spec.train.epochs // 2)
    periods = sorted({*(period for period in GRACE_PERIODS if period <= half), half})
    tried = [
        rehearse(controls, asha.model_copy(update={"grace_period": period, "reduction_factor": factor}))
        for period in periods
        for factor in FACTORS
    ]
    safe = [rehearsal for rehearsal in tried if rehearsal.lost <= TOLERATED]
    cheapest = min(safe, key=lambda rehearsal: (rehearsal.share, rehearsal.lost), default=None)
    return rehearse(controls, asha), cheapest


def rehearse(controls: Sequence[_Control], asha: Settings) -> Rehearsal:
    """Send the curves of the controls through ASHA with other settings, one trial after another, in several random
    orders."""
    decided = [control.decided(asha) for control in controls]
    weights = winner_weights([control.end for control in controls])
    levels = study_levels(asha, len(controls[0].values))
    chance = random.Random(0)
    order = list(range(len(controls)))
    orders = math.ceil(REHEARSED / len(controls))
    lost = trained = cost = 0.0
    best = max(control.end for control in controls)
    for _ in range(orders):
        chance.shuffle(order)
        pruner = AshaPruner(levels, asha.reduction_factor)
        kept = -math.inf
        for index in order:
            stopped = _stopped(pruner, index, controls[index].values, decided[index])
            trained += stopped or len(controls[index].values)
            lost += float(weights[index]) if stopped else 0.0
            kept = kept if stopped else max(kept, controls[index].end)
        cost += best - kept
    whole = orders * sum(len(control.values) for control in controls)
    return Rehearsal(asha.grace_period, asha.reduction_factor, trained / whole, lost / orders, cost / orders)


def _stopped(pruner: AshaPruner, trial: int, values: Sequence[float], decided: Mapping[int, float]) -> int | None:
    """The epoch after which ASHA stops a trial; None if it does not."""
    for epoch, level in decided.items():
        decision = pruner.decide(trial, level, values[epoch - 1])
        if decision is not None and not decision.keep:
            return epoch
    return None
