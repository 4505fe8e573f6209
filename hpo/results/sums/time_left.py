"""How long a study will still take, from what its trials have shown so far.

The estimate counts the seconds of training that are still to do, and divides them by the seconds of training that the
study does per second. Three things keep it steady while trials end early, run side by side and grow their images:

- An epoch costs what the same epoch of other trials took. One that no trial has reached yet is scaled by the compute
  of its stage.
- How far trials come follows from the rule of ASHA, and from how many more or fewer it has let pass than the rule lets
  pass of equally good ones. The lengths of ended trials would mislead: the first to end are the short ones.
- An epoch that is being trained counts as far as it has come by the clock.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from hpo.gpu_sharing import Packing, per_trial
from hpo.ledger.records import TrialRecord
from hpo.results.sums.pace import Pace, epoch_seconds
from hpo.results.sums.parts import Counts
from hpo.search.rungs import training_rungs
from hpo.spec.study import Spec
from trainers import schedule

CAUTION = 4.0
"""Weight of the rule of ASHA beside what was seen at a rung, in trials that pass."""


def time_left(
    spec: Spec, counts: Counts, pace: Pace, elapsed: float, now: float, packing: Packing | None = None
) -> float | None:
    """Seconds until the budget of trials is done; None before a trial has ended that trained an epoch.

    Args:
        counts, pace: of the same trials.
        elapsed: seconds that the study has taken.
        now: seconds since the epoch, by the driver's clock.
        packing: how many trials share a GPU with `resources.gpus: auto`; None for whole ones.
    """
    unfinished = counts.unfinished
    if not pace.seconds or elapsed <= 0:
        return None
    costs, shares = _costs(spec, pace, unfinished), _shares(spec, pace, unfinished)
    running = [trial for trial in unfinished if trial.status == "running"]
    under_way = {trial.number: _under_way(trial, costs, now) for trial in running}
    rest = {t.number: max(0.0, _rest(t, costs, shares) - under_way.get(t.number, 0.0)) for t in unfinished}
    new = max(0, spec.budget.trials - counts.trials)
    todo = sum(rest.values()) + new * _sum(costs, shares, 0)
    done = sum(pace.seconds.values()) + sum(map(_trained, unfinished)) + sum(under_way.values())
    rate = max(done / elapsed, len(running) * pace.busy)
    if not rate:
        return None
    ends = [_whole(trial, costs, shares, under_way[trial.number]) for trial in running]
    if new:  # trials that begin later and train to the end, evenly spread: the last of them ends last
        complete, begin = new * shares[-1], todo / rate * new / (new + len(running))
        ends.append((begin * complete / (complete + 1) + sum(costs), 1 - math.exp(-complete)))
    left = _latest([(seconds / pace.busy, chance) for seconds, chance in ends], todo / rate)
    gpu_hours = spec.budget.gpu_hours
    if gpu_hours is not None:
        used = done / pace.busy * per_trial(spec.resources.gpus, packing)
        left = min(left, max(0.0, gpu_hours * 3600 / used - 1) * done / rate) if used else left
    return left


def _trained(trial: TrialRecord) -> float:
    return sum(epoch_seconds(trial))


def _under_way(trial: TrialRecord, costs: Sequence[float], now: float) -> float:
    """How much of its next epoch a running trial has done, in seconds."""
    began = max(trial.attempts[-1].started, trial.epochs[-1].recorded if trial.epochs else 0.0)
    epoch = min(len(trial.epochs), len(costs) - 1)
    return min(max(0.0, now - began), costs[epoch])


def _whole(
    trial: TrialRecord, costs: Sequence[float], shares: Sequence[float], under_way: float
) -> tuple[float, float]:
    """Seconds to the end of a running trial if it trains to the end, and the probability of that."""
    done = min(len(trial.epochs), len(costs) - 1)
    return max(0.0, sum(costs[done:]) - under_way), 1.0 if _is_spared(trial) else shares[-1] / shares[done]


def _latest(ends: Sequence[tuple[float, float]], least: float) -> float:
    """The expected latest of several ends, each of which comes with a probability; at least `least`."""
    expected, none_later = 0.0, 1.0
    for seconds, chance in sorted(ends, reverse=True):
        if seconds > least:
            expected += none_later * chance * seconds
            none_later *= 1 - chance
    return expected + none_later * least


def _rest(trial: TrialRecord, costs: Sequence[float], shares: Sequence[float]) -> float:
    """Seconds of training that a trial which goes on after its newest epoch will probably need."""
    done = len(trial.epochs)
    return sum(costs[done:]) if _is_spared(trial) else _sum(costs, shares, done)


def _is_spared(trial: TrialRecord) -> bool:
    """Whether ASHA stops the trial no more: a control, or one that landing took up."""
    return trial.control or bool(trial.taken_up)


def _sum(costs: Sequence[float], shares: Sequence[float], done: int) -> float:
    """Expected seconds of a trial that trains the epoch after `done` for certain."""
    if done >= len(costs):
        return 0.0
    return sum(cost * share for cost, share in zip(costs[done:], shares[done:], strict=True)) / shares[done]


def _costs(spec: Spec, pace: Pace, unfinished: Sequence[TrialRecord]) -> list[float]:
    """Seconds of each epoch of a training."""
    seconds, timed = pace.seconds.copy(), pace.timed.copy()
    for trial in unfinished:
        for place, took in enumerate(epoch_seconds(trial)):
            seconds[place] += took
            timed[place] += 1
    weights = _weights(spec)
    known = {place: seconds[place] / timed[place] for place in timed if timed[place] and place < len(weights)}
    scale = statistics.median(cost / weights[place] for place, cost in known.items())
    return [known.get(place, scale * weight) for place, weight in enumerate(weights)]


def _weights(spec: Spec) -> list[float]:
    """What the epochs of the baseline cost, in any unit: px^2 for the shipped trainer, else all the same."""
    if not spec.shipped:
        return [1.0] * spec.train.epochs
    stages = schedule.stages(spec.base().train.progressive, spec.train.epochs)
    return [float(schedule.stage_of(stages, epoch).size) ** 2 for epoch in range(1, spec.train.epochs + 1)]


def _shares(spec: Spec, pace: Pace, unfinished: Sequence[TrialRecord]) -> list[float]:
    """The share of trials to come that train each epoch; 1 for the first."""
    passes = {epoch: _passes(spec, pace, unfinished, level) for epoch, level in _rungs(spec)}
    shares = [1.0]
    for epoch in range(1, spec.train.epochs):
        shares.append(shares[-1] * passes.get(epoch, 1.0))
    controls = spec.asha.controls if passes else 0.0
    return [controls + (1 - controls) * share for share in shares]


def _passes(spec: Spec, pace: Pace, unfinished: Sequence[TrialRecord], level: float) -> float:
    """The share of trials to come that pass a rung."""
    judged = [decision for trial in unfinished for decision in trial.rungs if decision.rung == level]
    arrivals = pace.arrivals[level] + len(judged)
    kept = pace.kept[level] + sum(decision.keep for decision in judged)
    foreseen = sum(_passes_as(place, spec) for place in range(1, arrivals + 1))
    next_ones = range(arrivals + 1, arrivals + 1 + max(1, round(spec.asha.reduction_factor)))
    by_rule = sum(_passes_as(place, spec) for place in next_ones) / len(next_ones)
    return min(1.0, by_rule * (kept + CAUTION) / (foreseen + CAUTION))


def _passes_as(arrival: int, spec: Spec) -> float:
    """How probably the trial that arrives at a rung in this place passes it, if all are equally good: the cutoff is a
    quantile of the values before it (`hpo.search.asha.cutoff`), and order statistics divide 0 to 1 evenly."""
    if arrival == 1:
        return 1.0
    return 1 - ((arrival - 2) * (1 - 1 / spec.asha.reduction_factor) + 1) / arrival


def _rungs(spec: Spec) -> list[tuple[int, float]]:
    """The epoch after which the baseline is judged at each rung, and the rung."""
    return list(training_rungs(spec, spec.base().train).items()) if spec.asha.enabled else []
