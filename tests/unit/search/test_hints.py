"""What is said before a study about its settings of RandAugment, and how many trials are never stopped."""

from __future__ import annotations

from typing import Any

import pytest

from hpo.search.forecast import advice, plan
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec

STAGES, END = "train.progressive.stages", "train.progressive.randaugment.end"


def study(
    start: float, space: dict[str, Any] | None = None, stages: int = 2, end: float = 15, **augment: object
) -> Spec:
    progressive = {"stages": stages, "randaugment": {"start": start, "end": end}}
    return Spec.model_validate(
        {
            "study": "small",
            "train": {"epochs": 8, "augment": augment, "progressive": progressive},
            "space": {"train.lr": {"type": "float", "low": 1e-4, "high": 1e-2}, **(space or {})},
        }
    )


def searched(low: float, kind: str = "float") -> dict[str, Any]:
    ends = {"choices": [low, 15.0]} if kind == "categorical" else {"low": low, "high": 15.0}
    return {END: {"type": kind, **ends}}


@pytest.mark.parametrize(
    "weak",
    [
        study(0),
        study(4.9),
        study(1, end=3),
        study(5, {STAGES: {"type": "int", "low": 1, "high": 2}}, stages=1, end=2),
        study(5, searched(0), stages=1),
        study(5, searched(1)),
        study(0, {"train.augment.randaugment_layers": {"type": "int", "low": 0, "high": 2}}),
    ],
)
def test_a_ramp_or_a_search_below_the_cliff_of_the_published_form_causes_a_hint(weak: Spec) -> None:
    (hint,) = advice(weak)
    assert hint.startswith("RandAugment begins below magnitude 5")
    assert "train.augment.randaugment_form: increasing" in hint


@pytest.mark.parametrize(
    "sound",
    [
        study(5),
        study(0, stages=1),
        study(0, end=0),
        study(0, randaugment_form="increasing"),
        study(0, randaugment_layers=0),
        study(5, searched(5)),
        study(5, searched(0.0, "categorical"), stages=1),
    ],
)
def test_from_five_up_and_with_the_increasing_form_there_is_no_hint(sound: Spec) -> None:
    assert advice(sound) == []


def test_image_sizes_that_the_space_keeps_apart_do_not_disturb_the_hint() -> None:
    """The first size is searched up to the last one; its default would be too large for that."""
    first = {"type": "int", "low": 32, "high": 64, "when": {STAGES: {"ge": 2}}}
    spec = Spec.model_validate(
        {
            "study": "small",
            "train": {"epochs": 8, "progressive": {"stages": 1, "size": {"end": 64}}},
            "space": {STAGES: {"type": "int", "low": 1, "high": 2}, "train.progressive.size.start": first},
        }
    )
    assert advice(spec) == []


def test_the_plan_counts_references_as_full_trainings() -> None:
    entry = {"extra.quality": 0.5}
    plain = synthetic_spec(enqueue=[entry, entry, entry])
    references = synthetic_spec(enqueue=[entry, entry | {"train.lr": 0.1}, entry | {"train.lr": 0.2}])
    assert plan(references).complete > plan(plain).complete
