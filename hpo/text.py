"""Values as text for people, and texts that are safe to print. Accuracies and durations are formatted here only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from hpo.redact import printable, redact, shortened

LONGEST_LINE = 500
"""About the longest line of an error that a terminal or a table shows, in characters. The ledger has all of it."""


def close(word: str, known: Iterable[str]) -> str | None:
    """`did you mean NAME?` with the most similar of `known`, or None if none is similar."""
    best = nearest(word, known)
    return f"did you mean {best}?" if best else None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar of `known`, or None if none is similar."""
    if len(word) > 100:  # the comparison takes time quadratic in the length, and no name is that long
        return None
    best = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return best[0] if best else None


def show(value: Any) -> str:
    """A value almost as it was written: short, on one line, without control characters and passwords."""
    names: dict[Any, str] = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return names[value]
    return shorten(redact(ascii_safe(value)))


def ascii_safe(value: Any) -> str:
    """The `repr` of a value, with control characters escaped."""
    return printable(repr(value))


def one_line(text: str) -> str:
    """`text` printable and on one line."""
    return printable(text).replace("\n", "\\n")


def shorten(text: str, width: int = 60) -> str:
    """The first `width` characters of `text`, ending in `...` if it was cut."""
    return text if len(text) <= width else text[: width - 3] + "..."


def first_line(text: object) -> str:
    """The first line of a text or of an error's message, without its middle if it is longer than `LONGEST_LINE`; empty
    if there is none."""
    return shortened(next(iter(str(text).strip().splitlines()), "").rstrip(), LONGEST_LINE)


def percent(value: float | None) -> str:
    """An accuracy between 0 and 1 as a percentage: `93.21 %`; a dash for None."""
    return "–" if value is None else f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    """A duration as hours, minutes and seconds: `0:07:30`, `26:00:00`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def clock_time(seconds: float) -> str:
    """Seconds since the epoch as date and time to the minute, in local time: `2026-03-01 14:05`."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def size(count: float) -> str:
    """A number of bytes with its unit: `1.5 GB`."""
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
    """Seconds since the epoch as ISO 8601 in UTC, to the second; None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
