"""Passwords never leave the process: URIs are masked before they reach a log, MLflow, a report or an export.

A password is looked for where one may stand, not only where a well-formed URI has one: people forget to encode `@`,
`/`, `:` and spaces. So everything up to the last `@` of a word is masked. Masking too much is safer than too little.

All steps take time that is linear in the length of the text: each `://` is found once, and looks back a fixed distance.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

SHORTEST = 3
"""Shortest part of a password that is also masked where it stands alone, in characters."""
LONGEST = 64 * 1024
"""Longest text of an error that is read at all, in characters: of a longer one the middle is left out first."""
KEPT = 4_000
"""Longest text that is recorded or shown as the reason of something, in characters."""
SCHEME = 64
"""Longest scheme of a URI, in characters."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_USER = re.compile(r"[^\s:/]*:")
_PORT = re.compile(r"\*\*\*@|\d+(?:[^\w@]|$)")
"""Behind the user: a password that is masked already, or a port."""
_SECRET = r"(?:password|passwd|pwd|secret|token|api_?key|access_?key|private_?key)"
_NAMED = re.compile(
    rf"(?i)(?P<before>(?:[?&][\w-]*(?:token|secret|key)|\b\w*{_SECRET})\s*=\s*"
    r"|\b(?:Bearer|Basic)\s+(?=[\w.~+/=-]{12}))[^&\s]+"
)
"""In a URI's query, in the form that database drivers use for a connection, in an environment variable, and in the
header of a request."""
_QUOTED = re.compile(
    rf"(?i)(?P<before>(?P<quote>['\"])[\w-]*{_SECRET}(?P=quote)\s*:\s*(?P<around>['\"]))"
    r"(?:(?!(?P=around))[^\n])+(?P=around)"
)
"""In a dictionary that an error shows."""


def redact(text: str, *uris: str) -> str:
    """`text` with the password of every URI in it replaced by `***`.

    Parts of the passwords of `uris` are masked also where they stand alone: a driver that splits a URI at the wrong
    `@` calls the rest of the password a host.
    """
    for uri in uris:
        if span := _password(uri):
            secret = uri[slice(*span)]
            for part in sorted(re.split(r"[@/?#:&\s]+", f"{secret}@{unquote(secret)}"), key=len, reverse=True):
                text = text.replace(part, "***") if len(part) >= SHORTEST else text
    text = _masked(text, _with_spaces(text))
    text = _masked(text, _without_spaces(text))
    text = _QUOTED.sub(r"\g<before>***\g<around>", text)
    return _NAMED.sub(r"\g<before>***", text)


def as_reason(text: str) -> str:
    """`text` masked, cut to `KEPT` characters and printable: what is recorded and shown of an error."""
    return shortened(redact(printable(shortened(text, LONGEST))), KEPT)


def printable(text: str) -> str:
    """`text` with all control characters but line ends escaped, and halves of surrogate pairs too.

    So it cannot control a terminal, and every database and file takes it.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)


def shortened(text: str, length: int) -> str:
    """At most about `length` characters of `text`: its first three quarters and its end, with a note between them.

    A word that the cut would split is dropped if it may hold a password, because masking does not recognise half a
    password.
    """
    if len(text) <= length:
        return text
    first = length * 3 // 4
    head = _without_half_word(text[: first + 1])
    tail = _without_half_word(text[first - length - 1 :][::-1])[::-1]
    return f"{head.rstrip()} [... {len(text) - len(head) - len(tail):,} characters left out ...] {tail.lstrip()}"


def _without_half_word(text: str) -> str:
    """`text` without its last character, and without the last word where that splits a word with a URI or an `@`."""
    whole, split = text[:-1], not text[-1].isspace()
    start = max((match.end() for match in re.finditer(r"\s", whole)), default=0)
    return whole[:start] if split and re.search(r"//:|://|@", whole[start:]) else whole


def encoding_hint(uri: str) -> str:
    """A sentence to add where a URI did not work and its password is likely the cause; `` otherwise."""
    span = _password(uri)
    if span and re.search(r"[@/?#:\s]", uri[slice(*span)]):
        return ". In a password @ : / ? # and spaces must be percent-encoded, e.g. %40 for @"
    return ""


Span = tuple[int, int]
"""Start and end of a password in a text."""


def _password(uri: str) -> Span | None:
    return next(iter([*_without_spaces(uri), *_with_spaces(uri)]), None)


def _masked(text: str, spans: list[Span]) -> str:
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], "***"]
        at = end
    return "".join([*pieces, text[at:]])


def _users(text: str) -> list[int]:
    """Where a password may begin: behind every `scheme://user:`."""
    starts, at = [], text.find("://")
    while at >= 0:
        user = _USER.match(text, at + 3)
        if user and _SCHEME.search(text[max(0, at - SCHEME) : at]):
            starts.append(user.end())
        at = text.find("://", at + 3)
    return starts


def _without_spaces(text: str) -> list[Span]:
    """From a user to the last `@` of the same word."""
    spans: list[Span] = []
    starts = _users(text)
    words = re.finditer(r"\S+", text)
    end = at = -1
    for start in starts:
        while end < start and (word := next(words, None)):
            end, at = word.end(), text.rfind("@", word.start(), word.end())
        if start < at and (not spans or start >= spans[-1][1]):
            spans.append((start, at))
    return spans


def _with_spaces(text: str) -> list[Span]:
    """From a user to the last `@` of the line, or of the part before the next URI."""
    spans = []
    for line in re.finditer(r"[^\n]+", text):
        starts = _users(line[0])
        for start in starts:
            until = line[0].find("://", start)
            at = line[0].rfind("@", start, len(line[0]) if until < 0 else until)
            if start < at and not _PORT.match(line[0], start):
                spans.append((line.start() + start, line.start() + at))
    return spans
