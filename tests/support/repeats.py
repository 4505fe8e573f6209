"""Repeats of configurations with new seeds, as a confirmation records them, and what it concludes from them."""

from __future__ import annotations

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import EpochRecord, Repeat, TrialRecord
from hpo.results.confirmation import Confirmation, evaluate
from hpo.spec.study import Spec
from tests.support.sample_records import BEGAN, SPEC
from trainers.api import EpochMetrics

SIZES = SPEC.model_copy(
    update={"space": {**SPEC.space, "train.progressive.size.end": Spec.model_validate(
        {"study": "s", "space": {"train.progressive.size.end": {"type": "int", "low": 128, "high": 256}}}
    ).space["train.progressive.size.end"]}}
)  # fmt: skip


def again(number: int, accuracies: list[float | None], *, size: int = 256, baseline: bool = False) -> list[TrialRecord]:
    """A configuration's repeats, one per seed; None for one that failed."""
    found = []
    for index, value in enumerate(accuracies):
        epochs = () if value is None else (EpochRecord(EpochMetrics(epoch=16, val_accuracy=value), BEGAN),)
        ending = Ending.FAILED if value is None else Ending.COMPLETE
        values = {"train.progressive.stages": 1, "train.progressive.size.end": size}
        repeat = Repeat(number, index, index, baseline)
        found.append(TrialRecord(len(found), values, epochs=epochs, outcome=Outcome(ending, ""), repeat=repeat))
    return found


def judged(*configurations: list[TrialRecord]) -> Confirmation:
    """What a confirmation of these configurations concludes."""
    return evaluate(SIZES, [one for trials in configurations for one in trials])
