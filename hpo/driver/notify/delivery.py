"""One delivery of a message to a command or a webhook, with a time limit. No error names the address."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from hpo.errors import UsageError
from hpo.spec.notify import Notify

RESPONSE_S = 5.0
"""Longest wait for each answer of a webhook."""
COMMAND_S = 30.0
"""Longest time of a command."""


def address(notify: Notify, environment: Mapping[str, str] = os.environ) -> str | None:
    """The address of the webhook; None if there is none.

    Raises:
        UsageError: the environment variable is not set, or holds no address. The text does not show its value.
    """
    if (name := notify.variable) is None:
        return None
    value = environment.get(name, "").strip()
    try:
        parts = urlsplit(value)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and value.isprintable() and " " not in value
    except ValueError:
        sound = False
    if not sound:
        what = "holds no address that begins with http:// or https://" if value else "is not set"
        raise UsageError(f"notify.url: the environment variable {name} {what}; set it, or remove notify.url")
    return value


def post(url: str, body: Mapping[str, Any]) -> str | None:
    """Send the message to a webhook; returns what went wrong, without the address."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "hpo"}
    try:
        request = urllib.request.Request(url, data, headers, method="POST")
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=RESPONSE_S):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"it answered with HTTP {error.code}"
    except Exception as error:  # noqa: BLE001 - a receiver may do anything, and some errors name the address
        return _unreachable(error)


def _unreachable(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {RESPONSE_S:.0f} s"
    return (cause.strerror if isinstance(cause, OSError) else None) or type(cause).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would turn the message into a request without it."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def run(command: str, body: Mapping[str, Any], started: Callable[[subprocess.Popen[bytes]], None]) -> str | None:
    """Give the message to a command; returns what went wrong.

    Args:
        started: gets the process, to `kill` it early.
    """
    told = {"HPO_EVENT": body["event"], "HPO_STUDY": body["study"], "HPO_TEXT": body["text"]}
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | told,
            start_new_session=True,  # Ctrl-C is for the driver
        )
    except OSError as error:
        return f"it cannot be started: {error.strerror}"
    started(process)
    try:
        with suppress(BrokenPipeError):  # it need not read
            process.communicate(json.dumps(body).encode(), timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        kill(process)
        return f"it took longer than {COMMAND_S:.0f} s and was killed"
    code = process.wait()
    return None if code == 0 else f"it was ended by signal {-code}" if code < 0 else f"it ended with exit code {code}"


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
