"""A confirmation as sentences, table rows and JSON, for the terminal, MLflow and the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hpo.results.confirmation import Confirmation, Confirmed
from hpo.results.inference.max_t import FEWEST
from hpo.results.intervals import Interval
from hpo.spec.objectives import VAL_ACCURACY, Objective

NO_INTERVAL = f"an interval needs {FEWEST} seeds"
COLUMNS = ("trial", "mean", "95 % interval", "vs. best other", "is best", "seeds", "compute", "verdict")


def lines(confirmation: Confirmation) -> Iterator[str]:
    """The result so far, one sentence per line, the choice first."""
    if not confirmation.complete:
        yield f"Confirmation not finished: {confirmation.done} of {confirmation.planned} trainings have ended."
        return
    if failed := sum(entry.failed for entry in confirmation.ranking):
        yield f"{failed} of {confirmation.planned} trainings failed. The next `hpo confirm` of the study repeats them."
    chosen, goal = confirmation.chosen, confirmation.objective
    if chosen is None or chosen.mean is None:
        yield "Nothing is confirmed: every configuration failed with at least one seed."
        return
    mean = accuracy(chosen.interval, goal) if chosen.interval else goal.show_score(chosen.mean)
    yield f"Confirmed: trial {chosen.trial}, mean {goal.label} {mean} over {len(chosen.accuracies)} new seeds"
    yield gain(confirmation)
    yield f"How sure: {certainty(confirmation)}"
    yield from _cheaper(confirmation)


def gain(confirmation: Confirmation) -> str:
    """How much better than the baseline the choice is."""
    baseline, name, goal = confirmation.baseline, confirmation.baseline_name, confirmation.objective
    if baseline is None:
        return "Gain over the baseline: unknown, because the study has no baseline (nothing is enqueued)"
    if confirmation.chosen is not None and confirmation.chosen.baseline:
        return f"It is the {name}: no other configuration is better by more than chance"
    if confirmation.gain_mean is None:
        return f"Gain over the {name} (trial {baseline.trial}): unknown, because the baseline failed with a seed"
    if confirmation.gain is None:
        mean = goal.show_gain(confirmation.gain_mean)
        return f"Gain over the {name} (trial {baseline.trial}): {mean} ({NO_INTERVAL})"
    return f"Gain over the {name} (trial {baseline.trial}): {points(confirmation.gain, goal)}"


def certainty(confirmation: Confirmation) -> str:
    """`trial 7 is the best of the 4 confirmed with a probability of 81 %; trial 3 may be the best, too`; empty while
    nothing is chosen. Terminal, report, MLflow and `best.yaml` say it in these words."""
    chosen = confirmation.chosen
    if chosen is None:
        return ""
    if confirmation.compared < 2:
        return f"trial {chosen.trial} is the only one that could be compared"
    text = (
        f"trial {chosen.trial} is the best of the {confirmation.compared} confirmed with a probability of "
        f"{probability(chosen)}"
    )
    rivals = [str(entry.trial) for entry in confirmation.ranking if entry.tied and entry is not chosen]
    if not rivals:
        return f"{text}; all others are worse by more than chance"
    return f"{text}; {'trial' if len(rivals) == 1 else 'trials'} {', '.join(rivals)} may be the best, too"


def probability(entry: Confirmed) -> str:
    """`81 %`; `under 1 %` and `over 99 %` where the draws say no more."""
    percent = round(100 * entry.chance)
    return "under 1 %" if percent < 1 else "over 99 %" if percent > 99 else f"{percent} %"


def _cheaper(confirmation: Confirmation) -> Iterator[str]:
    """Why the choice is not the configuration with the highest mean."""
    chosen, best, goal = confirmation.chosen, confirmation.ranking[0], confirmation.objective
    if chosen is None or best is chosen or chosen.versus is None or confirmation.margin is None:
        return
    yield (
        f"Trial {chosen.trial} is cheaper than trial {best.trial}, which has the highest mean, and is certainly not "
        f"worse by more than {_size(-chosen.versus.least, goal)}. The noise between seeds is "
        f"{_size(confirmation.margin, goal)}."
    )


def _size(distance: float, objective: Objective) -> str:
    """A distance of scores without a sign."""
    return f"{100 * distance:.2f} points" if objective.is_accuracy else f"{distance:.3g}"


def accuracy(interval: Interval, objective: Objective = VAL_ACCURACY) -> str:
    """`93.21 % (95 % interval 92.90 to 93.52 %)`."""
    unit = " %" if objective.is_accuracy else ""
    return f"{objective.show_score(interval.mean)} (95 % interval {interval_range(interval, objective)}{unit})"


def points(difference: Interval, objective: Objective = VAL_ACCURACY) -> str:
    """`+0.80 points (95 % interval +0.20 to +1.40, paired by seed)`."""
    unsure = "" if difference.significant else "; within noise: it includes zero"
    if not objective.is_accuracy:
        low, high = sorted(objective.score(end) for end in (difference.low, difference.high))
        return (
            f"{objective.show_gain(difference.mean)} (95 % interval {low:+.3g} to {high:+.3g}, paired by seed{unsure})"
        )
    return (
        f"{100 * difference.mean:+.2f} points (95 % interval {100 * difference.low:+.2f} to "
        f"{100 * difference.high:+.2f}, paired by seed{unsure})"
    )


def interval_range(interval: Interval, objective: Objective = VAL_ACCURACY) -> str:
    """`92.90 to 93.52`: the ends of an interval of scores, without the unit."""
    if not objective.is_accuracy:
        low, high = sorted(objective.score(end) for end in (interval.low, interval.high))
        return f"{objective.show(low)} to {objective.show(high)}"
    return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"


def rows(confirmation: Confirmation) -> list[tuple[str, ...]]:
    """One row of `COLUMNS` per configuration; compute in percent of the most expensive configuration."""
    most, goal = max((entry.compute or 0.0 for entry in confirmation.ranking), default=0.0), confirmation.objective
    return [
        (
            str(entry.trial) + (" (baseline)" if entry.baseline else ""),
            goal.show_score(entry.mean),
            interval_range(entry.interval, goal) if entry.interval else "–",  # the title has the unit
            _against(entry, goal) if confirmation.compared > 1 else "–",
            probability(entry) if entry.versus and confirmation.compared > 1 else "–",
            str(len(entry.accuracies)),
            f"{100 * entry.compute / most:.0f} %" if entry.compute else "–",
            _verdict(confirmation, entry),
        )
        for entry in confirmation.ranking
    ]


def _against(entry: Confirmed, objective: Objective) -> str:
    """`-0.80 (-1.40 to 0)`: the paired difference that the verdict follows from."""
    if entry.versus is None:
        return "–"
    interval = entry.versus.interval
    if not objective.is_accuracy:
        mean, ends = f"{objective.score(entry.versus.mean):+.3g}", ""
        if interval:
            values = interval.in_units_of(objective)
            ends = f" ({values.low:+.3g} to {values.high:+.3g})"
        return mean + ends
    mean = f"{100 * entry.versus.mean:+.2f}"
    return f"{mean} ({_signed(interval.low)} to {_signed(interval.high)})" if interval else mean


def _signed(difference: float) -> str:
    return f"{100 * difference:+.2f}" if difference else "0"


def _verdict(confirmation: Confirmation, entry: Confirmed) -> str:
    if entry is confirmation.chosen:
        if entry is not confirmation.ranking[0]:
            return "chosen: cheaper, and not worse by more than noise"
        tied = sum(other.tied for other in confirmation.ranking)
        return f"chosen: highest mean of {tied} that may be the best" if tied > 1 else "chosen: better than others"
    if entry.failed:
        return f"failed with {entry.failed} of its seeds"
    if entry.dropped is not None:
        return f"worse: decided after {entry.dropped} seeds"
    if entry.waiting:
        return f"{entry.waiting} trainings to do"
    return "may be the best" if entry.tied else "worse"


def markdown(confirmation: Confirmation) -> list[str]:
    """Sentences and table for MLflow."""
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(confirmation)]
    return [*(f"{line}  " for line in lines(confirmation)), "", *(f"| {' | '.join(row)} |" for row in table)]


def confirmation_json(confirmation: Confirmation | None) -> dict[str, Any] | None:
    """The confirmation as JSON, for programs. Accuracies and intervals are values of the study's objective; the gain is
    positive where the choice is better than the baseline."""
    if confirmation is None:
        return None
    goal = confirmation.objective
    return {
        "complete": confirmation.complete,
        "done": confirmation.done,
        "planned": confirmation.planned,
        "chosen": confirmation.chosen.trial if confirmation.chosen else None,
        "gain": _gain_json(confirmation.gain) if confirmation.gain else None,
        "gain_mean": confirmation.gain_mean,
        "probability_best": confirmation.chosen.chance if confirmation.chosen else None,
        "certainty": certainty(confirmation) or None,
        "margin": confirmation.margin,
        "ranking": [
            {
                "trial": entry.trial,
                "baseline": entry.baseline,
                "accuracies": {str(seed): goal.score(score) for seed, score in sorted(entry.accuracies.items())},
                "interval": dataclasses.asdict(entry.interval.in_units_of(goal)) if entry.interval else None,
                "failed": entry.failed,
                "waiting": entry.waiting,
                "compute": entry.compute,
                "tied": entry.tied,
                "mean": goal.score(entry.mean) if entry.mean is not None else None,
                "against_best_other": _versus_json(entry, goal),
                "probability_best": entry.chance if entry.versus else None,
                "dropped_after": entry.dropped,
            }
            for entry in confirmation.ranking
        ],
    }


def _gain_json(gain: Interval) -> dict[str, Any]:
    """As `hpo.results.winner.winner_json` has it, and the interval's own keys, which it always had here."""
    interval = dataclasses.asdict(gain)
    return {**interval, "value": gain.mean, "interval": interval, "within_noise": not gain.significant}


def _versus_json(entry: Confirmed, goal: Objective) -> dict[str, Any] | None:
    """The paired difference of a configuration to the best of the others; in values of the objective, like `mean`."""
    if entry.versus is None:
        return None
    interval = entry.versus.interval
    return {
        "mean": goal.score(entry.versus.mean),
        "interval": dataclasses.asdict(interval.in_units_of(goal)) if interval else None,
    }
