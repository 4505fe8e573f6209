"""When a search has nothing left to gain but luck."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hpo.driver.stopping import seed_noise
from hpo.ledger.records import TrialRecord
from hpo.ledger.writer import Ledger


class Patience:
    """`budget.patience` of an open study: from its ledger alone, so that it makes no difference how often the study
    was resumed."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left: dict[int, tuple[float, float] | None] = {}
        """By the newest of the complete trials; reckoning it takes a Gaussian process."""

    def exhausted(self) -> str | None:
        """Why the study ends, in words; None while it goes on. To be asked when a trial is complete."""
        patience = self._ledger.spec.budget.patience
        complete = [trial for trial in self._ledger.trials if trial.complete]
        if patience is None or len(complete) < patience:
            return None
        complete.sort(key=lambda trial: (trial.finished or 0.0, trial.number))
        for fewer in range(patience):
            left = self._gain_left(complete[: len(complete) - fewer])
            if left is None or left[0] >= left[1]:
                return None
        bound, noise = self._gain_left(complete) or (0.0, 0.0)
        return (
            f"budget.patience: for {patience} complete trials in a row no more than {bound:.4f} could be gained, "
            f"less than the noise of {noise:.4f} between seeds"
        )

    def _gain_left(self, complete: Sequence[TrialRecord]) -> tuple[float, float] | None:
        """What could still be gained when these trials were complete and no other, and the noise between seeds as
        they tell it; None where either cannot be told."""
        newest = complete[-1].number
        if newest not in self._left:
            bound = self._ledger.regret_bound({trial.number for trial in complete})
            noise = seed_noise(dataclasses.replace(self._ledger.study, trials=tuple(complete)))
            self._left[newest] = None if bound is None or noise is None else (bound, noise)
        return self._left[newest]
