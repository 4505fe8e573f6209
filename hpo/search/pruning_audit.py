"""What the pruning of a study costs, judged by its controls: trials that trained to their end whatever ASHA said."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.search.asha import AshaPruner
from hpo.search.rank_statistics import RankStatistic, tau, winner_share, winner_weights
from hpo.search.rungs import decision_epochs, rung_resource, study_levels
from hpo.spec.configure import configure
from hpo.spec.study import Asha as Settings
from trainers import schedule
from trainers.api import TrainConfig

LEAST_CONTROLS = 3
"""Fewer have no order worth a figure."""
ENOUGH_CONTROLS = 8
"""Fewer give intervals, but no advice."""
TOLERATED = 0.1
"""Greatest chance to lose the winner that an advised setting may have."""
GRACE_PERIODS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
FACTORS = (2.0, 3.0, 4.0)
REHEARSED = 400
"""Curves sent through each setting that is tried; of fewer controls in several orders of arrival."""


@dataclass(frozen=True)
class RungAudit:
    """One rung."""

    level: float
    """In units of the study's resource."""
    controls: int
    """Controls that met it before their end."""
    tau: RankStatistic
    """Kendall's tau-b between the values there and those at the end."""
    retention: RankStatistic
    """The chance that the winner passes this rung, of those that met it unstopped."""


@dataclass(frozen=True)
class Rehearsal:
    """A setting tried on the controls' recorded curves."""

    grace_period: int
    reduction_factor: float
    share: float
    """Epochs that it trains, of all, 0 to 1."""
    lost: float
    """The chance that it prunes the winner, 0 to 1."""


@dataclass(frozen=True)
class Audit:
    """The whole finding."""

    controls: int
    """Controls that are complete."""
    pending: int
    """Controls that are not, or not yet."""
    rungs: tuple[RungAudit, ...]
    winner_pruned: RankStatistic
    """The chance that the winner would have been stopped somewhere."""
    present: Rehearsal | None
    """The study's own setting, tried like any other."""
    advised: Rehearsal | None
    """The cheapest setting that loses the winner with at most `TOLERATED`; None where there is none or too little to
    say so."""

    @property
    def enough(self) -> bool:
        """Whether there are enough controls for advice."""
        return self.controls >= ENOUGH_CONTROLS


def audit(study: StudyRecord) -> Audit:
    """Judge a study's pruning; of a study without controls nothing but their number is known."""
    chosen = [trial for trial in study.trials if trial.control]
    controls = _controls(study, (trial for trial in chosen if trial.complete))
    pending = len(chosen) - len(controls)
    if not study.spec.asha.enabled or len(controls) < LEAST_CONTROLS:
        return Audit(len(controls), pending, (), winner_share([], []), None, None)
    stopped = [any(not rung.keep for rung in one.trial.rungs) for one in controls]
    present, advised = _advice(study, controls) if len(controls) >= ENOUGH_CONTROLS else (None, None)
    return Audit(
        controls=len(controls),
        pending=pending,
        rungs=tuple(_rungs(study, controls)),
        winner_pruned=winner_share(stopped, [one.end for one in controls]),
        present=present,
        advised=advised,
    )


def remarks(study: StudyRecord, found: Audit) -> list[str]:
    """The finding in sentences, and how far to trust it."""
    asha = study.spec.asha
    if not asha.enabled:
        return ["ASHA is off in this study: nothing is pruned."]
    have = f"{found.controls} {'control' if found.controls == 1 else 'controls'} trained to the end"
    pending = f", {found.pending} did not or not yet" if found.pending else ""
    if not found.rungs:
        return [
            f"Too few controls: {have}{pending}, at least {LEAST_CONTROLS} are needed for any figure and "
            f"{ENOUGH_CONTROLS} for advice. Controls are the first enqueued trial and the share asha.controls "
            f"({asha.controls:g} here)."
        ]
    chance = found.winner_pruned
    lines = [
        f"{have}{pending}.",
        f"Estimated chance that the winner was pruned: {chance.value:.0%} (95 % interval {chance.low:.0%} to "
        f"{chance.high:.0%}).",
    ]
    if not found.enough:
        return [*lines, f"Too few controls for advice: at least {ENOUGH_CONTROLS} are needed."]
    if found.advised is None:
        return [
            *lines,
            f"No setting tried keeps the winner with {1 - TOLERATED:.0%}: values before half of the training say too "
            "little here. Raise asha.grace_period beyond that, or set asha.enabled: false.",
        ]
    if found.present is not None:
        lines.append(f"Present setting, tried on the controls' curves: {_setting(found.present)}.")
    return [*lines, f"Suggested: {_setting(found.advised)}."]


