"""The driver's ear: a thread that reads what people ask of the study, has it done, and answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from hpo.driver.conductor import Conductor
from hpo.driver.signals import SignalGuard
from hpo.errors import HpoError, InfrastructureError, UsageError
from hpo.ledger.steering.requests import LASTING, Answer, Request
from hpo.ledger.storage import storage_errors
from hpo.redact import as_reason
from hpo.text import first_line
from hpo.validation.revision import added, revise_running

LOOK_S = 2.0
"""Time between two looks at the ledger. Each is one small statement, however large the study is."""


@dataclass(frozen=True)
class Done:
    """What came of a request."""

    text: str
    state: Literal["done", "refused", "void"] = "done"
    trial: int | None = None
    then: Callable[[], None] = lambda: None
    """What is done after the answer is written, because nothing is written after it."""


class Helm:
    """While active, does what people ask for from elsewhere. An outage of the database delays it and ends nothing."""

    def __init__(self, conductor: Conductor, signals: SignalGuard, driver: str) -> None:
        """
        Args:
            driver: token of this driver's lease. What was asked of an earlier driver is void, unless it lasts.
        """
        self._conductor = conductor
        self._signals = signals
        self._driver = driver
        self._ledger = conductor.ledger
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="steering", daemon=True)

    def __enter__(self) -> Helm:
        self.look()  # first of all, so that no trial begins that was to be stopped
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(LOOK_S)  # a database that does not answer must not hold up the end

    def _listen(self) -> None:
        while not self._over.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Do and answer what nobody has answered. What the database refuses is tried again at the next look."""
        try:
            for request in self._ledger.mailbox.unanswered():
                self._serve(request)
        except _outages():
            return  # the conductor meets it too, and decides what becomes of the study

    def _serve(self, request: Request) -> None:
        try:
            done = self._act(request)
        except _outages():
            raise
        except HpoError as error:
            done = Done(str(error), "refused")
        except Exception as error:  # noqa: BLE001 - a mistake in this program must not deafen the driver
            done = Done(f"{type(error).__name__}: {first_line(error)}", "refused")
        answer = Answer(done.state, as_reason(done.text), self._ledger.clock.now(), done.trial)
        self._ledger.answer(request, answer)
        done.then()

    def _act(self, request: Request) -> Done:
        """Do what is asked, unless it was asked of an earlier driver.

        Raises:
            UsageError: it cannot be done.
        """
        steering, by, spec = self._conductor.steering, request.by, self._conductor.spec
        if request.driver not in (None, self._driver) and request.kind not in LASTING:
            return Done("the driver that was asked had ended", "void")
        if request.kind == "stop":
            return Done("the study stops and can be resumed", then=lambda: self._signals.stop_for(by))
        if request.kind == "stop_now":
            return Done("the driver ends at once; the study can be resumed", then=lambda: self._signals.exit_for(by))
        if request.kind == "pause":
            return Done(steering.pause(by))
        if request.kind == "continue":
            return Done(steering.go_on(by))
        if request.kind == "stop_trial":
            assert request.trial is not None
            return Done(steering.stop_trial(request.trial, by), trial=request.trial)
        if request.kind == "add":
            number, said = steering.add(added(spec, request.values), by, request.id)
            return Done(said, trial=number)
        if request.kind == "set":
            change = " ".join(request.overrides)
            return Done(steering.revise(revise_running(spec, request.overrides), by, change))
        raise UsageError(f"the driver knows no request {request.kind!r}; its version of this tool is older")


def _outages() -> tuple[type[Exception], ...]:
    return (*storage_errors(), InfrastructureError)
