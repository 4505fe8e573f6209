"""Which trials of a study somebody looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hpo.ledger.records import TrialRecord


@contextmanager
def touched(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The numbers of the trials whose records are looked at."""
    numbers: set[int] = set()

    def look(trial: TrialRecord, name: str) -> Any:
        if not name.startswith("__"):
            numbers.add(object.__getattribute__(trial, "number"))
        return object.__getattribute__(trial, name)

    with monkeypatch.context() as patch:
        patch.setattr(TrialRecord, "__getattribute__", look)
        yield numbers
