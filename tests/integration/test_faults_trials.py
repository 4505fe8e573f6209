"""What ends a trial but not its study, and what is kept of it, through real Ray."""

from __future__ import annotations

import pytest

from hpo import launch
from hpo.errors import NoTrialSucceeded
from hpo.home import Home
from tests.conftest import synthetic_spec

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def test_only_the_last_checkpoint_of_an_ended_trial_is_kept(home: Home) -> None:
    """Whether it is complete, pruned or failed."""
    spec = synthetic_spec(
        "bounded",
        extra={"seconds": 0.0, "light": True, "crash_at": 0},
        space={
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
            "extra.crash_at": {"type": "int", "low": 0, "high": 9},
        },
        enqueue=[
            {"extra.quality": 0.9, "extra.crash_at": 0},
            {"extra.quality": 0.1, "extra.crash_at": 0},
            {"extra.quality": 0.95, "extra.crash_at": 4},
        ],
        budget={"trials": 3},
        asha={"reduction_factor": 2, "grace_period": 2},
        concurrency=1,
    )
    study = launch.run(spec, home, view=lambda spec: lambda event: None)
    assert [trial.status for trial in study.trials] == ["complete", "pruned", "failed"]
    for trial in study.trials:
        folder = home.checkpoints("bounded") / f"{trial.number:05d}"
        assert [path.stem for path in folder.glob("*.json")] == [f"{len(trial.epochs):06}"]


def test_running_out_of_memory_fails_the_trial_alone(home: Home) -> None:
    """The study goes on, and says which stage was too large."""
    spec = synthetic_spec(
        "memory",
        extra={"seconds": 0.0, "light": True},
        space={"extra.memory_at": {"type": "int", "low": 0, "high": 9}},
        enqueue=[{"extra.memory_at": 2}, {"extra.memory_at": 0}],
        budget={"trials": 2},
        asha={"enabled": False},
    )
    study = launch.run(spec, home, view=lambda spec: lambda event: None)
    assert [trial.status for trial in study.trials] == ["failed", "complete"]
    assert study.trials[0].outcome is not None
    assert study.trials[0].outcome.reason.startswith("OutOfMemory: stage 0")


def test_all_trials_fail_and_the_reason_is_given(home: Home) -> None:
    """A worker that cannot even import its trainer."""
    spec = synthetic_spec("lost", trainer="tests.synthetic:no_such_function", budget={"trials": 1})
    with pytest.raises(NoTrialSucceeded, match="no_such_function"):
        launch.run(spec, home, view=lambda spec: lambda event: None)
