"""Tells the receivers of a study's notifications, in a thread of its own."""

from __future__ import annotations

import dataclasses
import math
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from hpo.driver.events import Event
from hpo.driver.notify.delivery import address, kill, post, run
from hpo.driver.notify.message import Kind, message
from hpo.ledger.records import StudyRecord
from hpo.results.progress import progress
from hpo.spec.notify import Notify

CLOSE_S = 5.0
"""Longest wait for the receivers at the end of a driver."""

_News = tuple[Kind, StudyRecord, str | None]


class Notifier:
    """Sends each event once. Of several new best trials that wait for a slow receiver it sends the newest alone."""

    def __init__(self, notify: Notify, study: Callable[[], StudyRecord]) -> None:
        """
        Args:
            study: the newest record.

        Raises:
            UsageError: the environment lacks the address of the webhook.
        """
        self._notify, self._study = notify, study
        self._url = address(notify)
        best = study().best
        self._best = best.rank if best else -math.inf
        self._news = queue.SimpleQueue[_News | None]()
        self._troubles: dict[str, str] = {}
        self._told: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
        if notify.command or notify.url:
            self._thread.start()

    def __call__(self, event: Event) -> None:
        """Send a new best trial; returns at once."""
        trial = event.trial
        if event.kind == "finished" and trial and trial.complete and trial.rank > self._best:
            self._best = trial.rank
            self.tell("best", self._study())

    def end(self, study: StudyRecord, error: Exception | None) -> None:
        """Send how the driver has ended; returns at once.

        Args:
            error: what stopped the study; None if it ended in order.
        """
        study = dataclasses.replace(study, driver="none", paused=None)
        failed = error is not None or progress(study).state == "failed"
        self.tell("failure" if failed else "end", study, str(error) if error else None)

    def tell(self, kind: Kind, study: StudyRecord, reason: str | None = None) -> None:
        """Send an event, if the specification names it or it is a test; returns at once."""
        if kind in self._notify.on or kind == "test":
            self._news.put((kind, study, reason))

    @property
    def trouble(self) -> str | None:
        """What a person must know: which receiver does not take messages. Each reason is told once."""
        new = [f"{who}: {why}" for who, why in list(self._troubles.items()) if f"{who}: {why}" not in self._told]
        self._told.update(new)
        return f"warning: a notification was not delivered: {'; '.join(new)}" if new else None

    def close(self) -> str | None:
        """Wait for the receivers, at most `CLOSE_S`; returns `trouble`. A command that is still running is killed."""
        self._news.put(None)
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._troubles["notify"] = f"not everything was taken within {CLOSE_S:.0f} s"
            if (process := self._process) is not None:
                with suppress(OSError):
                    kill(process)
        return self.trouble

    # ------------------------------------------------------------------------------------- the thread

    def _work(self) -> None:
        for kind, study, reason in self._newest():
            body = message(kind, study, reason)
            if self._url is not None:
                self._note("notify.url", post(self._url, body))
            if self._notify.command is not None:
                self._note("notify.command", run(self._notify.command, body, self._started))
                self._process = None

    def _newest(self) -> Iterator[_News]:
        """What to send next, without best trials that a newer one has replaced."""
        over = False
        while not over:
            waiting = [self._news.get()]
            with suppress(queue.Empty):
                while True:
                    waiting.append(self._news.get_nowait())
            over = None in waiting
            news = [each for each in waiting if each is not None]
            last = max((place for place, each in enumerate(news) if each[0] == "best"), default=None)
            yield from (each for place, each in enumerate(news) if each[0] != "best" or place == last)

    def _started(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def _note(self, who: str, trouble: str | None) -> None:
        if trouble is not None:
            self._troubles[who] = trouble
