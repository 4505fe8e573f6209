"""Whether what a study took over from earlier ones was worth it: its first results against the random trials'."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.text import percent

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Effect:
    """Transferred configurations against random ones, where every trial was measured: at its first rung."""

    transferred: tuple[float, ...]
    random: tuple[float, ...]
    superiority: float | None
    """Probability that a transferred one is better than a random one, ties counting half; None without both."""
    p: float | None
    """Of such a difference or a greater one by chance (two-sided, Mann and Whitney)."""

    @property
    def verdict(self) -> Literal["helped", "misled", "undecided"]:
        """What the numbers allow to say."""
        if self.p is None or self.superiority is None or self.p > SIGNIFICANCE:
            return "undecided"
        return "helped" if self.superiority > 0.5 else "misled"

    def __str__(self) -> str:
        if self.p is None:
            return f"no comparison yet: {len(self.transferred)} transferred and {len(self.random)} random trials"
        return (
            f"at the first rung {len(self.transferred)} transferred configurations have a median of "
            f"{percent(statistics.median(self.transferred))}, {len(self.random)} random ones "
            f"{percent(statistics.median(self.random))}; one of the former is better than one of the latter with "
            f"probability {self.superiority:.2f} (p = {self.p:.2g}, Mann-Whitney): {_WORDS[self.verdict]}"
        )


_WORDS = {
    "helped": "the transfer helped",
    "misled": "the transfer misled",
    "undecided": "too few to say whether the transfer helped",
}


def effect(study: StudyRecord) -> Effect | None:
    """The comparison, None where the study takes nothing over.

    Later values would mislead: only the trials that were ahead at a rung have them. Failed trials count as worst.
    """
    if not study.transfer.first:
        return None
    transferred, random = _values(study, "transferred"), _values(study, "random")
    if not transferred or not random:
        return Effect(transferred, random, None, None)
    from scipy.stats import mannwhitneyu

    test = mannwhitneyu(transferred, random, alternative="two-sided")
    return Effect(transferred, random, float(test.statistic) / len(transferred) / len(random), float(test.pvalue))


def _values(study: StudyRecord, kind: str) -> tuple[float, ...]:
    ours = [trial for trial in study.trials if trial.origin is not None and trial.origin.kind == kind]
    return tuple(value for trial in ours if (value := _first_value(trial)) is not None)


def _first_value(trial: TrialRecord) -> float | None:
    if trial.rungs:
        return min(trial.rungs, key=lambda one: one.rung).value
    if trial.status == "failed":
        return 0.0
    return trial.value if trial.complete else None


def best_by_origin(study: StudyRecord) -> Sequence[TrialRecord]:
    """Of each origin the best complete trial, the best first."""
    best: dict[str, TrialRecord] = {}
    for trial in study.trials:
        if trial.complete and trial.origin is not None:
            other = best.get(trial.origin.kind)
            if other is None or (trial.value or 0.0) > (other.value or 0.0):
                best[trial.origin.kind] = trial
    return sorted(best.values(), key=lambda trial: -(trial.value or 0.0))
