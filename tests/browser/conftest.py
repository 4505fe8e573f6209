"""One browser for all browser tests; they skip where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.chromium import chromium, missing


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A WebDriver."""
    if lacking := missing():
        pytest.skip(lacking)
    with chromium() as window:
        yield window