def _setting(one: Rehearsal) -> str:
    return (
        f"grace_period {one.grace_period}, reduction_factor {one.reduction_factor:g}, which trains {one.share:.0%} of "
        f"all epochs and prunes the winner with a chance of {one.lost:.0%}"
    )


@dataclass(frozen=True)
class _Control:
    """A trained control and what decides where it is judged."""

    trial: TrialRecord
    values: tuple[float, ...]
    """Validation accuracy after each epoch."""
    used: tuple[float, ...]
    """What it had used of the study's resource after each epoch."""
    stage_ends: tuple[int, ...]

    @property
    def end(self) -> float:
        """The value that counts."""
        return self.values[-1]

    def decided(self, asha: Settings) -> dict[int, float]:
        """The rung decided after each epoch, had the study had these settings."""
        levels = study_levels(asha, len(self.values))
        return decision_epochs(levels, self.used, self.stage_ends, asha.align)


def _controls(study: StudyRecord, trials: Iterable[TrialRecord]) -> list[_Control]:
    base = study.spec.base()
    by_compute = rung_resource(study.spec) == "compute"
    return [_control(configure(base, trial.values).train, trial, by_compute) for trial in trials]


def _control(train: TrainConfig, trial: TrialRecord, by_compute: bool) -> _Control:
    plan = schedule.stages(train.progressive, train.epochs)
    return _Control(
        trial=trial,
        values=tuple(epoch.metrics.val_accuracy for epoch in trial.epochs),
        used=tuple((one.metrics.compute or 0.0) if by_compute else float(one.metrics.epoch) for one in trial.epochs),
        stage_ends=tuple(stage.last_epoch for stage in plan),
    )


def _rungs(study: StudyRecord, controls: Sequence[_Control]) -> list[RungAudit]:
    """Values are read from the curves: beyond the rung that would have stopped it a control is not decided on."""
    found = []
    epochs = [{level: epoch for epoch, level in one.decided(study.spec.asha).items()} for one in controls]
    for level in study_levels(study.spec.asha, study.spec.train.epochs):
        met = [(one, one.values[at[level] - 1]) for one, at in zip(controls, epochs, strict=True) if level in at]
        judged = [(rung.keep, one.end) for one, _ in met for rung in one.trial.rungs if rung.rung == level]
        found.append(
            RungAudit(
                level=level,
                controls=len(met),
                tau=tau([value for _, value in met], [one.end for one, _ in met]),
                retention=winner_share([keep for keep, _ in judged], [end for _, end in judged]),
            )
        )
    return found


# -------------------------------------------------------------------------------------------------- advice


def _advice(study: StudyRecord, controls: Sequence[_Control]) -> tuple[Rehearsal, Rehearsal | None]:
    """The study's setting and the one to advise, both tried on the controls' curves."""
    asha = study.spec.asha
    half = max(1, study.spec.train.epochs // 2)
    tried = [
        rehearse(controls, asha.model_copy(update={"grace_period": period, "reduction_factor": factor}))
        for period in sorted({*(one for one in GRACE_PERIODS if one <= half), half})
        for factor in FACTORS
    ]
    safe = [one for one in tried if one.lost <= TOLERATED]
    return rehearse(controls, asha), min(safe, key=lambda one: (one.share, one.lost), default=None)


def rehearse(controls: Sequence[_Control], asha: Settings) -> Rehearsal:
    """Send the controls' curves through ASHA of other settings, one trial after another, in several random orders."""
    decided = [one.decided(asha) for one in controls]
    weights = winner_weights([one.end for one in controls])
    levels = study_levels(asha, len(controls[0].values))
    chance = random.Random(0)
    order = list(range(len(controls)))
    orders = math.ceil(REHEARSED / len(controls))
    lost = trained = 0.0
    for _ in range(orders):
        chance.shuffle(order)
        scheduler = AshaPruner(levels, asha.reduction_factor)
        for index in order:
            stopped = _stopped(scheduler, index, controls[index].values, decided[index])
            trained += stopped or len(controls[index].values)
            lost += float(weights[index]) if stopped else 0.0
    whole = orders * sum(len(one.values) for one in controls)
    return Rehearsal(asha.grace_period, asha.reduction_factor, trained / whole, lost / orders)


def _stopped(scheduler: AshaPruner, trial: int, values: Sequence[float], decided: Mapping[int, float]) -> int | None:
    """The epoch after which ASHA stops a trial, None if it never does."""
    for epoch, level in decided.items():
        decision = scheduler.decide(trial, level, values[epoch - 1])
        if decision is not None and not decision.keep:
            return epoch
    return None
