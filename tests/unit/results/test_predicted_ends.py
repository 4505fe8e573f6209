"""Predicted ends of trials that are not complete: in units of the objective, and only where the study has seen such."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, StudyRecord, TrialRecord
from hpo.results.best import training
from hpo.results.pruning.ends import PredictedEnd, predicted_ends
from hpo.search.policies.gp import normal_scores
from hpo.search.policies.scores import Scale
from hpo.spec.objectives import VAL_ACCURACY
from tests.conftest import synthetic_spec
from trainers.api import EpochMetrics

LANDING = {"policy": "gp", "landing": True}


def trial(number: int, quality: float, epochs: int) -> TrialRecord:
    """One that ends at its quality, and has half of it after the first epoch."""
    curve = (quality * (1 - 0.5 / epoch + 0.0625 * epoch / 8) for epoch in range(1, epochs + 1))
    ended = Outcome(Ending.COMPLETE, "all") if epochs == 8 else Outcome(Ending.PRUNED, "below", kept=True)
    return TrialRecord(
        number,
        {"extra.quality": quality},
        attempts=(Attempt(0.0, ended=1.0),),
        epochs=tuple(
            EpochRecord(EpochMetrics(epoch=epoch, val_accuracy=value), 0.0) for epoch, value in enumerate(curve, 1)
        ),
        outcome=ended,
    )


def study(search: dict[str, object] = LANDING) -> StudyRecord:
    qualities = [0.1, 0.25, 0.4, 0.55, 0.7, 0.9]
    complete = [trial(number, quality, 8) for number, quality in enumerate(qualities)]
    pruned = [trial(len(complete) + number, quality, 1) for number, quality in enumerate((0.15, 0.6))]
    return StudyRecord("predicted", synthetic_spec("predicted", search=search), {}, (*complete, *pruned))


def test_scores_become_values_only_within_what_was_seen() -> None:
    values = np.array([0.3, 0.1, 0.2, 0.2, -np.inf, 0.4])
    scale, scores = Scale(values), normal_scores(values)
    assert [scale.value(score) for score in scores[[0, 1, 2, 5]]] == pytest.approx([0.3, 0.1, 0.2, 0.4])
    between = scale.value(float((scores[0] + scores[5]) / 2))
    assert between == pytest.approx(0.35)
    assert scale.value(float(scores.max()) + 0.01) is None
    assert scale.value(float(scores[4])) is None, "of a failure"


def test_pruned_trials_have_predicted_ends_near_those_of_their_neighbours() -> None:
    found = predicted_ends(study())
    assert set(found) <= {6, 7}, "the others are complete"
    end = found[7]
    assert abs(end.score - 0.6) < 0.1
    assert 0 < end.deviation < 0.2


def test_without_landing_nothing_is_predicted() -> None:
    assert predicted_ends(study({"policy": "gp"})) == {}
    assert predicted_ends(dataclasses.replace(study(), trials=study().trials[6:])) == {}, "too few to learn from"


def test_the_configuration_of_a_pruned_trial_says_where_it_would_end() -> None:
    record = study()
    end = predicted_ends(record)[7]
    said = training(record, 7, predicted=end.shown(VAL_ACCURACY)).description
    assert said is not None
    assert said.endswith(f"after 1 of 8 epochs, {end.shown(VAL_ACCURACY)}")
    assert PredictedEnd(0.931, 0.006).shown(VAL_ACCURACY) == "predicted 93.1 ± 0.6 %"
