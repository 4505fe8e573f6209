"""How far the trials that have ended came, and how long it took."""

from __future__ import annotations

from collections import Counter, defaultdict

from hpo.ledger.records import TrialRecord


def epoch_seconds(trial: TrialRecord) -> list[float]:
    """How long each epoch took: as its worker says, else since the record before it."""
    starts, before, seconds = [attempt.started for attempt in trial.attempts], 0.0, []
    for epoch in trial.epochs:
        began = max([before, *(start for start in starts if start <= epoch.recorded)])
        seconds.append(epoch.metrics.seconds or (epoch.recorded - began if began else 0.0))
        before = epoch.recorded
    return seconds


class Pace:
    """Sums over trials that train no more, unless landing takes them up."""

    def __init__(self) -> None:
        self.arrivals, self.kept = Counter[float](), Counter[float]()
        """How many were judged at each rung, and how many of these it let go on."""
        self.seconds = defaultdict[int, float](float)
        """Seconds of all epochs at each place, from 0, and below how many these are."""
        self.timed = Counter[int]()
        self._trained = self._held = 0.0

    @property
    def busy(self) -> float:
        """The share of the time from their first epoch to their end in which they trained, above 0 to 1."""
        return min(1.0, max(0.05, self._trained / self._held)) if self._trained and self._held > 0 else 1.0

    def add(self, trial: TrialRecord, times: int = 1) -> None:
        """Count a record (1), or no longer (-1)."""
        if not trial.ended:
            return
        for decision in trial.rungs:
            self.arrivals[decision.rung] += times
            self.kept[decision.rung] += times * decision.keep
        took = epoch_seconds(trial)
        for place, seconds in enumerate(took):
            self.seconds[place] += times * seconds
            self.timed[place] += times
            self._trained += times * seconds
        if took and trial.finished and len(trial.attempts) == 1:
            begun = trial.epochs[0].recorded - took[0]  # a worker starts once, and the next trials use it again
            # A pruned trial that landing kept until the end of its study held a worker for its attempt only.
            self._held += times * max(sum(took), (trial.attempts[0].ended or trial.finished) - begun)
        else:
            self._held += times * sum(took)
