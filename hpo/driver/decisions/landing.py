"""Which pruned trial a free worker takes up again: what the rule (`hpo.search.landing`) has to know of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hpo.driver.decisions.tally import Tally
from hpo.ledger.records import TrialRecord
from hpo.ledger.writer import Ledger
from hpo.results.sums.pace import epoch_seconds
from hpo.search.ahead import Ahead
from hpo.search.landing import LEAST_COSTS, MOST_COSTS, Choice, EpochSeconds, incumbent, next_up
from hpo.search.policies.acquisition import Prediction
from hpo.search.unit_cube import UnitCube
from hpo.spec.configure import configure
from hpo.spec.study import SHIPPED_TRAINER, Spec
from trainers import schedule


class Costs:
    """How long trainings take, from what their epochs took so far."""

    def __init__(self, spec: Spec, space: UnitCube) -> None:
        self._base = spec.base()
        self._own = spec.trainer != SHIPPED_TRAINER
        self._space = space
        self._horizon, self._every = spec.train.epochs, spec.train.checkpoint_every
        self._shares: dict[int, Sequence[float]] = {}

    def whole(self, trial: TrialRecord) -> float:
        """Seconds of the whole training of a trial that has trained an epoch."""
        return sum(epoch_seconds(trial)) + self.rest(trial)

    def rest(self, trial: TrialRecord) -> float:
        """Seconds until a trial is complete; 0 before its first epoch: nothing is known. From 4 epochs on the earlier
        half does not count, because the first epochs of a training may take several times as long as later ones."""
        if not (done := len(trial.epochs)):
            return 0.0
        share, first = self._share(trial), done // 2 if done >= 4 else 0
        seconds = sum(epoch_seconds(trial)[first:])
        return seconds * (1 - share[done - 1]) / (share[done - 1] - (share[first - 1] if first else 0.0))

    def again(self, trial: TrialRecord) -> float:
        """Seconds of the epochs that a trial repeats when it is taken up: those after its last checkpoint."""
        done = len(trial.epochs)
        return sum(epoch_seconds(trial)[done - done % self._every :])

    def predict(self, trials: Sequence[TrialRecord], values: Mapping[str, Any]) -> float:
        """Seconds of a whole training with these values.

        Args:
            trials: at least `LEAST_COSTS` that have trained an epoch, by number.
        """
        trials = trials[-MOST_COSTS:]  # no others count
        cube = self._space.encode([trial.values for trial in trials])
        per_epoch = EpochSeconds(self._space, cube, np.array([self.whole(trial) / self._horizon for trial in trials]))
        return self._horizon * float(per_epoch.predict(self._space.encode([values]))[0])

    def _share(self, trial: TrialRecord) -> Sequence[float]:
        """The share of the whole training that is done after each epoch: of its compute, as far as that is known."""
        if trial.number not in self._shares:
            train = configure(self._base, trial.assigned).train
            plan, epochs = schedule.stages(train.progressive, train.epochs), range(1, train.epochs + 1)
            done = [
                float(epoch) if self._own else schedule.compute(plan, epoch, train.compute_size) for epoch in epochs
            ]
            self._shares[trial.number] = [used / done[-1] for used in done]
        return self._shares[trial.number]


class Landing:
    """Compares the pruned trials that are kept with the next suggestion whenever a worker is free."""

    def __init__(
        self, ledger: Ledger, ahead: Ahead | None, tally: Tally, space: UnitCube, left: Callable[[], float]
    ) -> None:
        """
        Args:
            ahead: the suggestions; None where no policy of this project makes them.
            space: the search space as numbers.
            left: gives the seconds that each worker has left; infinite without a budget of time.
        """
        self._ledger = ledger
        self._ahead = ahead
        self._tally = tally
        self._left = left
        self._costs = Costs(ledger.spec, space)
        self._trials: dict[int, TrialRecord] = {}
        """Those that have started, but for references."""
        self._kept: set[int] = set()
        self._changes, self._answered = 0, -1
        if ledger.spec.search.landing:
            ledger.watch(self._notice)

    def _notice(self, trial: TrialRecord) -> None:
        self._changes += 1
        if trial.started and not trial.settings:
            self._trials[trial.number] = trial
            (self._kept.add if trial.kept else self._kept.discard)(trial.number)

    def choose(self) -> int | None:
        """The number of the trial that a free worker is to take up; None if a new one is worth more, or if no pruned
        one is worth its training."""
        if not self._kept or self._ahead is None or self._answered == self._changes:
            return None  # once nothing was found, it takes news to look again
        number = self._chosen(self._ahead)
        self._answered = self._changes if number is None else -1
        return number

    def _chosen(self, ahead: Ahead) -> int | None:
        measured = [trial for trial in self._trials.values() if trial.epochs]
        if len(measured) < LEAST_COSTS or self._enqueued_waits:
            return None
        new = [ahead.peek(len(self._ledger.trials)).values] if self._may_begin else []
        if (expected := ahead.ends(new)) is None:
            return None
        (ends, of_new), left = expected, self._left()
        best = incumbent(ends, list(self._landed(left)))
        choices = {number: Choice(ends[number], self._to_end(number)) for number in self._kept & ends.keys()}
        if not new:  # nothing else is to do, but a training costs: it has to promise a better trial
            choices = {number: choice for number, choice in choices.items() if choice.end.mean > best}
        fresh = [self._new(measured, values, end) for values, end in zip(new, of_new, strict=True)]
        return next_up(choices, fresh[0] if fresh else None, best, left)

    def _to_end(self, number: int) -> float:
        trial = self._trials[number]
        return self._costs.again(trial) + self._costs.rest(trial)

    @property
    def _may_begin(self) -> bool:
        return self._tally.started < self._ledger.spec.budget.trials

    @property
    def _enqueued_waits(self) -> bool:
        """Whether a configuration that somebody chose waits for its first attempt: it goes first."""
        return self._may_begin and len(self._ledger.trials) > self._tally.started

    def _landed(self, left: float) -> Iterator[int]:
        """Trials that are complete, or run and will be within so many seconds."""
        for number, trial in self._trials.items():
            if trial.complete or (trial.status == "running" and self._costs.rest(trial) <= left):
                yield number

    def _new(self, measured: Sequence[TrialRecord], values: Mapping[str, Any], end: Prediction) -> Choice:
        """A new trial costs what its training costs, times the share that ASHA leaves of a training on average."""
        whole = self._costs.predict(measured, values)
        ended = [len(trial.epochs) for trial in self._trials.values() if trial.ended]
        share = float(np.mean(ended)) / self._ledger.spec.train.epochs if ended else 1.0
        return Choice(end, whole, cost=share * whole)
