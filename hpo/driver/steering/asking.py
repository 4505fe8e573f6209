"""The side of whoever asks: find the driver of a study, leave a request in the ledger, and wait for the answer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home, confirmation_of, confirmed_study
from hpo.ledger.lock import driver_of, gone
from hpo.ledger.reader import checked_attributes, last_holder, open_existing
from hpo.ledger.steering.mailbox import Mailbox
from hpo.ledger.steering.requests import LASTING, Answer, Kind, Request

WAIT_S = 20.0
"""How long a person waits for the answer; drivers look every 2 s, and a busy machine delays them."""
LOOK_S = 0.5
FOR_SEARCHES: tuple[Kind, ...] = ("add", "set", "stop_trial")
"""What only a study can be asked, not its confirmation: that trains what is planned."""


@dataclass(frozen=True)
class Asked:
    """A request and what came of it."""

    study: str
    """The study that was asked: the one that was named, or its confirmation."""
    request: Request
    answer: Answer | None
    """None: no driver runs the study, and the next one will do it."""

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {"study": self.study, **dataclasses.replace(self.request, answer=self.answer).told()}


def ask(home: Home, name: str, kind: Kind, *, wait: float = WAIT_S, **content: Any) -> Asked:
    """Ask the driver of a study for something, and wait for its answer.

    `add` to a study that no driver runs is kept for the next one.

    Args:
        wait: in seconds.
        content: the fields of `Request` that belong to the kind.

    Raises:
        UsageError: there is no such study, no driver runs it, or the driver refuses.
        InfrastructureError: the driver does not answer, or the ledger cannot be reached.
    """
    if (confirmed := confirmed_study(name)) is not None:
        name = confirmed
    storage = open_existing(home, name)
    checked_attributes(storage, name)
    study, holder = _running(storage, name, kind)
    if holder is None and kind != "add":
        raise UsageError(_nobody(home, name, kind))
    request = Request.new(kind, driver=holder["token"] if holder else None, **content)
    mailbox = Mailbox.of(storage, study)
    mailbox.post(request)
    if holder is None:
        return Asked(study, request, None)
    answer = _await(mailbox, request, lambda: last_holder(storage, study), wait)
    if answer is None:
        driver = f"process {holder['pid']} on {holder['host']}"
        fate = "the next driver does it" if kind in LASTING else "nothing happens"
        raise InfrastructureError(
            f"{driver} runs {study} and has not answered for {wait:.0f} s; it does what was asked as soon as it looks. "
            f"If it has died, {fate}. Look with: {home.command(f'status {name}')}"
        )
    if answer.state == "refused":
        raise UsageError(answer.text)
    if answer.state == "void":
        raise UsageError(f"{answer.text}, so nothing was done; ask again")
    return Asked(study, request, answer)


def _running(storage: Any, name: str, kind: Kind) -> tuple[str, Mapping[str, Any] | None]:
    """The study that a living driver works on, the one of this name or its confirmation, and that driver's lease."""
    for study in (name, *([] if kind in FOR_SEARCHES else [confirmation_of(name)])):
        holder = last_holder(storage, study)
        if holder is not None and not gone(holder):
            return study, holder
    return name, None


def _nobody(home: Home, name: str, kind: Kind) -> str:
    if (driver := driver_of(home.study(name))) is not None:
        if kind in FOR_SEARCHES:
            return f"{name} is being confirmed, or its driver is starting or ending ({driver}); try again later"
        return f"the driver of {name} is starting or ending ({driver}); try again in a few seconds"
    remedy = home.command(f"resume {name}", "budget.trials=80" if kind == "set" else "")
    what = {
        "set": f"so it takes nothing up now; continue it with other settings by, for example, `{remedy}`",
        "stop_trial": f"so none of its trials trains; `{remedy}` continues it, and then a trial can be stopped",
    }
    return f"no driver runs {name}, " + what.get(kind, f"so there is nothing to stop; `{remedy}` continues it")


def _await(
    mailbox: Mailbox, request: Request, holder: Callable[[], Mapping[str, Any] | None], wait: float
) -> Answer | None:
    """The answer; None if there is none in time.

    Raises:
        UsageError: the driver has ended without an answer.
    """
    deadline = time.monotonic() + wait
    while True:
        there = holder()  # before the look: a driver answers before it ends
        found = mailbox.find(request)
        if found is not None and found.answer is not None:
            return found.answer
        if there is None or there["token"] != request.driver:
            fate = "the next driver does it" if request.kind in LASTING else "nothing was done"
            raise UsageError(f"the driver ended before it answered, so {fate}")
        if time.monotonic() > deadline:
            return None
        time.sleep(LOOK_S)
