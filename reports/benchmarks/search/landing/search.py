"""A search with landing (`hpo.search.landing`): a free worker may finish a trial that ASHA stopped."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, TrialRecord
from hpo.search.asha import AshaPruner, rung_levels
from hpo.search.landing import LEAST_COSTS, Choice, EpochSeconds, incumbent, next_up
from hpo.search.policies.acquisition import Prediction
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.policies.history import History
from hpo.search.policies.seeded import Suggestion
from reports.benchmarks.search.lcbench import EPOCHS
from reports.benchmarks.search.simulation import GRACE, REDUCTION
from trainers.api import EpochMetrics


class LandingSearch:
    """`gp` and ASHA, from records as the ledger keeps them. ASHA judges a trial that is taken up no more: it goes on to
    its end."""

    def __init__(self, sampler: CurveGPSampler) -> None:
        self._sampler = sampler
        self._asha = AshaPruner(rung_levels(GRACE, REDUCTION, EPOCHS), REDUCTION)
        self.trials: dict[int, TrialRecord] = {}
        self._seconds: defaultdict[int, float] = defaultdict(float)
        """Of all epochs of each trial."""
        self._next: Suggestion | None = None
        self.taken_up: list[int] = []
        """Trials, in the order in which they were taken up."""

    def take_up(self, left: float) -> int | None:
        """Return the stopped trial that is worth more than the next suggestion, if there is one."""
        history = self._history()
        self._next = self._sampler.suggest(history, len(self.trials))
        number = self._choose(history, self._next, left)
        if number is not None:
            self.taken_up.append(number)
            self.trials[number] = dataclasses.replace(self.trials[number], outcome=None, finished=None)
        return number

    def suggest(self, trial: int) -> Mapping[str, Any]:
        """Return the suggestion that `take_up` has compared with."""
        assert self._next is not None
        self.trials[trial] = TrialRecord(trial, self._next.values, attempts=(Attempt(0.0),))
        return self._next.values

    def spend(self, trial: int, seconds: float, left: float) -> None:
        """Note the cost of a trial."""
        self._seconds[trial] += seconds

    def report(self, trial: int, epoch: int, value: float) -> bool:
        """Record a value; return whether the trial continues."""
        record = self.trials[trial]
        epochs = (*record.epochs, EpochRecord(EpochMetrics(epoch=epoch, val_accuracy=value), 0.0))
        self.trials[trial] = record = dataclasses.replace(record, epochs=epochs)
        decision = None if trial in self.taken_up else self._asha.decide(trial, epoch, value)
        ending = Ending.COMPLETE if epoch == EPOCHS else Ending.PRUNED
        if epoch < EPOCHS and (decision is None or decision.keep):
            return True
        self.trials[trial] = dataclasses.replace(record, outcome=Outcome(ending, ""), finished=0.0)
        return False

    def _history(self) -> History:
        """Anew each time, because a history takes what has ended as final."""
        history = self._sampler.history()
        history.take_in([self._sampler.seen(trial) for trial in self.trials.values()])
        return history

    def _choose(self, history: History, new: Suggestion, left: float) -> int | None:
        measured = [number for number, trial in self.trials.items() if trial.epochs]
        expected = self._sampler.ends(history, [new.values]) if len(measured) >= LEAST_COSTS else None
        if expected is None:
            return None
        ends, (of_new,) = expected
        stopped = [number for number in ends if self.trials[number].status == "pruned"]
        choices = {number: Choice(ends[number], self._to_end(number)) for number in stopped}
        best = incumbent(ends, [number for number in ends if self._lands(number, left)])
        return next_up(choices, self._choice(history, new, of_new, measured), best, left)

    def _lands(self, number: int, left: float) -> bool:
        """Whether a trial is complete, or runs and will be within so many seconds."""
        trial = self.trials[number]
        return trial.complete or (trial.status == "running" and self._to_end(number) <= left)

    def _to_end(self, number: int) -> float:
        """Seconds until a trial would be complete, by its epochs so far; 0 before the first: nothing is known."""
        done = len(self.trials[number].epochs)
        return self._seconds[number] / done * (EPOCHS - done) if done else 0.0

    def _choice(self, history: History, new: Suggestion, end: Prediction, measured: Sequence[int]) -> Choice:
        """A new trial costs what its training costs, times the share that ASHA leaves of a training on average."""
        cube = history.space.encode([self.trials[number].values for number in measured])
        seconds = np.array([self._seconds[number] / len(self.trials[number].epochs) for number in measured])
        per_epoch = EpochSeconds(history.space, cube, seconds)
        to_end = EPOCHS * float(per_epoch.predict(history.space.encode([new.values]))[0])
        ended = [len(trial.epochs) for trial in self.trials.values() if trial.outcome is not None]
        share = float(np.mean(ended)) / EPOCHS if ended else 1.0
        return Choice(end, to_end, cost=share * to_end)
