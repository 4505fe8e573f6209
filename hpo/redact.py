"""Passwords never leave the process: URIs are masked before they reach a log, MLflow, a report or an export.

Passwords are looked for where one may stand, not where a well-formed URI has one: people forget to encode `@`, `/`, `:`
and spaces. So everything up to the last `@` of a word is masked, and rather too much than too little.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

SHORTEST = 3
"""Letters of the shortest part of a password that is looked for by itself."""

_USER = r"(?P<before>[A-Za-z][A-Za-z0-9+.\-]*://[^\s:/]*:)"
_PASSWORD = re.compile(_USER + r"\S+(?P<after>@)")
_SPACED = re.compile(_USER + r"(?!\*\*\*@|\d+(?:[^\w@]|$))(?:(?!://)[^\n])+(?P<after>@)")
"""A password with spaces. What looks like a port is none, another URI begins anew, and what is masked stays so."""
_NAMED = re.compile(r"(?i)(?P<before>(?:[?&][\w-]*(?:token|secret|key)|\b\w*(?:password|passwd|pwd))\s*=\s*)[^&\s]+")
"""In a URI's query, or as the database drivers write a connection down."""


def redact(text: str, *uris: str) -> str:
    """`text` with the password of every URI in it replaced by `***`.

    Of `uris` also parts of the password are masked where they stand alone: a driver that takes a URI apart at the wrong
    `@` calls the rest of the password a host.
    """
    for uri in uris:
        if found := _PASSWORD.search(uri) or _SPACED.search(uri):
            secret = uri[found.end("before") : found.start("after")]
            for part in sorted(re.split(r"[@/?#:&\s]+", f"{secret}@{unquote(secret)}"), key=len, reverse=True):
                text = text.replace(part, "***") if len(part) >= SHORTEST else text
    for pattern in (_SPACED, _PASSWORD):
        text = pattern.sub(r"\g<before>***\g<after>", text)
    return _NAMED.sub(r"\g<before>***", text)


def encoding_hint(uri: str) -> str:
    """A sentence to add where a URI did not work and its password is likely why; `` otherwise."""
    found = _PASSWORD.search(uri) or _SPACED.search(uri)
    if found and re.search(r"[@/?#:\s]", uri[found.end("before") : found.start("after")]):
        return ". In a password @ : / ? # and spaces must be percent-encoded, e.g. %40 for @"
    return ""
