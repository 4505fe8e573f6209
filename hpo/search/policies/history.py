"""What a sampler remembers of a study's trials, so that a suggestion costs the same in a study of any size.

The parameters of a trial are encoded once: they never change. The trials that have ended are kept in order, so a
bounded sample of them is found without looking at all of them.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from optuna.trial import TrialState

from hpo.search.policies.seen import Seen
from hpo.search.unit_cube import Array, UnitCube

MAX_ENDED = 1_000
"""Most trials that have ended among those that a sampler sees. In studies with fewer it sees all."""
BEST = 25
"""How many of the best trials `tpe` always sees, for each objective: as many as Optuna's TPE calls good at most."""
T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """The trials that a sampler sees for one suggestion: a bounded number of those that have ended, and all others."""

    space: UnitCube
    trials: Sequence[Seen]
    """By number."""
    cube: Array
    """Their parameters as points of the unit cube, (n, parameters)."""
    features: Array
    """The same as features, (n, features)."""
    tried: Collection[bytes]
    """Keys of the points of all trials of the study, not only of these."""


class History:
    """The trials of one study, except those that have no parameters yet, and references."""

    def __init__(self, space: UnitCube, *, horizon: int, sign: float = 1.0, objectives: int = 1) -> None:
        """
        Args:
            horizon: epochs of a full training.
            sign: 1 if larger values of the first objective are better, -1 if smaller values are.
            objectives: how many there are.
        """
        self.space = space
        self._horizon = horizon
        self.sign = sign
        self._trials: dict[int, Seen] = {}
        self._open: set[int] = set()
        self._cube = np.zeros((0, len(space)))
        self._features = np.zeros((0, len(space.owners())))
        self._tried: Counter[bytes] = Counter()
        self._comparable: list[int] = []
        """Numbers of the complete and pruned trials, ascending."""
        self._ranked: list[list[tuple[float, float, int]]] = [[] for _ in range(objectives)]
        """The same trials from the worst to the best by each objective: (rung, value, number)."""
        self._levels: dict[int, list[tuple[float, int]]] = {}
        """All ended trials by how far they got, from the worst to the best: (value, number)."""
        self.rungs: list[float] = []
        """The rungs that were decided, ascending."""

    def has_ended(self, number: int) -> bool:
        """Whether a trial has ended. Nothing about it changes any more, unless it is taken up again."""
        return number in self._trials and number not in self._open

    def take_in(self, trials: Iterable[Seen]) -> None:
        """Take in trials as they are now; nothing is done for references, and for those that have ended as before."""
        new = [trial for trial in trials if not trial.reference and not self._is_known(trial)]
        for trial in new:
            if self.has_ended(trial.number):
                self.reopen(trial.number)
        unknown = [trial for trial in new if not self._is_encoded(trial)]
        for trial in unknown:
            self.forget(trial.number)
        self._encode(unknown)
        for trial in new:
            self._put(trial)

    def _is_known(self, trial: Seen) -> bool:
        """Whether a trial had ended already, and has not been taken up again since."""
        before = self._trials.get(trial.number)
        same = before is not None and (before.state, len(before.values)) == (trial.state, len(trial.values))
        return same and self.has_ended(trial.number)

    def reopen(self, number: int) -> None:
        """A trial that has ended goes on: it leaves the orders of those that have."""
        trial = self._trials[number]
        self._open.add(number)
        for order, place in self._places(trial):
            del order[bisect.bisect_left(order, place)]

    def _is_encoded(self, trial: Seen) -> bool:
        before = self._trials.get(trial.number)
        return before is not None and before.params == trial.params

    def _put(self, trial: Seen) -> None:
        self._trials[trial.number] = trial
        self._open.add(trial.number)
        for rung in trial.rungs:
            if rung not in self.rungs:
                bisect.insort(self.rungs, rung)
        if trial.ended:
            self._open.discard(trial.number)
            self._rank(trial)

    def forget(self, number: int) -> None:
        """Drop a trial that has not ended, if it is known: the suggestion for it is not used."""
        if number in self._open:
            self._open.discard(number)
            del self._trials[number]
            (key,) = self.space.keys(self._cube[number][None])
            self._tried[key] -= 1
            if not self._tried[key]:
                del self._tried[key]

    @property
    def tried(self) -> Collection[bytes]:
        """Keys of the points of all trials."""
        return self._tried.keys()

    def spread_over_numbers(self) -> View:
        """What `tpe` sees of the trials that have ended: the `BEST` by each objective, so that TPE finds the same good
        trials as among all, and of the complete and pruned ones an even sample over their numbers, which has the
        density of all. Failed trials are left out, if there are more than `MAX_ENDED`."""
        if len(self._comparable) <= MAX_ENDED:
            return self._view(self._comparable)
        best = {number for ranked in self._ranked for _, _, number in ranked[-BEST:]}
        return self._view(best.union(even(self._comparable, MAX_ENDED - len(best))))

    def spread_over_values(self) -> View:
        """What `gp` sees of the trials that have ended: of every level (epochs 1 to 3, 4 to 15, 16 to 63, ..., and full
        trainings with those that failed) an equal share, and in a level an even sample over the values of the first
        objective, with the best and the worst. What a level does not need is left to the others."""
        levels = list(self._levels.values())
        places = shares([len(level) for level in levels], MAX_ENDED)
        chosen = (even(level, most) for level, most in zip(levels, places, strict=True))
        return self._view(number for level in chosen for _, number in level)

    def _view(self, ended: Iterable[int]) -> View:
        numbers = sorted(self._open.union(ended))
        trials = [self._trials[number] for number in numbers]
        return View(self.space, trials, self._cube[numbers], self._features[numbers], self.tried)

    def _encode(self, trials: Sequence[Seen]) -> None:
        if not trials:
            return
        numbers, rows = [trial.number for trial in trials], self.space.encode([trial.params for trial in trials])
        if (last := max(numbers)) >= len(self._cube):
            self._cube, self._features = _grown(self._cube, last), _grown(self._features, last)
        self._cube[numbers] = rows
        self._features[numbers] = self.space.features(rows)
        self._tried.update(self.space.keys(rows))

    def _rank(self, trial: Seen) -> None:
        """Put a trial that has ended into the orders."""
        for order, place in self._places(trial):
            bisect.insort(order, place)

    def _places(self, trial: Seen) -> Iterator[tuple[list[Any], Any]]:
        """The orders that a trial belongs to if it has ended, and what stands for it there."""
        number, last = trial.number, trial.last
        value = self.sign * last[1] if last is not None and math.isfinite(last[1]) else -math.inf
        if trial.state == TrialState.COMPLETE and trial.final is not None:
            value = self.sign * trial.final
        elif trial.state == TrialState.FAIL:
            value = -math.inf
        yield self._levels.setdefault(self._level(trial), []), (value, number)
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        yield self._comparable, number
        rung = max(trial.rungs, default=-math.inf if last is None else last[0])
        if trial.state == TrialState.COMPLETE:
            rung = math.inf
        for ranked, score in zip(self._ranked, (value, *trial.beside), strict=True):
            yield ranked, (rung, -math.inf if math.isnan(score) else score, number)

    def _level(self, trial: Seen) -> int:
        """How far a trial got: k from epoch 4^k on, -1 for an accident or without a value."""
        if trial.accident:
            return -1
        if trial.state != TrialState.PRUNED or (trial.last or (0, 0.0))[0] >= self._horizon:
            return self._horizon  # above every power
        return -1 if trial.last is None else int(math.log(max(trial.last[0], 1) + 0.5, 4))


def shares(sizes: Sequence[int], most: int) -> list[int]:
    """How many of `most` places each group of these sizes gets: equal shares, and what a small group does not need is
    left to the others."""
    given = [0] * len(sizes)
    for waiting, index in zip(range(len(sizes), 0, -1), np.argsort(sizes, kind="stable"), strict=True):
        given[index] = min(sizes[index], most // waiting)
        most -= given[index]
    return given


def even(items: Sequence[T], most: int) -> list[T]:
    """At most `most` of the items, evenly spread over their order, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _grown(rows: Array, number: int) -> Array:
    """The rows and empty ones after them, up to that number at least; twice as many, so that growing is rare."""
    grown: Any = np.full((max(2 * len(rows), number + 1, 64), rows.shape[1]), math.nan)
    grown[: len(rows)] = rows
    return np.asarray(grown)
