"""Records of invented studies in any state, for tests of the code that shows them."""

from __future__ import annotations

import dataclasses

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, RungDecision, StudyRecord, TrialRecord
from hpo.spec.study import Spec
from trainers.api import EpochMetrics

BEGAN = 1_700_000_000.0
"""When the studies began, seconds since the epoch."""

SPEC = Spec.model_validate(
    {
        "study": "cifar10_b0",
        "train": {"epochs": 16, "progressive": {"stages": 4}},
        "space": {
            "train.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "train.progressive.dropout.end": {"type": "float", "low": 0.0, "high": 0.5},
            "train.progressive.randaugment.end": {"type": "float", "low": 0.0, "high": 15.0},
            "train.progressive.stages": {"type": "int", "low": 1, "high": 4},
        },
        "asha": {"reduction_factor": 4, "resource": "epochs"},
        "budget": {"trials": 100},
    }
)


def trial(number: int, epochs: int, *, ending: Ending | None = None, reason: str = "", **fields: object) -> TrialRecord:
    """A trial after `epochs` epochs of 30 s, each of which adds 1 % accuracy; running unless `ending` is given."""
    records = tuple(
        EpochRecord(
            EpochMetrics(
                epoch=epoch,
                val_accuracy=min(0.99, 0.4 + 0.001 * number + 0.01 * epoch),
                stage=(epoch - 1) // 4,
                image_size=128 + 32 * ((epoch - 1) // 4),
                images_per_second=1234.5,
                seconds=30.0,
            ),
            BEGAN + 30.0 * epoch,
        )
        for epoch in range(1, epochs + 1)
    )
    values = {
        "train.lr": 0.00123456 + number * 1e-5,
        "train.progressive.dropout.end": 0.25,
        "train.progressive.randaugment.end": 9.875,
        "train.progressive.stages": 4,
    }
    rungs = tuple(
        RungDecision(level, 0.5, None, number, keep=not (ending is Ending.PRUNED and epochs == level))
        for level in (1.0, 4.0)
        if epochs >= level
    )
    record = TrialRecord(
        number,
        values=values,
        attempts=(Attempt(BEGAN, device="cuda", host="node-a"),),
        epochs=records,
        rungs=rungs,
        outcome=Outcome(ending, reason) if ending else None,
    )
    return dataclasses.replace(record, **fields)  # type: ignore[arg-type]


def study(*trials: TrialRecord, elapsed: float = 480.0, spec: Spec = SPEC) -> StudyRecord:
    """A study of these trials on which one driver has worked for `elapsed` seconds."""
    return StudyRecord(spec.study, spec, {"created": BEGAN}, trials=tuple(trials), sessions=((BEGAN, BEGAN + elapsed),))


def busy(running: int, spec: Spec = SPEC) -> StudyRecord:
    """A study with two complete trials, pruned ones, two kinds of failures, and `running` trials that train."""
    ended = [
        trial(0, 16, ending=Ending.COMPLETE, enqueued=True, control=True),
        trial(1, 16, ending=Ending.COMPLETE),
        *(trial(number, 1 if number % 3 else 4, ending=Ending.PRUNED) for number in range(2, 12)),
        trial(12, 0, ending=Ending.FAILED, reason="OutOfMemory: out of device memory training stage 3 at 224 px"),
        trial(13, 2, ending=Ending.FAILED, reason="Diverged: the training loss became nan in epoch 3\nTraceback"),
        trial(14, 0, ending=Ending.FAILED, reason="OutOfMemory: out of device memory training stage 3 at 224 px"),
    ]
    active = [trial(number, number % 16) for number in range(15, 15 + running)]
    return dataclasses.replace(study(*ended, *active, spec=spec), driver="open")
