"""The records of a study that trains on several workers in virtual time, at each of its events."""

from __future__ import annotations

import dataclasses
import heapq
import random
from collections.abc import Iterator

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, StudyRecord, TrialRecord
from hpo.search.asha import AshaPruner
from hpo.search.rungs import study_levels
from hpo.spec.study import Spec
from tests.support.sample_records import BEGAN, SPEC
from trainers import schedule
from trainers.api import EpochMetrics

START_S = 40.0
"""Before the first trial, and before the first epoch of a worker."""


def specification(
    *, epochs: int = 16, trials: int = 60, stages: int = 1, factor: float = 4, prune: bool = True
) -> Spec:
    progressive = {"stages": stages} if stages > 1 else {"stages": 1}
    data = SPEC.model_dump(exclude_unset=True)
    data["space"] = {"train.lr": data["space"]["train.lr"]}
    data |= {
        "train": {"epochs": epochs, "progressive": progressive},
        "asha": {"enabled": prune, "reduction_factor": factor, "resource": "epochs"},
        "budget": {"trials": trials},
    }
    return Spec.model_validate(data)


def simulate(spec: Spec, slots: int, *, seconds: float = 60.0, seed: int = 0) -> Iterator[tuple[float, StudyRecord]]:
    """Yields (time, record) after each event; the last one is the end of the study.

    An epoch at the largest image size takes `seconds`, more or less; one at smaller images takes less.
    """
    chance, asha = random.Random(seed), AshaPruner(study_levels(spec.asha, spec.train.epochs), 4)
    if spec.asha.enabled:
        asha = AshaPruner(study_levels(spec.asha, spec.train.epochs), spec.asha.reduction_factor)
    plan = schedule.stages(spec.base().train.progressive, spec.train.epochs)
    largest = max(stage.size for stage in plan)
    trials: dict[int, TrialRecord] = {}
    quality: dict[int, float] = {}
    events: list[tuple[float, int]] = []

    def duration(epoch: int) -> float:
        return seconds * (schedule.stage_of(plan, epoch).size / largest) ** 2 * chance.uniform(0.9, 1.1)

    def begin(time: float, startup: float) -> None:
        number = len(trials)
        if number < spec.budget.trials:
            trials[number] = TrialRecord(
                number, {"train.lr": 1e-3}, enqueued=number == 0, control=number == 0, attempts=(Attempt(BEGAN + time),)
            )
            quality[number] = chance.random()
            heapq.heappush(events, (time + startup + duration(1), number))

    for _ in range(slots):
        begin(START_S, START_S)
    while events:
        time, number = heapq.heappop(events)
        trial = trials[number]
        epoch, began = len(trial.epochs) + 1, trial.epochs[-1].recorded if trial.epochs else None
        took = BEGAN + time - (began or trial.attempts[0].started + (START_S if number < slots else 0.0))
        value = quality[number] + 0.001 * epoch
        metrics = EpochMetrics(epoch=epoch, val_accuracy=value, seconds=took)
        judged = spec.asha.enabled and epoch < spec.train.epochs
        decision = asha.decide(number, epoch, value) if judged else None
        trial = dataclasses.replace(
            trial,
            epochs=(*trial.epochs, EpochRecord(metrics, BEGAN + time)),
            rungs=(*trial.rungs, *([decision] if decision else [])),
        )
        ending = Ending.COMPLETE if epoch == spec.train.epochs else None
        if decision is not None and not decision.keep and not trial.control:
            ending = Ending.PRUNED
        if ending is not None:
            trial = dataclasses.replace(trial, outcome=Outcome(ending, ""), finished=BEGAN + time)
        else:
            heapq.heappush(events, (time + duration(epoch + 1), number))
        trials[number] = trial
        if ending is not None:
            begin(time, 0.5)
        yield (
            time,
            StudyRecord(
                spec.study,
                spec,
                {"created": BEGAN},
                trials=tuple(trials.values()),
                sessions=((BEGAN, BEGAN + time),),
                driver="open",
            ),
        )
