"""What the pruning cost, in studies whose pruned trials have known ends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import EpochRecord, RungDecision, StudyRecord, TrialRecord
from hpo.results.pruning.cost import PruningCost, pruning_cost, remark, sentence
from hpo.spec.objectives import VAL_ACCURACY, Objective
from tests.conftest import synthetic_spec
from trainers.api import EpochMetrics

EPOCHS = 2
LOSS = Objective("loss", "loss", False, False, "loss")


def trial(number: int, early: float, end: float, *, control: bool, keep: bool) -> TrialRecord:
    """Judged at the rung after its first epoch."""
    pruned = not keep and not control
    values = (early,) if pruned else (early, end)
    epochs = [EpochRecord(EpochMetrics(epoch=at, val_accuracy=value), 0.0) for at, value in enumerate(values, 1)]
    ending = Ending.PRUNED if pruned else Ending.COMPLETE
    return TrialRecord(
        number,
        control=control,
        epochs=tuple(epochs),
        rungs=(RungDecision(1, early, None, number, keep),),
        outcome=Outcome(ending, ""),
    )


def study(early: np.ndarray, ends: np.ndarray, controls: int, *, share: float = 0.3) -> StudyRecord:
    """The best `share` at the rung continue; the first `controls` trials are controls."""
    kept = early >= np.quantile(early, 1 - share)
    trials = [
        trial(number, float(early[number]), float(ends[number]), control=number < controls, keep=bool(kept[number]))
        for number in range(len(ends))
    ]
    spec = synthetic_spec("s", train={"epochs": EPOCHS, "progressive": {"stages": 1}}, asha={"reduction_factor": 2})
    return StudyRecord("s", spec, {}, tuple(trials), ended="trials: reached the budget")


def drawn(random: np.random.Generator, noise: float, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    early = random.normal(0.5, 0.04, count)
    return early, 0.3 + 0.8 * early + random.normal(0, noise, count)


def test_the_interval_covers_what_the_pruned_trials_would_have_reached() -> None:
    """Known ends of 100 studies: the interval holds the true cost in 95 % of them or more, and the mean is unbiased."""
    random = np.random.default_rng(0)
    inside, estimated, true = [], [], []
    for _ in range(100):
        early, ends = drawn(random, 0.02)
        record = study(early, ends, 10)
        found = pruning_cost(record)
        assert found.mean is not None
        pruned = [one.number for one in record.trials if one.status == "pruned"]
        real = max(0.0, float(ends[pruned].max()) - record.best.value)
        inside.append(found.low <= real <= found.high)
        estimated.append(found.mean)
        true.append(real)
    assert np.mean(inside) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 100)
    assert np.mean(estimated) == pytest.approx(np.mean(true), abs=0.005), "half a point"


def test_pruning_costs_nothing_where_early_values_foretell_the_end() -> None:
    early, ends = drawn(np.random.default_rng(1), 0.0005)
    found = pruning_cost(study(early, ends, 10))
    assert found.mean == pytest.approx(0, abs=1e-4)
    assert "Pruning probably cost nothing" in sentence(found, VAL_ACCURACY)
    assert "probably none would have ended above the best" in sentence(found, VAL_ACCURACY)


@pytest.mark.parametrize("controls", [0, 1, 2, 4])
def test_few_controls_tell_nothing_and_the_sentence_says_so(controls: int) -> None:
    early, ends = drawn(np.random.default_rng(3), 0.02)
    found = study(early, ends, controls)
    count = "1 control" if controls == 1 else f"{controls} controls"
    assert pruning_cost(found).mean is None
    assert f"cannot be told with {count} that trained to the end: it takes 5 or more." in remark(found)


def test_the_sentence_names_points_of_accuracy_or_the_unit_of_another_objective() -> None:
    found = PruningCost(pruned=24, controls=9, mean=0.002, low=0.0, high=0.0071, above=1.2)
    assert sentence(found, VAL_ACCURACY) == (
        "Pruning probably cost 0.2 points (95 %: 0 to 0.7 points): of 24 pruned trials, 1 may have ended above the "
        "best, as 9 controls tell."
    )
    assert sentence(found, LOSS).startswith("Pruning probably cost 0.002 in loss (95 %: 0 to 0.0071): of 24")
    assert sentence(PruningCost(0, 9, 0.0), VAL_ACCURACY) == "Pruning cost nothing: no trial was pruned."


def test_a_study_that_goes_on_or_prunes_nothing_has_no_sentence() -> None:
    early, ends = drawn(np.random.default_rng(4), 0.02)
    found = study(early, ends, 10)
    assert remark(dataclasses.replace(found, ended=None)) == ""
    off = found.spec.model_copy(update={"asha": found.spec.asha.model_copy(update={"enabled": False})})
    assert remark(dataclasses.replace(found, spec=off)) == ""
