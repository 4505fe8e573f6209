"""Did the warm start help? The configurations of earlier studies, compared with the random ones of this study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.spec.objectives import VAL_ACCURACY, Objective

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Effect:
    """Transferred configurations compared with random ones, at the first rung, which every trial reaches."""

    transferred: tuple[float, ...]
    random: tuple[float, ...]
    superiority: float | None
    """Probability that a transferred configuration is better than a random one, ties counting half; None if one of the
    two kinds is missing."""
    p: float | None
    """Probability of this difference or a greater one by chance (two-sided, Mann and Whitney)."""
    objective: Objective = VAL_ACCURACY
    """What `transferred` and `random` are scores of."""

    @property
    def verdict(self) -> Literal["helped", "misled", "undecided"]:
        """The conclusion."""
        if self.p is None or self.superiority is None or self.p > SIGNIFICANCE:
            return "undecided"
        return "helped" if self.superiority > 0.5 else "misled"

    def __str__(self) -> str:
        if self.p is None:
            return f"no comparison yet: {len(self.transferred)} transferred and {len(self.random)} random trials"
        transferred, random = (
            self.objective.show_score(statistics.median(scores)) for scores in (self.transferred, self.random)
        )
        return (
            f"{_WORDS[self.verdict]}: at the first rung {len(self.transferred)} transferred configurations have a "
            f"median of {transferred}, {len(self.random)} random ones {random}; a transferred configuration is better "
            f"than a random one with probability {self.superiority:.2f} (p = {self.p:.2g}, Mann-Whitney)"
        )


_WORDS = {
    "helped": "the transfer helped",
    "misled": "the transfer misled",
    "undecided": "too few trials to say whether the transfer helped",
}


def effect(study: StudyRecord) -> Effect | None:
    """The comparison; None if the study takes over no configuration.

    Values after the first rung would mislead, because only good trials have them. Failed trials count as worst.
    """
    if not study.transfer.first:
        return None
    transferred, random = _values(study, "transferred"), _values(study, "random")
    if not transferred or not random:
        return Effect(transferred, random, None, None, study.spec.objective)
    from scipy.stats import mannwhitneyu

    test = mannwhitneyu(transferred, random, alternative="two-sided")
    superiority = float(test.statistic) / len(transferred) / len(random)
    return Effect(transferred, random, superiority, float(test.pvalue), study.spec.objective)


def _values(study: StudyRecord, kind: str) -> tuple[float, ...]:
    ours = [trial for trial in study.trials if trial.origin is not None and trial.origin.kind == kind]
    return tuple(value for trial in ours if (value := _first_value(trial, study.spec.objective)) is not None)


def _first_value(trial: TrialRecord, objective: Objective) -> float | None:
    if trial.rungs:
        return min(trial.rungs, key=lambda decision: decision.rung).value
    if trial.status == "failed":
        return 0.0 if objective.is_accuracy else -math.inf
    return trial.value if trial.complete else None


def best_by_origin(study: StudyRecord) -> Sequence[TrialRecord]:
    """The best complete trial of each origin, the best first."""
    best: dict[str, TrialRecord] = {}
    for trial in study.trials:
        if trial.complete and trial.origin is not None:
            other = best.get(trial.origin.kind)
            if other is None or trial.rank > other.rank:
                best[trial.origin.kind] = trial
    return sorted(best.values(), key=lambda trial: -trial.rank)
