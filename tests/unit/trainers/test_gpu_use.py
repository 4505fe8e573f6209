"""The time in which a GPU is busy, from the spans of its work; the measurement itself needs a GPU: see tests/gpu."""

from __future__ import annotations

import pytest

from trainers.measure.gpu_use import covered


@pytest.mark.parametrize(
    ("spans", "length"),
    [
        ([], 0),
        ([(0, 2)], 2),
        ([(5, 6), (0, 2)], 3),
        ([(0, 4), (1, 2), (3, 6)], 6),
        ([(0, 10), (2, 3), (4, 5), (9, 11)], 11),
        ([(1, 1), (1, 1)], 0),
    ],
)
def test_work_of_several_streams_at_once_counts_once(spans: list[tuple[float, float]], length: float) -> None:
    assert covered(spans) == length
