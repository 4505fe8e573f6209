"""Passwords never leave the process: URIs are masked before they reach a log, MLflow, a report or an export."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.\-]*://[^\s:/@]*:)[^\s@]+(?P<after>@)")
_TOKEN = re.compile(r"(?i)(?P<before>[?&](?:password|passwd|token|secret|key|access_key)=)[^&\s]+")


def redact(text: str) -> str:
    """`text` with the password of every URI in it replaced by `***`."""
    return _TOKEN.sub(r"\g<before>***", _PASSWORD.sub(r"\g<before>***\g<after>", text))
