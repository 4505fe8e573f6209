"""Fixtures of the integration tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of decoded data sets that all tests share, as the trials of one machine do."""
    return str(tmp_path_factory.mktemp("cache"))
