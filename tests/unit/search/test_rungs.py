"""After which epoch each rung of a training is decided."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.search.asha import rung_levels
from hpo.search.rungs import decision_epochs

EPOCHS_32 = tuple(range(1, 33))


def ends(stages: int, epochs: int) -> list[int]:
    return [(index + 1) * epochs // stages for index in range(stages)]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_rungs_without_alignment_are_decided_at_their_level(stages) -> None:
    assert decision_epochs([2, 8], EPOCHS_32, ends(stages, 32), "none") == {2: 2, 8: 8}


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (1, {2: 2, 8: 8}),  # no end but the last
        (2, {2: 2, 8: 8}),  # 16 is as far from 8 as from the end
        (3, {2: 2, 10: 8}),  # 21 is nearer to the end
        (4, {2: 2, 8: 8}),  # 16 too far, 8 there
        (8, {2: 2, 8: 8}),  # 4 is as near to 8 as to 2, and moves neither
        (16, {2: 2, 8: 8}),
    ],
)
def test_rungs_move_to_the_nearest_end_of_a_stage(stages, expected) -> None:
    assert decision_epochs([2, 8], EPOCHS_32, ends(stages, 32), "stages") == expected


def test_a_rung_may_move_to_an_earlier_or_a_later_epoch() -> None:
    fifty = tuple(range(1, 51))
    assert decision_epochs([1, 4, 16], fifty, ends(4, 50), "stages") == {1: 1, 4: 4, 12: 16}
    assert decision_epochs([1, 4, 16], fifty, ends(2, 50), "stages") == {1: 1, 4: 4, 25: 16}
    assert decision_epochs([1, 4, 16], fifty, ends(10, 50), "stages") == {1: 1, 5: 4, 15: 16}


def test_a_training_may_reach_a_rung_of_compute_late_or_never() -> None:
    quarter_then_full = (0.25, 0.5, 0.75, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert decision_epochs([1, 2, 4], quarter_then_full, [4, 8], "none") == {4: 1, 5: 2, 7: 4}
    assert decision_epochs([1, 5], quarter_then_full, [4, 8], "none") == {4: 1}, "at the end nothing is decided"
    assert decision_epochs([1, 6], quarter_then_full, [4, 8], "none") == {4: 1}
    assert decision_epochs([0.1, 0.2], quarter_then_full, [4, 8], "none") == {1: 0.2}, "the highest of several counts"
    assert decision_epochs([1 + 1e-12], quarter_then_full, [4, 8], "none") == {4: 1 + 1e-12}


@given(
    st.lists(st.floats(0.05, 1), min_size=2, max_size=60),
    st.integers(1, 8),
    st.sampled_from([1.5, 2, 3, 4]),
    st.floats(0.5, 2),
)
def test_alignment_keeps_all_rungs_and_their_order(costs, stages, factor, grace) -> None:
    resource = tuple(itertools.accumulate(costs))
    levels = rung_levels(min(grace, len(costs)), factor, len(costs))
    stage_ends = ends(min(stages, len(costs)), len(costs))
    natural = decision_epochs(levels, resource, stage_ends, "none")
    aligned = decision_epochs(levels, resource, stage_ends, "stages")
    assert list(aligned.values()) == list(natural.values())
    assert list(aligned) == sorted(set(aligned))
    assert all(1 <= epoch < len(resource) for epoch in aligned)
    assert set(aligned) <= set(natural) | set(stage_ends)
