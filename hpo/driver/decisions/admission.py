"""Which trial a free worker gets: one that is to run again, a pruned one that is worth more, or a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hpo.driver.decisions.tally import Tally
from hpo.driver.events import Announcer
from hpo.ledger.records import TrialRecord
from hpo.ledger.writer import Ledger
from hpo.spec.seeds import derive_seed

if TYPE_CHECKING:
    from hpo.ledger.trial_writer import Suggest


class _Attempts(Protocol):
    """What is needed of `hpo.driver.decisions.attempts.Attempts`."""

    @property
    def any_running(self) -> bool:
        """Whether a trial has a worker or waits for one."""

    @property
    def waits_for_gpu(self) -> bool:
        """Whether a trial that is to have a GPU alone waits for one."""

    def resume(self) -> TrialRecord | None:
        """Begin the next attempt at a trial that is to run again; None if there is none."""

    def take_up(self, number: int) -> TrialRecord:
        """Begin the next attempt at a pruned trial that is kept."""

    def settle_doubts(self) -> None:
        """Nothing else is to do: trials that wait for a verdict run elsewhere, or have failed."""


class Admission:
    """Begins the attempts of one study."""

    def __init__(
        self,
        ledger: Ledger,
        announce: Announcer,
        attempts: _Attempts,
        tally: Tally,
        landing: Callable[[], int | None],
        draw: Suggest,
    ) -> None:
        """
        Args:
            landing: gives the number of the pruned trial that is worth more than a new one; None if none is.
            draw: gives the parameters of a new trial.
        """
        self._ledger = ledger
        self._announce = announce
        self._attempts = attempts
        self._tally = tally
        self._landing = landing
        self._draw = draw

    def next(self) -> TrialRecord | None:
        """Begin the next attempt at a trial; None if the budget has no trial left, or while one waits for a GPU."""
        if self._attempts.waits_for_gpu:
            return None
        if (again := self._attempts.resume()) is not None:
            return again
        if (number := self._landing()) is not None:
            return self._attempts.take_up(number)
        if self._tally.started >= self._ledger.spec.budget.trials:
            if not self._attempts.any_running:
                self._attempts.settle_doubts()
            return self._attempts.resume()
        return self._begin()

    def _begin(self) -> TrialRecord:
        seed = self._ledger.spec.seed
        trial = self._ledger.ask(self._draw, lambda number: derive_seed(seed, number))
        self._announce.trial("started", trial)
        return trial
