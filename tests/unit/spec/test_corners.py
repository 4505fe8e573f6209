"""The corners of a space."""

from __future__ import annotations

from hpo.spec.corners import MAX_CORNERS, corners
from hpo.spec.parameters import IntParameter, Parameter


def cube(dimensions: int) -> dict[str, Parameter]:
    return {f"extra.p{index}": IntParameter(type="int", low=0, high=1) for index in range(dimensions)}


def test_a_small_space_has_all_of_its_corners() -> None:
    combinations, thinned = corners(cube(3))
    assert (len(combinations), thinned) == (8, False)


def test_a_large_space_says_that_its_corners_are_thinned() -> None:
    combinations, thinned = corners(cube(16))
    assert thinned
    assert MAX_CORNERS / 2 < len(combinations) <= MAX_CORNERS
