"""Values as text for people, and texts made safe to print. No other module formats a percentage or a duration."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from hpo.redact import redact


def close(word: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?` with the nearest of `known`, or None where none is near."""
    best = nearest(word, known)
    return f"did you mean {best}?" if best else None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar of `known`, or None if none is similar."""
    if len(word) > 100:  # comparing is quadratic in the length, and nobody means a word that long
        return None
    best = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return best[0] if best else None


def show(value: Any) -> str:
    """A value as the person wrote it, nearly: short, on one line, no control characters, no passwords."""
    names: dict[Any, str] = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return names[value]
    return shorten(redact(ascii_safe(value)))


def ascii_safe(value: Any) -> str:
    """`repr` that never holds a control character."""
    return printable(repr(value))


def printable(text: str) -> str:
    """`text` with control characters escaped: a file must not be able to steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shorten(text: str, width: int = 60) -> str:
    """At most `width` characters of `text`, with an ellipsis where it was longer."""
    return text if len(text) <= width else text[: width - 3] + "..."


def first_line(text: object) -> str:
    """The first line of a text or of an error's message; empty if there is none."""
    return next(iter(str(text).strip().splitlines()), "")


def percent(value: float | None) -> str:
    """An accuracy for people: `93.21 %`."""
    return "–" if value is None else f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    """A span of time for people: `0:07:30`, `26:00:00`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def size(count: float) -> str:
    """Bytes for people: `1.5 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Each dotted path with its shortest unique ending: `lr` for `train.lr`.

    `start` and `end` keep the part before: `dropout.end` for `train.progressive.dropout.end`.
    """
    paths = list(paths)
    return {path: _shortest(path, paths) for path in paths}


def _shortest(path: str, paths: Sequence[str]) -> str:
    parts = path.split(".")
    least = 2 if parts[-1] in ("start", "end") else 1
    for count in range(least, len(parts)):
        ending = "." + ".".join(parts[-count:])
        if sum(f".{other}".endswith(ending) for other in paths) == 1:
            return ending[1:]
    return path


def iso(seconds: float | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
