"""A small study and a larger one that starts from it and has two objectives, through real Ray and MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.driver import run as launch
from hpo.home import Home
from hpo.results.pareto import front
from hpo.tracking.upkeep.naming import TRIAL_TAG
from tests.conftest import synthetic_spec
from tests.support.views import RecordingView

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

QUALITY = {"type": "float", "low": 0.0, "high": 1.0}


def test_a_small_study_gives_a_larger_one_its_best(home: Home, tmp_path: Path) -> None:
    view = RecordingView()
    light = {"seconds": 0.0, "light": True}
    small = synthetic_spec("small", extra=light, tracking={"enabled": False}, budget={"trials": 6})
    best = launch.run(small, home, view=view).best
    assert best is not None
    later = synthetic_spec(
        "large",
        extra={**light, "params": 5},
        space={"extra.quality": QUALITY, "extra.params": {"type": "int", "low": 1, "high": 9}},
        enqueue=[{"extra.quality": 0.5, "extra.params": 1}],
        objectives=["val_accuracy", "params"],
        warm_start=["small"],
        search={"policy": "gp", "startup_trials": 4},
        budget={"trials": 8},
    )
    with pytest.raises(
        Exception, match=r"no configuration of small fits the space of large:\n.*it has no setting extra.params"
    ):
        launch.run(later, home, view=view)
    studied = later.model_copy(update={"space": {"extra.quality": later.space["extra.quality"]}, "enqueue": ()})
    study = launch.run(studied, home, view=view)
    assert study.trials[0].values == best.values
    assert str(study.trials[0].origin) == f"from small trial {best.number}"
    assert any(text.startswith("warm start from small: ") for text in view.texts)
    assert {trial.last.params for trial in front(study) if trial.last} == {5}

    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiment = client.get_experiment_by_name("large")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if TRIAL_TAG not in run.data.tags]
    assert "| place | trial | validation accuracy | parameters |" in parent.data.tags["mlflow.note.content"]
    (first,) = [run for run in runs if run.data.tags.get(TRIAL_TAG) == "0"]
    assert first.data.tags["hpo.origin"] == f"from small trial {best.number}"
    assert first.data.metrics["params"] == 5
