"""Answers of a bounded size: what an agent reads must fit into its context, however large the study is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeVar

from hpo.cli.programs.documents import finite, text
from hpo.text import shorten

MOST_ITEMS = 20
"""Items of a list inside an answer."""
MOST_CHARACTERS = 1_000
"""Characters of a text inside an answer."""
MOST_ROWS = 100
"""Rows of a page of trials or studies."""
MOST_SIZE = 20_000
"""Characters of a page of trials or studies, but for its first row."""
T = TypeVar("T")


def bounded(content: Mapping[str, Any], most: int = MOST_ITEMS) -> dict[str, Any]:
    """The content with short lists and texts; `left_out` says how many items of which list are missing."""
    left_out: dict[str, int] = {}
    short = {key: _short(finite(value), key, most, left_out) for key, value in content.items()}
    return {**short, "left_out": left_out}


def _short(value: Any, path: str, most: int, left_out: dict[str, int]) -> Any:
    if isinstance(value, dict):
        return {key: _short(item, f"{path}.{key}", most, left_out) for key, item in value.items()}
    if isinstance(value, list):
        if len(value) > most:
            left_out[path] = len(value) - most
        return [_short(item, f"{path}[{place}]", most, left_out) for place, item in enumerate(value[:most])]
    return shorten(value, MOST_CHARACTERS) if isinstance(value, str) else value


def page(
    items: Sequence[T], limit: int, offset: int, told: Callable[[Sequence[T]], Sequence[Any]] = lambda items: items
) -> tuple[Sequence[Any], dict[str, Any]]:
    """At most `limit` items from `offset` on as `told` has them, as far as they fit, and what is said of the rest."""
    first = max(0, offset)
    rows = told(items[first : first + min(max(1, limit), MOST_ROWS)])
    sizes = accumulate(len(text(row)) for row in rows)
    shown = rows[: max(1, sum(size <= MOST_SIZE for size in sizes))]
    end = first + len(shown)
    rest = max(0, len(items) - end)
    return shown, {"total": len(items), "rest": rest, "next_offset": end if rest else None}
