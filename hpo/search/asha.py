"""Asynchronous successive halving as a pure object: values in, decisions out, no clock and no I/O.

Same decisions as Ray Tune's `AsyncHyperBandScheduler` with one bracket (after Li et al., "A System for
Massively Parallel Hyperparameter Tuning", arXiv 1810.05934, section 3, in its stopping form), but every
decision is a record that can be stored, restored after a crash and re-derived in an audit. Larger is better.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hpo.ledger.records import RungDecision


@dataclass(frozen=True)
class Mismatch:
    """A recorded decision that does not follow from the arrivals before it."""

    trial: int
    recorded: RungDecision
    expected: RungDecision


def rung_levels(grace_period: float, reduction_factor: float, maximum: float) -> tuple[float, ...]:
    """The levels `grace_period * reduction_factor ** k` below `maximum`, ascending.

    At `maximum` a trial is complete and nothing is left to decide; a grace period as long leaves no rung.

    Raises:
        ValueError: not 0 < grace_period <= maximum, or reduction_factor <= 1.
    """
    if not 0 < grace_period <= maximum:
        raise ValueError(f"grace period {grace_period:g} is not above 0 and at most the maximum {maximum:g}")
    _check_reduction_factor(reduction_factor)
    levels: list[float] = []
    # Rounding must not add a rung that is the maximum in all but its last bit.
    while (level := grace_period * reduction_factor ** len(levels)) < maximum * (1 - 1e-9):
        levels.append(level)
    return tuple(levels)


class AshaPruner:
    """The rungs of one study and who reached them.

    Of several rungs passed by one report only the highest is recorded, and those below are never decided
    later: a late value would be compared with early ones. (Ray's scheduler does so only with
    `stop_last_trials=False`; where reports pass one rung at a time both agree.)
    """

    def __init__(self, rungs: Sequence[float], reduction_factor: float) -> None:
        _check_reduction_factor(reduction_factor)
        if any(b <= a for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"rungs do not ascend: {list(rungs)}")
        self.rungs = tuple(rungs)
        self.reduction_factor = reduction_factor
        self._at: dict[float, dict[int, RungDecision]] = {rung: {} for rung in self.rungs}
        self._arrivals = 0

    def decide(self, trial: int, resource: float, value: float) -> RungDecision | None:
        """Record a report and decide, or None where it reaches no new rung.

        A report repeated after a crash (same rung, same value) gets the recorded decision again, and a
        stopped trial always gets the decision that stopped it; neither changes anything.

        Raises:
            ValueError: the value is NaN, which no cutoff would ever stop, or infinite, which would spoil the
                cutoffs of others; the caller fails such a trial.
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
        threshold = cutoff([one.value for one in self._at[rung].values()], self.reduction_factor)
        keep = threshold is None or value >= threshold
        decision = RungDecision(rung, value, threshold, self._arrivals, keep)
        self._at[rung][trial] = decision
        self._arrivals += 1
        return decision

    def restore(self, trial: int, decision: RungDecision) -> None:
        """Take over a decision recorded earlier; in any order, before or between calls of `decide`.

        Raises:
            ValueError: there is no such rung, or another decision stands there already.
        """
        if decision.rung not in self._at:
            raise ValueError(f"trial {trial} was decided at {decision.rung:g}; the rungs are {list(self.rungs)}")
        if self._at[decision.rung].setdefault(trial, decision) != decision:
            raise ValueError(f"trial {trial} has two different decisions at rung {decision.rung:g}")
        self._arrivals = max(self._arrivals, decision.order + 1)

    def decisions(self) -> list[tuple[int, RungDecision]]:
        """All (trial, decision), in order of arrival."""
        everything = ((trial, one) for at in self._at.values() for trial, one in at.items())
        return sorted(everything, key=lambda item: item[1].order)

    def survival(self) -> list[tuple[float, int, int]]:
        """Per rung, ascending: (level, trials that reached it, trials told to stop there)."""
        return [(rung, len(at), sum(not one.keep for one in at.values())) for rung, at in self._at.items()]


def cutoff(values: Sequence[float], reduction_factor: float) -> float | None:
    """The value that the best 1/reduction_factor of `values` reach (linear interpolation); None of none."""
    if not values:
        return None
    return float(np.percentile(values, (1 - 1 / reduction_factor) * 100))


def replay(decisions: Iterable[tuple[int, RungDecision]], reduction_factor: float) -> list[Mismatch]:
    """Re-derive every decision from the arrivals before it; what differs is returned, [] if all is well."""
    ordered = sorted(decisions, key=lambda item: item[1].order)
    levels = sorted({decision.rung for _, decision in ordered})
    fresh = AshaPruner(levels, reduction_factor)
    mismatches: list[Mismatch] = []
    for order, (trial, recorded) in enumerate(ordered):
        expected = fresh.decide(trial, recorded.rung, recorded.value)
        if expected is None:  # a rung below one this trial had passed
            expected = RungDecision(recorded.rung, recorded.value, None, order, keep=True)
            mismatches.append(Mismatch(trial, recorded, expected))
        elif not _same(expected, recorded):
            mismatches.append(Mismatch(trial, recorded, expected))
    return mismatches


def _same(a: RungDecision, b: RungDecision) -> bool:
    if a.cutoff is None or b.cutoff is None:
        close = a.cutoff is b.cutoff
    else:
        close = math.isclose(a.cutoff, b.cutoff, rel_tol=1e-12, abs_tol=1e-15)
    return close and (a.rung, a.value, a.order, a.keep) == (b.rung, b.value, b.order, b.keep)


def _check_reduction_factor(reduction_factor: float) -> None:
    if not reduction_factor > 1:
        raise ValueError(f"reduction factor {reduction_factor:g} is not above 1")
