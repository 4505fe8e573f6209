"""Whether a study may still gain enough: `budget.patience` and `budget.min_gain_per_gpu_hour`.

Both need a model of the complete trials. It is fitted in a thread of its own, once for each of them; the thread that
schedules hands over a trial and reads what the thread has found out until then.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation import seed_noise

Foresee: TypeAlias = Callable[[Sequence[TrialRecord]], tuple[float, float] | None]
"""From complete trials to what another trial may bring, at most and on average; None if that is not known: see
`hpo.search.prospect`."""


class Patience:
    """What the complete trials of one study say of those to come; it makes no difference how often it was resumed."""

    def __init__(self, study: StudyRecord, foresee: Foresee) -> None:
        """
        Args:
            study: as it is when its driver begins.
        """
        self._study = study
        self._foresee = foresee
        complete = [trial for trial in study.trials if trial.complete]
        self._complete = sorted(complete, key=lambda trial: (trial.finished or 0.0, trial.number))
        self._foreseen: dict[int, tuple[float, float] | None] = {}
        """By how many trials were complete."""
        self._answers: deque[Future[str | None]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="patience")

    def notice(self, trial: TrialRecord, cost: float) -> None:
        """A trial is complete.

        Args:
            cost: GPU-hours of a trial, on average until now.
        """
        self._complete.append(trial)
        self._answers.append(self._thread.submit(self._judge, len(self._complete), cost))

    def exhausted(self, *, wait: bool = False) -> str | None:
        """Why the study stops, in words; None while it continues.

        Args:
            wait: whether to wait until the thread has thought of all trials.

        Raises:
            Exception: any error of the model.
        """
        while self._answers and (wait or self._answers[0].done()):
            if (reason := self._answers.popleft().result()) is not None:
                return reason
        return None

    def close(self, *, wait: bool = True) -> None:
        """End the thread. Ask for the last answer before.

        Args:
            wait: whether to wait for its end.
        """
        self._thread.shutdown(wait, cancel_futures=True)

    # What follows runs in the thread.

    def _judge(self, count: int, cost: float) -> str | None:
        """Why the study stops after so many complete trials; None also if more are complete by now."""
        if count < len(self._complete):
            return None
        return self._out_of_patience(count) or self._too_dear(count, cost)

    def _out_of_patience(self, count: int) -> str | None:
        patience = self._study.spec.budget.patience
        if patience is None or count < patience:
            return None
        for fewer in range(patience):
            left = self._gain_left(count - fewer)
            if left is None or left[0] >= left[1]:
                return None
        possible, noise = self._gain_left(count) or (0.0, 0.0)
        return (
            f"budget.patience: for {patience} complete trials in a row the possible improvement (now at most "
            f"{possible:.4f}) was smaller than the variation between seeds ({noise:.4f})"
        )

    def _too_dear(self, count: int, cost: float) -> str | None:
        price = self._study.spec.budget.min_gain_per_gpu_hour
        if price is None or not cost or (ahead := self._ahead(count)) is None or ahead[1] / cost >= price:
            return None
        return (
            f"budget.min_gain_per_gpu_hour: another GPU-hour is expected to improve the best trial by "
            f"{ahead[1] / cost:.2g}, less than {price:g}"
        )

    def _gain_left(self, count: int) -> tuple[float, float] | None:
        """The possible improvement and the variation between seeds when so many trials were complete; None if one of
        the two is not known."""
        ahead, trials = self._ahead(count), tuple(self._complete[:count])
        noise = seed_noise(dataclasses.replace(self._study, trials=trials))
        return None if ahead is None or noise is None else (ahead[0], noise)

    def _ahead(self, count: int) -> tuple[float, float] | None:
        """What another trial might bring when so many were complete."""
        if count not in self._foreseen:
            self._foreseen[count] = self._foresee(self._complete[:count])
        return self._foreseen[count]
