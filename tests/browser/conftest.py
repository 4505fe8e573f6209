"""One browser and one study for all browser tests; they skip where no browser is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.chromium import chromium, missing
from tests.browser.watched import Watched, watched_study


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A WebDriver."""
    if lacking := missing():
        pytest.skip(lacking)
    with chromium() as window:
        yield window


@pytest.fixture(scope="session")
def watched(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A study that MLflow, Optuna Dashboard and TensorBoard can show. Do not change it."""
    return watched_study(tmp_path_factory.mktemp("watched"))


@pytest.fixture
def wide(browser: Any) -> Iterator[Any]:
    """The browser with a window as on a desk."""
    browser.set_window_size(1600, 1200)
    yield browser
    browser.get("about:blank")
    browser.set_window_size(1280, 900)
