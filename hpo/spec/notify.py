"""Whom a study tells what happens to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpo.spec.parameters import Section

REFERENCE = r"^\$([A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*\})$"
"""The name of an environment variable as a shell writes it."""


class Notify(Section):
    """Whom the study tells of its end, of a failure and of a new best trial: a command, a webhook, or both. Neither
    delays the training."""

    command: Annotated[str, Field(min_length=1)] | None = None
    """Command for `/bin/sh` on the driver's machine, for example `mail -s "$HPO_TEXT" me@example.org`. It gets the
    message as JSON on its standard input, and `HPO_EVENT`, `HPO_STUDY` and `HPO_TEXT` in its environment. It is killed
    after 30 s. The ledger stores the command, so write `$TOKEN` and not the token. null: none."""
    url: Annotated[str, Field(pattern=REFERENCE)] | None = None
    """The environment variable that holds the address of a webhook, for example `${SLACK_URL}`. The message is sent
    there as JSON, by POST. The address itself is refused: whoever knows it can write to the channel, and many places
    store a specification. null: none."""
    on: tuple[Literal["end", "failure", "best"], ...] = ("end", "failure", "best")
    """Which events are told. `end`: the driver ended in order, because the study is finished or was interrupted;
    `failure`: an error stopped the study, or no trial succeeded; `best`: a complete trial is the best so far."""

    @property
    def variable(self) -> str | None:
        """Name of the environment variable of `url`."""
        return self.url.strip("${}") if self.url else None
