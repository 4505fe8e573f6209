"""A request to the driver of a study, and its answer: records, and their JSON form."""

from __future__ import annotations

import dataclasses
import getpass
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from hpo.spec.parameters import Choice
from hpo.text import iso

REQUEST_PREFIX = "hpo:request/"
"""Start of the names of requests among a study's attributes. Each has one of its own, so none overwrites another."""
Kind: TypeAlias = Literal["stop", "stop_now", "pause", "continue", "stop_trial", "add", "set"]
LASTING: tuple[Kind, ...] = ("add", "stop_trial")
"""What concerns a trial is done by the next driver, too. All else concerns the driver that was asked, and is void once
that driver has ended."""


@dataclass(frozen=True)
class Answer:
    """What became of a request."""

    state: Literal["done", "refused", "void"]
    """`void`: the driver that was asked had ended."""
    text: str
    """What was done, or why it was not, for the person who asked."""
    at: float
    """Seconds since the epoch, of the driver's clock."""
    trial: int | None = None
    """Number of the trial that was enqueued or ended; None for other requests."""


@dataclass(frozen=True)
class Request:
    """What somebody asks of the driver of a study."""

    id: str
    kind: Kind
    by: str
    """Who asks, as `user@host`."""
    at: float
    """When, in seconds since the epoch, by the clock of the machine on which it was asked."""
    driver: str | None = None
    """Token of the lease of the driver that is asked; None: the next driver."""
    trial: int | None = None
    """Number of the trial to stop."""
    values: Mapping[str, Choice] = field(default_factory=dict)
    """The configuration to try, by dotted path."""
    overrides: tuple[str, ...] = ()
    """`dotted.key=value`: what to change in the specification."""
    answer: Answer | None = None

    @classmethod
    def new(cls, kind: Kind, **content: Any) -> Request:
        """A request of this process's user, at this moment."""
        return cls(uuid.uuid4().hex, kind, who(), time.time(), **content)

    @property
    def key(self) -> str:
        """Name of its attribute."""
        return f"{REQUEST_PREFIX}{self.id}"

    @property
    def asks(self) -> str:
        """What a person would have typed, without the name of the study: `set budget.trials=80`."""
        if self.kind == "add":
            return " ".join(["add", *(f"{path}={value}" for path, value in self.values.items())])
        words = {"stop_now": "stop --now", "continue": "pause --off", "stop_trial": f"stop --trial {self.trial}"}
        return " ".join([words.get(self.kind, self.kind), *self.overrides])

    def to_json(self) -> dict[str, Any]:
        """The content of its attribute."""
        return dataclasses.asdict(self)

    def told(self) -> dict[str, Any]:
        """What programs read of it. `kept`: the next driver will do it. `waiting`: a driver was asked."""
        answer = self.answer
        return {
            "request": self.id,
            "asks": self.asks,
            "by": self.by,
            "at": iso(self.at),
            "state": answer.state if answer else "waiting" if self.driver else "kept",
            "answered": iso(answer.at) if answer else None,
            "text": answer.text if answer else None,
            "trial": answer.trial if answer else self.trial,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Request:
        """Read the content of its attribute."""
        answer = stored.get("answer")
        content = {**stored, "overrides": tuple(stored["overrides"]), "answer": Answer(**answer) if answer else None}
        return cls(**content)


def who() -> str:
    """The user of this process, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def requests_in(attributes: Mapping[str, Any]) -> tuple[Request, ...]:
    """All requests among the attributes of a study, the oldest first."""
    found = [Request.from_json(value) for key, value in attributes.items() if key.startswith(REQUEST_PREFIX)]
    return tuple(sorted(found, key=lambda request: request.at))
