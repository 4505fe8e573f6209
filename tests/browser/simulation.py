"""Simulated studies as records: learning curves, workers, ASHA, failures and lost workers, without any training."""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
from collections.abc import Mapping

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, RungDecision, StudyRecord, TrialRecord
from hpo.search.asha import AshaPruner, rung_levels
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec
from trainers.api import EpochMetrics, Progressive, SizeRamp
from trainers.schedule import Stage, compute, stage_of, stages

BEGIN = 1_750_000_000.0
BASELINE: dict[str, Choice] = {
    "train.lr": 1e-3,
    "train.optimizer": "adamw",
    "train.progressive.dropout.end": 0.3,
    "train.progressive.stages": 4,
    "train.progressive.size.start": 128,
}
INFO = {
    "identity": "0" * 32,
    "created": BEGIN,
    "host": "node-1",
    "platform": "Linux",
    "git_commit": "4f55f8b" + "0" * 33,
    "versions": {"python": "3.11.7", "torch": "2.11.0", "optuna": "5.0.0", "ray": "2.60.0"},
    "data": {"num_classes": 10, "train_count": 45_000, "validation_count": 5_000, "split_hash": "ab" * 32},
}


def study_spec(name: str = "cifar10", epochs: int = 32, **changes: object) -> Spec:
    """A study with logarithmic, integer, conditional and categorical parameters, like the shipped ones."""
    settings: dict[str, object] = {
        "study": name,
        "description": "EfficientNetV2-S, fine-tuned on CIFAR-10 with progressive learning.",
        "train": {"epochs": epochs, "progressive": {"size": {"end": 300}}},
        "space": {
            "train.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "train.optimizer": {"type": "categorical", "choices": ["adamw", "sgd", "lamb"]},
            "train.progressive.dropout.end": {"type": "float", "low": 0.1, "high": 0.5},
            "train.progressive.stages": {"type": "int", "low": 1, "high": 4},
            "train.progressive.size.start": {
                "type": "int",
                "low": 128,
                "high": 288,
                "step": 32,
                "when": {"train.progressive.stages": {"ge": 2}},
            },
        },
        "enqueue": [BASELINE],
        "asha": {"reduction_factor": 4, "grace_period": 2, "resource": "epochs"},
        "budget": {"trials": 40},
    }
    return Spec.model_validate(settings | changes)


def simulated_study(
    name: str = "cifar10",
    *,
    trials: int = 40,
    workers: int = 4,
    epochs: int = 32,
    seed: int = 0,
    lift: float = 0.0,
    device: str = "cuda",
    **changes: object,
) -> StudyRecord:
    """A finished study in which ASHA stops some trials, some fail, and some lose their worker."""
    return _World(study_spec(name, epochs, **changes), random.Random(seed), lift, device).run(trials, workers)


