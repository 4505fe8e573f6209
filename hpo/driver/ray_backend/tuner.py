"""Set up Ray Tune for one study and run it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hpo.driver.conductor import Conductor
from hpo.driver.ray_backend.slots import Slots, present, wanted
from hpo.errors import InfrastructureError
from hpo.gpu_sharing import held
from hpo.home import Home

MOST_TRIALS = 100_000
"""At once, for Ray Tune. The true limit follows the cluster; Tune's own is fixed when a study begins."""
NODE_LABEL = "ray.io/node-id"
"""Ray's own label of every node. A placement group can name the nodes that it does not want by it."""


def tune(conductor: Conductor, home: Home, slots: Slots, checkpoints: str, verbose: bool) -> None:
    """Train what the conductor assigns until it has no more; errors of Ray reach the conductor.

    While the study is paused there are no workers. Ray's own processes stay, which need no GPU.

    Args:
        checkpoints: folder or URI below which every trial has its folder.
    """
    # Ray reads its settings when it is imported, so everything of it loads after `ray_session` has set them.
    from ray import tune

    from hpo.driver.ray_backend.scheduler import StopAll, StudyScheduler
    from hpo.driver.ray_backend.searcher import StudySearcher
    from hpo.driver.ray_backend.trainable import Worker

    spec = conductor.spec
    # Always the same folder, so that the next driver removes what a dead one left.
    scratch = home.study(conductor.ledger.name) / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    worker = {
        "announce": True,
        "trainer": spec.trainer,
        "objective": spec.objective.field,
        "device": slots.device,
        "device_share": min(slots.gpus, 1.0) or 1.0,  # a trial trains on one GPU at most
        "threads": max(1, math.floor(slots.cpus)) if slots.device == "cpu" else None,
        "cache_dir": str(home.cache),
    }

    def request(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        """What a trial asks for: room on a node that was not left when it began, or a whole GPU."""
        avoided = {NODE_LABEL: f"!in({', '.join(config['avoid'])})"} if config["avoid"] else {}
        return tune.PlacementGroupFactory(
            [{"CPU": slots.cpus, "GPU": held(slots.gpus, alone=config["alone"])}],
            bundle_label_selector=[avoided] if avoided else None,
        )

    def limit(fit: int) -> int:
        """How many trials may run at once where so many fit; people may change `concurrency` while the study runs."""
        room.wanted = wanted(conductor.spec)
        return room.limit(fit)

    try:
        with present(slots, bool(spec.ray.cluster())) as room, memory_kills_lose_workers():
            tuner = tune.Tuner(
                tune.with_resources(Worker, request),
                tune_config=tune.TuneConfig(
                    search_alg=StudySearcher(conductor, checkpoints, worker, room.by_node, limit),
                    scheduler=StudyScheduler(conductor, room.by_node, room.nodes),
                    num_samples=-1,
                    max_concurrent_trials=MOST_TRIALS,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: f"trial-{trial.config['number']:05d}",
                    trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:05d}-{trial.trial_id}",
                ),
                run_config=tune.RunConfig(
                    name=conductor.ledger.name,
                    storage_path=str(scratch),
                    stop=StopAll(conductor),
                    failure_config=tune.FailureConfig(max_failures=0),  # the conductor counts
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trainers keep their own
                    verbose=1 if verbose else 0,
                ),
            )
            tuner.fit()
    except Exception as error:  # noqa: BLE001 - `conductor.close` raises it, once the ledger is in order
        conductor.fail(InfrastructureError(f"Ray failed: {type(error).__name__}: {error}"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def memory_kills_lose_workers() -> Iterator[None]:
    """Let Ray Tune take a worker that Ray's memory monitor has killed as lost, while the block lasts.

    Tune expects `RayActorError` from a lost worker. The monitor's kill is another error, on which Tune would end the
    whole study. It comes when a machine's memory is almost full, often because of other programs.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError

    workers: Any = RayActorManager
    inherited = workers._actor_task_failed

    def failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:  # the names are Ray's
        if isinstance(exception, OutOfMemoryError):
            exception = RayActorError(error_msg=str(exception))
        inherited(manager, tracked_actor_task=tracked_actor_task, exception=exception)

    workers._actor_task_failed = failed
    try:
        yield
    finally:
        workers._actor_task_failed = inherited
