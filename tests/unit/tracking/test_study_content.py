"""The content of the study run, computed from a study's records."""

from __future__ import annotations

import dataclasses
import json

import pytest
import yaml

from hpo.ledger.outcome import Ending
from hpo.tracking.study_content import course, dataset, drawn, files, study_status
from tests.support.sample_records import BEGAN, busy, study, trial

COMPLETE, PRUNED, FAILED, INTERRUPTED = Ending.COMPLETE, Ending.PRUNED, Ending.FAILED, Ending.INTERRUPTED


def test_the_incumbent_is_followed_from_the_first_complete_trial_in_the_order_of_the_ends() -> None:
    record = study(
        trial(9, 16, ending=COMPLETE, finished=BEGAN + 900),
        trial(1, 16, ending=COMPLETE, finished=BEGAN + 600),
        trial(2, 4, ending=PRUNED, finished=BEGAN + 300),
        trial(3, 8, ending=FAILED, finished=BEGAN + 700),
        trial(4, 3),
        trial(5, 2, ending=INTERRUPTED),
    )
    points = list(course(record))
    assert [(point.step, point.at - BEGAN, point.values["incumbent/trial"]) for point in points] == [
        (2, 600.0, 1.0),
        (3, 700.0, 1.0),
        (4, 900.0, 9.0),
    ]
    assert [point.values["incumbent/val_accuracy"] for point in points] == pytest.approx([0.561, 0.561, 0.569])
    hours = [point.values["spent/worker_hours"] for point in points]
    assert hours == sorted(hours)
    assert hours[0] > 0


def test_a_tie_keeps_the_earlier_incumbent() -> None:
    first = trial(1, 16, ending=COMPLETE, finished=BEGAN + 600)
    twin = dataclasses.replace(first, number=2, finished=BEGAN + 700)
    assert {point.values["incumbent/trial"] for point in course(study(first, twin))} == {1.0}


def test_a_study_without_a_complete_trial_has_no_incumbent() -> None:
    assert list(course(study(trial(0, 4, ending=PRUNED), trial(1, 2)))) == []


@pytest.mark.parametrize(
    ("endings", "ended", "status"),
    [
        ([COMPLETE, PRUNED], None, "FINISHED"),
        ([FAILED, PRUNED], None, "FAILED"),
        ([COMPLETE, INTERRUPTED], None, "SCHEDULED"),
        ([COMPLETE, INTERRUPTED], "budget.wall_clock: 60 s", "FINISHED"),
        ([INTERRUPTED], "budget.wall_clock: 60 s", "FINISHED"),
        ([COMPLETE, None], None, "SCHEDULED"),
        ([], None, "FAILED"),
    ],
)
def test_the_status_says_whether_a_study_can_be_resumed(
    endings: list[Ending | None], ended: str | None, status: str
) -> None:
    record = study(*(trial(number, 2, ending=ending) for number, ending in enumerate(endings)))
    assert study_status(dataclasses.replace(record, ended=ended)) == status


def test_files_hold_the_specification_with_masked_passwords_and_the_best_trial() -> None:
    record = busy(1)
    spec = record.spec.model_copy(
        update={"storage": record.spec.storage.model_copy(update={"ledger": "postgresql://me:s3cret@db/optuna"})}
    )
    record = dataclasses.replace(record, spec=spec, info={**record.info, "data": {"train_count": 3}})
    texts = files(record)
    assert sorted(texts) == ["best.yaml", "data.json", "specification.yaml"]
    assert "s3cret" not in texts["specification.yaml"]
    assert "postgresql://me:***@db/optuna" in texts["specification.yaml"]
    assert json.loads(texts["data.json"]) == {"train_count": 3}
    assert yaml.safe_load(texts["best.yaml"])["provenance"]["trial"] == 1


def test_files_of_a_study_without_a_complete_trial_are_its_specification_alone() -> None:
    assert list(files(study(trial(0, 4)))) == ["specification.yaml"]


def test_a_data_set_has_its_source_and_the_start_of_its_splits_hash() -> None:
    counts = {"num_classes": 10, "train_count": 45_000, "validation_count": 5_000}
    record = dataclasses.replace(busy(1), info={"data": {"split_hash": "0123456789abcdef", **counts}})
    described = dataset(record)
    assert described is not None
    assert (described["name"], described["digest"], described["source_type"]) == ("cifar10", "01234567", "http")
    assert json.loads(described["source"])["url"].startswith("https://www.cs.toronto.edu")
    assert json.loads(described["profile"]) == counts


def test_a_trainer_that_does_not_describe_its_data_has_no_data_set() -> None:
    assert dataset(busy(1)) is None


def test_a_further_epoch_or_trial_is_another_state_for_the_plots() -> None:
    states = [drawn(study(trial(0, 1))), drawn(study(trial(0, 2))), drawn(study(trial(0, 2), trial(1, 1)))]
    assert len(set(states)) == 3