class _World:
    def __init__(self, spec: Spec, rng: random.Random, lift: float, device: str) -> None:
        self.spec, self.rng, self.lift, self.device = spec, rng, lift, device
        asha = spec.asha
        levels = rung_levels(asha.grace_period, asha.reduction_factor, spec.train.epochs)
        self.asha = AshaPruner(levels, asha.reduction_factor)

    def run(self, count: int, workers: int) -> StudyRecord:
        """Simulate every event in the order of its time, so that ASHA decides as in a real study."""
        trials: dict[int, TrialRecord] = {}
        free = [(BEGIN + 2.0 + worker, worker) for worker in range(workers)]
        begun: set[int] = set()
        reports: list[tuple[float, int, int]] = []  # time, trial, worker
        while reports or len(trials) < count:
            if free and len(trials) < count and (not reports or free[0] <= reports[0]):
                now, worker = heapq.heappop(free)
                number = len(trials)
                trials[number] = self._start(number, worker, now)
                start_up = 0.4 if worker in begun else 11.0
                begun.add(worker)
                heapq.heappush(reports, (now + start_up + self._seconds(trials[number], 1), number, worker))
                continue
            now, number, worker = heapq.heappop(reports)
            trials[number] = trial = self._report(trials[number], now)
            if trial.outcome is not None:
                heapq.heappush(free, (now + self.rng.uniform(0.1, 0.6), worker))
            else:
                delay = self._lost(trial, now, trials) if number % 13 == 5 and len(trial.epochs) == 1 else 0.2
                again = now + delay + self._seconds(trial, len(trial.epochs) + 1)
                heapq.heappush(reports, (again, number, worker))
        end = max((trial.finished or BEGIN for trial in trials.values()), default=BEGIN) + 3.0
        return StudyRecord(self.spec.study, self.spec, dict(INFO), tuple(trials.values()), ((BEGIN, end),))

    def _start(self, number: int, worker: int, now: float) -> TrialRecord:
        return TrialRecord(
            number,
            BASELINE if number == 0 else self._draw(),
            seed=1000 + number,
            enqueued=number == 0,
            control=number == 0,
            attempts=(Attempt(now, 0, "node-1", self.device, 4100 + worker),),
        )

    def _lost(self, trial: TrialRecord, now: float, trials: dict[int, TrialRecord]) -> float:
        """Let the worker die six seconds after its first report; return the seconds until another process continues."""
        (first,) = trial.attempts
        lost = dataclasses.replace(first, lost="the worker died (exit code 137)")
        second = dataclasses.replace(first, started=now + 6.0, resumed_after=1, pid=(first.pid or 0) + 100)
        trials[trial.number] = dataclasses.replace(trial, attempts=(lost, second))
        return 6.0 + 11.0

    def _draw(self) -> dict[str, Choice]:
        count = self.rng.randint(1, 4)
        values: dict[str, Choice] = {
            "train.lr": 10 ** self.rng.uniform(-4, -2),
            "train.optimizer": self.rng.choice(["adamw", "sgd", "lamb"]),
            "train.progressive.dropout.end": self.rng.uniform(0.1, 0.5),
            "train.progressive.stages": count,
        }
        return values | ({"train.progressive.size.start": self.rng.randrange(128, 289, 32)} if count > 1 else {})

    def _plan(self, trial: TrialRecord) -> tuple[Stage, ...]:
        start = int(trial.values.get("train.progressive.size.start") or 128)
        count = int(trial.values["train.progressive.stages"] or 1)
        return stages(Progressive(stages=count, size=SizeRamp(start=start, end=300)), self.spec.train.epochs)

    def _seconds(self, trial: TrialRecord, epoch: int) -> float:
        return 14.0 * (stage_of(self._plan(trial), epoch).size / 300) ** 2 + 2.0

    def _report(self, trial: TrialRecord, now: float) -> TrialRecord:
        epoch = len(trial.epochs) + 1
        if accident := _accident(trial.number, epoch):
            return dataclasses.replace(trial, outcome=Outcome(Ending.FAILED, accident), finished=now)
        metrics = self._metrics(trial, epoch)
        last = epoch == self.spec.train.epochs
        decision = None if last else self.asha.decide(trial.number, float(epoch), metrics.val_accuracy)
        recorded = decision is None or decision in trial.rungs
        trial = dataclasses.replace(
            trial,
            epochs=(*trial.epochs, EpochRecord(metrics, now)),
            rungs=trial.rungs if recorded or decision is None else (*trial.rungs, decision),
        )
        ending = self._ending(trial, decision)
        return trial if ending is None else dataclasses.replace(trial, outcome=ending, finished=now + 0.1)

    def _ending(self, trial: TrialRecord, decision: RungDecision | None) -> Outcome | None:
        if len(trial.epochs) == self.spec.train.epochs:
            return Outcome(Ending.COMPLETE, f"trained for all {self.spec.train.epochs} epochs")
        if decision is not None and not decision.keep and not trial.control:
            return Outcome(Ending.PRUNED, f"below the cutoff of the rung at {decision.rung:g}")
        return None

    def _metrics(self, trial: TrialRecord, epoch: int) -> EpochMetrics:
        plan, seconds = self._plan(trial), self._seconds(trial, epoch)
        stage = stage_of(plan, epoch)
        return EpochMetrics(
            epoch=epoch,
            val_accuracy=round(self._accuracy(trial.values, epoch, stage.size) * 5000) / 5000,
            val_loss=1.2 / epoch,
            train_loss=2.0 / epoch,
            stage=stage.index,
            image_size=stage.size,
            images_per_second=45_000 / (seconds - 2.0),
            train_seconds=seconds - 1.9,
            eval_seconds=1.5,
            seconds=seconds,
            compute=compute(plan, epoch),
        )

    def _accuracy(self, values: Mapping[str, Choice], epoch: int, size: int) -> float:
        rate = math.log10(float(values["train.lr"] or 1.0))
        dropout = float(values["train.progressive.dropout.end"] or 0.0)
        handicap = {"adamw": 0.0, "sgd": 0.004, "lamb": 0.012}[str(values["train.optimizer"])]
        final = 0.978 + self.lift - 0.03 * (rate + 2.7) ** 2 - 0.12 * (dropout - 0.25) ** 2 - handicap
        gap = 0.32 * math.exp(-4.5 * epoch / self.spec.train.epochs) + 0.00012 * (300 - size)
        return min(1.0, max(0.1, final - gap + self.rng.gauss(0, 0.0025)))


def _accident(number: int, epoch: int) -> str | None:
    if number == 7 and epoch == 1:
        return "OutOfMemory: stage 1 of 2, 256 px, batch 512: the device ran out of memory"
    if number % 19 == 3 and epoch == 2:
        return "Diverged: the validation loss became nan in epoch 2\nTraceback (most recent call last):\n  ..."
    return None
