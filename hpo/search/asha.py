"""Asynchronous successive halving as a pure object: values in, decisions out, no clock and no I/O.

It decides as Ray Tune's `AsyncHyperBandScheduler` with one bracket does (after Li et al., "A System for Massively
Parallel Hyperparameter Tuning", arXiv 1810.05934, section 3, in its stopping form). Here every decision is also a
record: a study stores it, restores it after a crash, and `hpo audit` derives it again from the values before it
(`replay`). Larger values are better.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpo.ledger.records import RungDecision


def rung_levels(grace_period: float, reduction_factor: float, maximum: float) -> tuple[float, ...]:
    """The levels `grace_period * reduction_factor ** k` below `maximum`, ascending.

    At `maximum` a trial is complete and there is nothing to decide, so a grace period of that length leaves no rung.

    Raises:
        ValueError: not 0 < grace_period <= maximum, or reduction_factor <= 1.
    """
    if not 0 < grace_period <= maximum:
        raise ValueError(f"the grace period is {grace_period:g}; it must be above 0 and at most {maximum:g}")
    _check_reduction_factor(reduction_factor)
    levels: list[float] = []
    # Rounding must not add a rung that is the maximum in all but its last bit.
    while (level := grace_period * reduction_factor ** len(levels)) < maximum * (1 - 1e-9):
        levels.append(level)
    return tuple(levels)


class AshaPruner:
    """The rungs of one study, and the decisions about the trials that reached them.

    If one report passes several rungs, only the highest is decided. The rungs below are not decided later either: that
    would compare a late value with early ones. (Ray's scheduler does the same only with `stop_last_trials=False`. If
    each report passes one rung at most, both agree.)
    """

    def __init__(self, rungs: Sequence[float], reduction_factor: float) -> None:
        _check_reduction_factor(reduction_factor)
        if any(b <= a for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"rungs must ascend, but are {list(rungs)}")
        self.rungs = tuple(rungs)
        self.reduction_factor = reduction_factor
        self._at: dict[float, dict[int, RungDecision]] = {rung: {} for rung in self.rungs}
        self._values: dict[float, list[float]] = {rung: [] for rung in self.rungs}
        """The values at each rung in ascending order, so that a cutoff costs the same however many there are."""
        self._arrivals = 0

    def decide(self, trial: int, resource: float, value: float) -> RungDecision | None:
        """Decide about a report and record the decision; None if the report reaches no new rung.

        A report that is repeated after a crash (same rung, same value) gets the recorded decision again. A stopped
        trial always gets the decision that stopped it. Neither changes anything.

        Raises:
            ValueError: the value is not finite. No cutoff would ever stop NaN, and infinity would spoil the cutoffs
                of other trials; the caller lets such a trial fail.
        """
        if not math.isfinite(value):
            raise ValueError(f"trial {trial} reported {value} at resource {resource:g}")
        rung = max((rung for rung in self.rungs if rung <= resource), default=None)
        if rung is None:
            return None
        recorded = self._at[rung].get(trial)
        if recorded is not None:
            return recorded if recorded.value == value or not recorded.keep else None
        if any(trial in self._at[higher] for higher in self.rungs if higher > rung):
            return None
        threshold = cutoff(self._values[rung], self.reduction_factor)
        keep = threshold is None or value >= threshold
        decision = RungDecision(rung, value, threshold, self._arrivals, keep)
        self._record(trial, decision)
        return decision

    def restore(self, trial: int, decision: RungDecision) -> None:
        """Take over a recorded decision, in any order, before or between calls of `decide`.

        Raises:
            ValueError: there is no such rung, or it has another decision about this trial.
        """
        if decision.rung not in self._at:
            raise ValueError(
                f"trial {trial} has a decision at rung {decision.rung:g}, but the rungs are {list(self.rungs)}"
            )
        recorded = self._at[decision.rung].get(trial)
        if recorded is None:
            self._record(trial, decision)
        elif recorded != decision:
            raise ValueError(f"trial {trial} has two different decisions at rung {decision.rung:g}")

    def _record(self, trial: int, decision: RungDecision) -> None:
        self._at[decision.rung][trial] = decision
        bisect.insort(self._values[decision.rung], decision.value)
        self._arrivals = max(self._arrivals, decision.order + 1)


def cutoff(values: Sequence[float], reduction_factor: float) -> float | None:
    """The value that the best 1/reduction_factor of `values` reach; None without values.

    It is `numpy.percentile` (linear interpolation) to the last bit, without a look at all values.

    Args:
        values: in ascending order.
    """
    if not values:
        return None
    place = (len(values) - 1) * (1 - 1 / reduction_factor)
    below = min(int(place), len(values) - 1)
    low, high, share = values[below], values[min(below + 1, len(values) - 1)], place - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


@dataclass(frozen=True)
class Mismatch:
    """A recorded decision that does not follow from the values recorded before it."""

    trial: int
    recorded: RungDecision
    expected: RungDecision


def replay(decisions: Iterable[tuple[int, RungDecision]], reduction_factor: float) -> list[Mismatch]:
    """Derive every recorded decision again from the values before it, and return those that differ.

    Args:
        decisions: (number of the trial, decision), in any order.
    """
    ordered = sorted(decisions, key=lambda decision: decision[1].order)
    pruner = AshaPruner(sorted({recorded.rung for _, recorded in ordered}), reduction_factor)
    mismatches: list[Mismatch] = []
    for order, (trial, recorded) in enumerate(ordered):
        # The pruner decides nothing at a rung below one that the trial has passed.
        above = RungDecision(recorded.rung, recorded.value, None, order, keep=True)
        expected = pruner.decide(trial, recorded.rung, recorded.value)
        if expected is None or not _same(expected, recorded):
            mismatches.append(Mismatch(trial, recorded, expected or above))
    return mismatches


def _same(a: RungDecision, b: RungDecision) -> bool:
    """Whether two decisions are equal, the cutoffs up to rounding."""
    if a.cutoff is None or b.cutoff is None:
        close = a.cutoff is b.cutoff
    else:
        close = math.isclose(a.cutoff, b.cutoff, rel_tol=1e-12, abs_tol=1e-15)
    return close and (a.rung, a.value, a.order, a.keep) == (b.rung, b.value, b.order, b.keep)


def _check_reduction_factor(reduction_factor: float) -> None:
    if not reduction_factor > 1:
        raise ValueError(f"the reduction factor is {reduction_factor:g}; it must be above 1")
