"""How a trial ended and what caused its failure. Pure functions decide; Optuna and MLflow both record their answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from trainers.api import CheckpointError, DataError, Diverged, OutOfMemory, TrainerError, WeightsError

SAME_FAILURES = "stop_after_failures: "
"""How `StudyRecord.ended` begins if the first trials failed in the same way."""


class Ending(str, Enum):
    """The states of a trial that is not training."""

    COMPLETE = "complete"
    """Trained for all its epochs. Only complete trials can be the best configuration."""
    PRUNED = "pruned"
    """Stopped by ASHA at a rung."""
    STOPPED = "stopped"
    """Ended for good by a person, while it trained or waited to train on. `Outcome.reason` says by whom."""
    FAILED = "failed"
    """Diverged, crashed, ran out of memory or lost its worker too often. `Outcome.reason` says which."""
    INTERRUPTED = "interrupted"
    """The study stopped before the trial ended. A resumed study continues it from its last checkpoint."""


class Cause(str, Enum):
    """What made a trial fail. The search policy learns from a failure unless no configuration can cause it."""

    CONFIGURATION = "configuration"
    """The trial's own settings: it diverged or ran out of memory."""
    UNCLEAR = "unclear"
    """An exception that settings may cause, and a node that lacks something, too."""
    TRAINER = "trainer"
    """A mistake in the trainer, for example a report that is none."""
    MACHINE = "machine"
    """A module, a file or a device was missing or broke, or the worker was lost."""

    @property
    def teaches(self) -> bool:
        """Whether the failure says something about the configuration."""
        return self in (Cause.CONFIGURATION, Cause.UNCLEAR)

    @property
    def may_be_node(self) -> bool:
        """Whether the node may be at fault, so that the trial may succeed on another one."""
        return self in (Cause.UNCLEAR, Cause.MACHINE)


def cause_of(error: BaseException) -> Cause:
    """What an exception of a trainer says about its cause; the error that it was raised from counts, too."""
    told = (cause for link in _chain(error) if (cause := _told_by(link)) is not None)
    return next(told, Cause.UNCLEAR)


def lacks_memory(error: BaseException) -> bool:
    """Whether a trainer's exception says that a device had too little memory, perhaps because of other trials on it."""
    return any(map(_is_lack_of_memory, _chain(error)))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:  # `raise error from error` makes a circle
        yield link
        seen.add(id(link))
        link = link.__cause__


def _is_lack_of_memory(error: BaseException) -> bool:
    torchs = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return isinstance(error, OutOfMemory) or torchs


def _told_by(error: BaseException) -> Cause | None:
    if _is_lack_of_memory(error) or isinstance(error, Diverged | MemoryError | FloatingPointError):
        return Cause.CONFIGURATION
    if isinstance(error, ImportError | OSError | DataError | WeightsError | CheckpointError):
        return Cause.MACHINE
    if isinstance(error, TrainerError | SystemExit | KeyboardInterrupt | NameError | SyntaxError):
        return Cause.TRAINER
    return None


@dataclass(frozen=True)
class Outcome:
    """How and why a trial ended."""

    ending: Ending
    reason: str
    """One sentence for a person."""
    cause: Cause | None = None
    """What made it fail; None for other ends, and in records that are older than this field."""
    kept: bool = False
    """Whether it was pruned, but may be taken up again until its study ends: see `search.landing`."""

    @property
    def ended(self) -> bool:
        """Whether the trial trains no more, unless landing takes it up."""
        return self.ending is not Ending.INTERRUPTED

    @property
    def final(self) -> bool:
        """Whether the trial will never train again."""
        return self.ended and not self.kept


_OPTUNA_STATE = {
    Ending.COMPLETE: "COMPLETE",
    Ending.PRUNED: "PRUNED",
    Ending.STOPPED: "PRUNED",
    Ending.FAILED: "FAIL",
    Ending.INTERRUPTED: "WAITING",
}


def optuna_state(ending: Ending, *, judged: bool) -> str:
    """The name of Optuna's `TrialState`. A WAITING trial keeps its parameters and values until it is resumed.

    A trial that a person stopped teaches samplers what it had shown at its rungs, like a pruned one. Before the first
    rung it has shown nothing that can be compared, so it says nothing of its configuration.

    Args:
        judged: whether ASHA has decided about the trial at a rung.
    """
    return "FAIL" if ending is Ending.STOPPED and not judged else _OPTUNA_STATE[ending]


def stored_state(outcome: Outcome, *, judged: bool) -> str:
    """The name of the `TrialState` that the storage holds. Optuna lets no trial that has ended go on, so a pruned one
    that is kept waits there until its study ends, though samplers see it as pruned: `optuna_state`."""
    return _OPTUNA_STATE[Ending.INTERRUPTED] if outcome.kept else optuna_state(outcome.ending, judged=judged)


MLFLOW_STATUS = {
    Ending.COMPLETE: "FINISHED",
    Ending.PRUNED: "KILLED",
    Ending.STOPPED: "KILLED",
    Ending.FAILED: "FAILED",
    Ending.INTERRUPTED: "SCHEDULED",
}
"""Names of MLflow's `RunStatus`. MLflow's own Optuna storage also calls pruned trials KILLED."""


def classify(
    *,
    epochs: int,
    horizon: int,
    value: float | None,
    failure: str | None = None,
    cause: Cause = Cause.UNCLEAR,
    pruned_at: float | None = None,
    kept: bool = False,
    taken_up: Sequence[int] = (),
) -> Outcome:
    """The outcome of a trial that is no longer training.

    Args:
        epochs: number of epochs that the trial reported.
        horizon: epochs of a full training.
        value: the objective that it reported last; None if it reported nothing.
        failure: why it failed; None if it did not fail.
        cause: of the failure.
        pruned_at: the rung at which ASHA stopped it; None if ASHA did not.
        kept: whether it may be taken up again if ASHA stopped it.
        taken_up: epochs after which that has happened.
    """
    if failure is not None:
        return Outcome(Ending.FAILED, failure, cause)
    if value is not None and not math.isfinite(value):
        return Outcome(Ending.FAILED, f"the objective is {value} after epoch {epochs}", Cause.CONFIGURATION)
    if epochs >= horizon:
        story = f"; ASHA had stopped it, and landing took it up after epoch {taken_up[0]}" if taken_up else ""
        return Outcome(Ending.COMPLETE, f"trained for all {horizon} epochs{story}")
    if pruned_at is not None:
        return Outcome(Ending.PRUNED, f"below the cutoff of the rung at {pruned_at:g}", kept=kept)
    return Outcome(Ending.INTERRUPTED, f"stopped after epoch {epochs} of {horizon}")
