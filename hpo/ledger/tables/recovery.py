"""What a driver that died has left half-written. Pure: `hpo.ledger.writer` writes what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.ledger.attributes import of_trial
from hpo.ledger.outcome import Outcome, classify, stored_state
from hpo.ledger.records import EpochRecord, TrialRecord
from hpo.ledger.tables.names import START_KEY

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Repair:
    """What Optuna lacks of one trial."""

    trial: TrialRecord
    unreported: tuple[EpochRecord, ...]
    """Epochs whose value Optuna does not have."""
    outcome: Outcome | None
    """How the trial ended; None if that is recorded."""


def repairs(
    stored: Iterable[FrozenTrial], trials: Mapping[int, TrialRecord], epochs: int, *, keep: bool = False
) -> Iterator[Repair]:
    """What is missing of each trial that has started and that Optuna does not call finished.

    Args:
        stored: the trials as Optuna has them.
        trials: their records by number.
        epochs: epochs of a full training.
        keep: whether pruned trials may be taken up again.
    """
    for frozen in stored:
        trial = trials[frozen.number]
        if not trial.started or frozen.state.is_finished():
            continue
        outcome = _outcome(trial, epochs, keep)
        state = stored_state(outcome, judged=bool(trial.rungs))
        recorded = trial.outcome == outcome and frozen.state.name == state
        unreported = tuple(epoch for epoch in trial.epochs if epoch.metrics.epoch not in frozen.intermediate_values)
        yield Repair(trial, unreported, None if recorded else outcome)


def _outcome(trial: TrialRecord, epochs: int, keep: bool) -> Outcome:
    if trial.outcome is not None and trial.outcome.ended:
        return trial.outcome
    return classify(
        epochs=len(trial.epochs),
        horizon=epochs,
        value=trial.value,
        pruned_at=trial.pruned_at,
        kept=keep,
        taken_up=trial.taken_up,
    )


def half_asked(running: Iterable[FrozenTrial], trials: Mapping[int, TrialRecord]) -> Iterator[FrozenTrial]:
    """Trials that Optuna has begun but no driver has: the driver died while it asked for them.

    They are put back and asked for again with the same number and parameters, so that the study has neither a gap nor
    an extra trial.
    """
    for frozen in running:
        trial = trials.get(frozen.number)
        if not of_trial(frozen).get(START_KEY) and (trial is None or not trial.started):
            yield frozen


def last_sign_of_life(trials: Iterable[TrialRecord], earlier: Sequence[tuple[float, float]]) -> float:
    """When the workers of the trials that a dead driver left RUNNING were last known to train, in seconds since the
    epoch: the newest record of the study.

    Args:
        earlier: (start, last sign of life) of the drivers before this one.
    """
    signs = [end for _, end in earlier]
    for trial in trials:
        signs.append(trial.newest)
    return max(signs, default=0.0)
