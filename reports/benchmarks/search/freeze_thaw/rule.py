"""Which trial a worker trains next: the one that runs, one that was paused, or a new one.

A study delivers complete trials only. Each choice is rated by what it is expected to add to the best complete trial per
second of training, if it may be given up at its next decision. The rule is a pure function of plain values.

Values are ends as a model predicts them, larger is better. Seconds are those of one worker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import roots_hermitenorm

from hpo.search.policies.acquisition import Prediction, log_expected_improvement
from hpo.search.unit_cube import Array

AT_THE_END = 0.5
"""What counts of a gain is this share of what it adds when the budget ends, and the rest of the mean until then."""
COST_POWER = 0.6
"""The power of the seconds until a trial is complete. With 1, cheap configurations get nearly the whole budget."""
NODES, HALVINGS = 15, 25
"""Of the integral over what the next stretch shows, and of the search for the rate."""


@dataclass(frozen=True)
class Choice:
    """What a worker could train."""

    end: Prediction
    shown: float
    """How far its next stretch will move the predicted end: a standard deviation, at most that of the end."""
    stretch: float
    """Seconds until its next decision, above 0."""
    to_end: float
    """Seconds until it would be complete, at least `stretch`."""


@dataclass(frozen=True)
class Outlook:
    """The best end among what will be complete, as time goes on."""

    times: tuple[float, ...]
    """Seconds from now, ascending, from 0."""
    bests: tuple[float, ...]
    """From each of these times on, ascending."""

    @classmethod
    def of(cls, best: float, running: Sequence[tuple[float, float]], left: float) -> Outlook:
        """
        Args:
            best: what a trial has to beat now: the best complete one, or what any complete trial is worth.
            running: of the other trials that run, the seconds until they are complete, and their predicted ends.
            left: seconds until the budget is spent.
        """
        times, bests = [0.0], [best]
        for seconds, end in sorted(running):
            if seconds <= left and end > bests[-1]:
                times.append(seconds)
                bests.append(end)
        return cls(tuple(times), tuple(bests))

    def above(self, best: float) -> Outlook:
        """The same, if a trial has to beat this one, too."""
        return Outlook(self.times, tuple(max(best, one) for one in self.bests))

    def weights(self, to_end: Array, left: float) -> Array:
        """How much a gain over each of `bests` counts for trials that take so many seconds, (n, bests)."""
        weights = np.zeros((len(to_end), len(self.times)))
        if math.isfinite(left):
            edges = np.append(self.times, left)
            since = np.maximum(edges[:-1], to_end[:, None])
            weights = (1 - AT_THE_END) * np.maximum(edges[1:] - since, 0.0) / left
        weights[:, -1] += AT_THE_END
        return weights


def next_up(unfinished: Mapping[int, Choice], new: Choice | None, outlook: Outlook, left: float) -> int | None:
    """The number of the unfinished trial that is worth most per second; None: a new trial, also where no unfinished one
    can be complete in time.

    A new trial has to beat the best unfinished one, too: that one can be finished instead, and its end is better known.

    Args:
        unfinished: the trial that the worker trains, and those that no worker trains, by number.
        new: the suggestion for a new trial; None if there is none.
        outlook: without these trials.
        left: seconds until the budget is spent; infinite without a budget of time.
    """
    fitting = {number: choice for number, choice in unfinished.items() if choice.to_end <= left}
    if not fitting:
        return None
    rates = log_rates(list(fitting.values()), outlook, left)
    number, rate = list(fitting)[int(np.argmax(rates))], float(rates.max())
    if new is None or new.to_end > left:
        return number
    known = max(choice.end.mean for choice in fitting.values())
    return None if log_rates([new], outlook.above(known), left)[0] > rate else number


def log_rates(choices: Sequence[Choice], outlook: Outlook, left: float) -> Array:
    """Logarithms of the prices of a second at which choices are worth their next stretch, (n,).

    After its stretch a trial goes on only if its gain is then worth the rest of its seconds at this price, so an
    uncertain trial is worth more than its gain by the seconds until it is complete (a Gittins index with one step).
    """
    mean, deviation, shown, stretch, to_end = np.array(
        [(*choice.end, choice.shown, choice.stretch, choice.to_end) for choice in choices]
    ).T
    weights, bests = outlook.weights(to_end, left), np.array(outlook.bests)
    scale = to_end ** (COST_POWER - 1)
    stretch, rest = stretch * scale, (to_end - stretch) * scale
    shown = np.minimum(shown, 0.999 * deviation)
    nodes, shares = roots_hermitenorm(NODES)
    log_gain = _log_gain(mean[:, None], deviation[:, None], bests, weights)[:, 0]
    ends = mean[:, None] + shown[:, None] * nodes
    unsure = np.sqrt(deviation**2 - shown**2)[:, None]
    gains = np.exp(_log_gain(ends, unsure, bests, weights) - log_gain[:, None])
    # In units of the gain. The rate lies between that of a trial that always goes on, and that of one that ends there.
    low, high = -np.log(stretch + rest), -np.log(stretch)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        worth = np.maximum(gains - (np.exp(middle) * rest)[:, None], 0.0) @ shares / shares.sum()
        above = worth > np.exp(middle) * stretch
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.asarray(log_gain + (low + high) / 2)


def _log_gain(mean: Array, deviation: Array, bests: Array, weights: Array) -> Array:
    """Logarithm of the weighted expected improvements over `bests`, (n, k), for ends (n, k) and weights (n, bests)."""
    logs = log_expected_improvement(mean[:, :, None], deviation[:, :, None], bests)
    with np.errstate(divide="ignore"):
        return np.asarray(np.logaddexp.reduce(logs + np.log(weights)[:, None, :], axis=2))
