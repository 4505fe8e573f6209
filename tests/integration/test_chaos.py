"""Five studies whose drivers and workers are killed at random moments: nothing is lost, doubled or decided otherwise.

Smaller ones than those of `python -m tests.chaos --runs 50`, with the same checks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import Run, Scale
from tests.support.drivers import cluster

pytestmark = pytest.mark.ray

SMALL = Scale(trials=5, epochs=4, seconds=0.1, latest=8, start=2.0, torch=0)
ALONE = 2
"""Starting Ray takes long, so this is a run with a single kill."""


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    """A cluster that outlives the drivers."""
    with cluster() as environment:
        yield environment


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One home folder for all; short, because Ray puts sockets below it and their paths are limited."""
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.mark.parametrize("index", range(5))
def test_a_study_whose_processes_are_killed_loses_and_doubles_nothing(
    index: int, folder: Path, ray: dict[str, str]
) -> None:
    """One run's drivers start a Ray each, which dies with them; the others' find one that continues."""
    result = Run(folder, 1, index, ray if index != ALONE else {"RAY_TMPDIR": str(folder)}, SMALL).play()
    print(f"killed {dict(result.kills)}, trained {result.repeated} epochs again")
    assert result.kills.total() >= 1
    assert result.lost == []
    assert result.duplicates == []
    assert result.wrong == []
