"""How MLflow's list of runs shows a study."""

from __future__ import annotations

import json

import pytest

from hpo.tracking.ui.view import MOST_COLUMNS, MOST_LETTERS, address, view
from hpo.tracking.upkeep.naming import view_tag
from tests.browser.simulation import study_spec
from tests.conftest import synthetic_spec


def test_a_view_shows_the_objective_the_outcome_and_the_parameters_with_the_best_trial_first() -> None:
    spec = synthetic_spec()
    shown = json.loads(view("one", spec))
    assert shown["selectedColumns"][:3] == ["metrics.`val_accuracy`", "tags.`hpo.outcome`", "attributes.`Duration`"]
    assert shown["selectedColumns"][3:] == [f"params.`{path}`" for path in spec.space]
    assert (shown["orderByKey"], shown["orderByAsc"]) == ("metrics.`val_accuracy`", False)
    assert shown["searchFilter"] == "tags.`hpo.study` = 'one'"


def test_a_view_begins_with_the_least_value_of_an_objective_that_is_minimised() -> None:
    spec = synthetic_spec().model_copy(update={"objectives": ("seconds_per_epoch", "val_accuracy")})
    shown = json.loads(view("one", spec))
    assert (shown["orderByKey"], shown["orderByAsc"]) == ("metrics.`seconds`", True)
    assert shown["selectedColumns"][:2] == ["metrics.`seconds`", "metrics.`val_accuracy`"]


def test_the_charts_of_a_view_begin_with_the_objectives_over_epochs_and_parameters() -> None:
    """A run is left out of the parallel coordinates if it lacks an axis, so conditional parameters are none."""
    spec = study_spec(objectives=["val_accuracy", "macs"])
    shown = json.loads(view("one", spec))
    line, parallel, other = shown["compareRunCharts"]
    assert (line["type"], line["metricKey"], other["metricKey"]) == ("LINE", "val_accuracy", "macs")
    assert parallel["selectedMetrics"] == ["val_accuracy"]
    assert parallel["selectedParams"] == [path for path, parameter in spec.space.items() if not parameter.when]
    first, *others = shown["compareRunSections"]
    assert {chart["metricSectionId"] for chart in (line, parallel, other)} == {first["uuid"]}
    assert [section["name"] for section in others] == ["incumbent", "spent"]
    assert shown["isAccordionReordered"]


@pytest.mark.parametrize("letters", [20, 64])
def test_a_view_of_many_parameters_has_room_in_a_tag(letters: int) -> None:
    (one,) = list(synthetic_spec().space.values())[:1]
    names = ("val_accuracy", "macs", "params")
    space = {f"extra.{'x' * (letters - 9)}{number:03d}": one for number in range(200)}
    text = view("n" * 64, synthetic_spec().model_copy(update={"space": space, "objectives": names}))
    assert len(text) < 5000
    assert len(json.loads(text)["selectedColumns"]) == len(names) + 2 + min(MOST_COLUMNS, MOST_LETTERS // letters)


def test_an_address_names_the_view_and_the_pages_of_model_training() -> None:
    path = address("7", "one", has_view=True)
    assert path == "/#/experiments/7/runs?viewStateShareKey=hpo-one&workflowType=machine_learning"
    assert view_tag("one") == "mlflow.sharedViewState.hpo-one"


def test_an_address_without_a_view_still_sorts_by_accuracy() -> None:
    path = address("7", "one", has_view=False)
    assert path.startswith("/#/experiments/7/runs?searchFilter=tags.%60hpo.study%60%20%3D%20%27one%27&")
    assert "&orderByKey=metrics.%60val_accuracy%60&orderByAsc=false&" in path
    assert path.endswith("&workflowType=machine_learning")
