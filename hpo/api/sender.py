"""The view of a study that the caller's process shows: every event as a line, with a headline that sums up."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from hpo.api.messages import Begun, Done, Failed, Line, Message
from hpo.api.plain_view import PlainView
from hpo.driver.events import Event
from hpo.home import confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.summary import STATUSES
from hpo.results.sums.parts import Counts


class Sender(PlainView):
    """Sends what a plain view would print. A thread sends it, so that a caller that stands still stops no training."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        super().__init__()
        self._connection = connection
        self._messages: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pass_on, name="sender", daemon=True)
        self._thread.start()
        self._counts = Counts()
        self._trials: dict[int, TrialRecord] = {}
        self._best: TrialRecord | None = None
        self._study: StudyRecord | None = None

    def send(self, message: Message) -> None:
        """Send a message soon; returns at once."""
        self._messages.put(message)

    def finish(self, last: Done | Failed) -> None:
        """Send the last message, and wait until the caller has all of them or is gone."""
        self.send(last)
        self._thread.join()

    def _pass_on(self) -> None:
        """Send messages until the last one. A caller that is gone ends this; the study then stops by itself."""
        with suppress(OSError):
            message = None
            while not isinstance(message, Done | Failed):
                self._connection.send(message := self._messages.get())

    def say(self, text: str) -> None:
        """Show a text that is no event of the study."""
        self.send(Line(text))

    def begin(self, study: StudyRecord) -> None:
        """Say that the study is recorded, and start the clock."""
        super().begin(study)
        self._study = study
        for trial in study.trials:
            self._count(trial)
        self.send(Begun(confirmed_study(study.name) or study.name))

    def __call__(self, event: Event) -> None:
        """Send one event."""
        if event.trial is not None:
            self._count(event.trial)
        super().__call__(event)

    def write(self, line: str) -> None:
        """Send a line with the newest headline."""
        self.send(Line(line, self.headline()))

    def headline(self) -> str | None:
        """`cifar10: 5 of 20 trials, 3 complete, 2 pruned, best 93.40 % (trial 3)`; None before the study has begun."""
        if self._study is None:
            return None
        counts, spec = self._counts, self._study.spec
        parts = [f"{self._study.name}: {counts.ended} of {spec.budget.trials} trials"]
        parts += [f"{counts.statuses[status]} {status}" for status in STATUSES if counts.statuses[status]]
        if self._best is not None:
            parts.append(f"best {spec.objective.show_score(self._best.value)} ({self._best.label})")
        return ", ".join(parts)

    def _count(self, trial: TrialRecord) -> None:
        if (before := self._trials.get(trial.number)) is not None:
            self._counts.add(before, -1)
        self._counts.add(trial)
        self._trials[trial.number] = trial
        if trial.complete and (self._best is None or trial.rank > self._best.rank):
            self._best = trial
