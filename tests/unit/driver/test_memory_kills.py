"""A worker that Ray's memory monitor killed is a lost worker to Ray Tune, whatever error Ray has for it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from hpo.driver.ray_backend.tuner import memory_kills_lose_workers
from hpo.driver.ray_backend.worker_loss import explain

SAID = "1 worker(s) were killed due to the node running low on memory. Memory on the node was 22.18GB used"


@pytest.fixture
def fails() -> tuple[list[Exception], Callable[[Exception], None]]:
    """What Tune is told of its worker, and how a task of that worker fails."""
    told: list[Exception] = []
    worker = SimpleNamespace(actor_id=1, _on_error=lambda _, error: told.append(error), _on_stop=None)
    task = SimpleNamespace(_tracked_actor=worker, _on_error=None)
    manager = RayActorManager(resource_manager=SimpleNamespace())  # a real one would start Ray
    manager._cleanup_actor = lambda tracked_actor: None  # no worker was started
    return told, lambda error: manager._actor_task_failed(tracked_actor_task=task, exception=error)  # as Ray calls it


def test_a_worker_killed_for_the_memory_of_its_host_is_lost_and_the_study_goes_on(
    fails: tuple[list[Exception], Callable[[Exception], None]],
) -> None:
    told, fail = fails
    with memory_kills_lose_workers():
        fail(OutOfMemoryError(SAID))
    (error,) = told
    assert isinstance(error, RayActorError)
    assert explain(str(error)) == "killed by Ray: the host's memory was almost full"


def test_other_errors_of_workers_reach_ray_tune_as_they_are(
    fails: tuple[list[Exception], Callable[[Exception], None]],
) -> None:
    told, fail = fails
    with memory_kills_lose_workers():
        fail(lost := RayActorError(error_msg="gone"))
        with pytest.raises(RuntimeError, match="unexpected"):
            fail(ValueError("of Ray itself"))
    assert told == [lost]
    with pytest.raises(RuntimeError, match="unexpected"):
        fail(OutOfMemoryError(SAID))  # Ray as it is, after the block
