"""What a resumed study may change."""

from __future__ import annotations

import json

import pytest

from hpo.errors import UsageError
from hpo.spec.study import Spec
from hpo.validation.problems import SpecificationError
from hpo.validation.revision import continued, revise
from tests.conftest import synthetic_spec

SPEC = synthetic_spec("kept", storage={"ledger": "postgresql://me:s3@cret@host/db"})


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=5", "seed: 0 -> 5"),
        ("train.epochs=9", "train.epochs: 8 -> 9"),
        ("asha.reduction_factor=3", "asha.reduction_factor: 2"),
        ("space.extra.quality.high=2.0", "space.extra.quality.high: 1.0 -> 2.0"),
        ("search.policy=tpe", "search.policy: 'random' -> 'tpe'"),
        ("storage.ledger=postgresql://me:s3@cret@other/db", "postgresql://me:***@other/db"),
    ],
)
def test_a_change_that_makes_trials_incomparable_is_refused_and_shown(override: str, line: str) -> None:
    with pytest.raises(UsageError) as refused:
        revise(SPEC, ["budget.trials=9", override])
    assert line in str(refused.value)
    assert "budget" not in str(refused.value).partition("Refused:")[2]
    assert "s3" not in str(refused.value)


def test_a_resume_changes_no_prior() -> None:
    spec = synthetic_spec("kept", search={"policy": "gp"}, enqueue=[{"extra.quality": 0.5}])
    for override in ("search.prior=baseline", "space.extra.quality.prior={center: 0.5}"):
        with pytest.raises(UsageError, match=rf"{override.partition('=')[0]}: None -> "):
            revise(spec, [override])


def test_budgets_concurrency_and_resources_may_change() -> None:
    changed = revise(SPEC, ["budget.trials=99", "budget.hours=2", "concurrency=1", "resources.cpus=1", "retries=0"])
    assert (changed.budget.trials, changed.budget.hours, changed.concurrency, changed.retries) == (99, 2.0, 1, 0)
    assert changed.space == SPEC.space
    assert revise(SPEC, []) is SPEC


def test_a_resume_may_relabel_the_baseline() -> None:
    assert revise(SPEC, ["baseline.label=one stage"]).baseline_name == "baseline (one stage)"


def test_a_specification_recorded_before_baselines_had_labels_opens() -> None:
    recorded = json.loads(SPEC.to_json())
    del recorded["baseline"]
    assert Spec.from_json(json.dumps(recorded)) == SPEC


def test_a_specification_recorded_before_there_were_priors_opens() -> None:
    recorded = json.loads(SPEC.to_json())
    del recorded["search"]["prior"]
    for parameter in recorded["space"].values():
        del parameter["prior"]
    assert Spec.from_json(json.dumps(recorded)) == SPEC


def test_a_wrong_override_is_a_specification_error() -> None:
    with pytest.raises(SpecificationError, match=r"budget\.trials"):
        revise(SPEC, ["budget.trials=none"])


def test_a_whole_specification_continues_a_study_by_the_same_rule() -> None:
    budget = SPEC.budget.model_copy(update={"trials": 99})
    larger = SPEC.model_copy(update={"budget": budget})
    assert continued(SPEC, larger) is larger
    with pytest.raises(UsageError, match=r"Refused:\n  seed: 0 -> 5$"):
        continued(SPEC, larger.model_copy(update={"seed": 5}))
