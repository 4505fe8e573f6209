"""What must hold before a study runs: no other driver runs it, and its data and its tracking are there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpo.driver.notify.delivery import address
from hpo.driver.ray_backend.cluster import end_processes
from hpo.driver.signals import SignalGuard
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.lock import Lease, study_lock
from hpo.ledger.records import StudyRecord
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.tracking.process.child import Child
from hpo.tracking.tensorboard import check_tensorboard


def guard(farewell: str, lease: Lease) -> SignalGuard:
    """Signals end the study in order; `farewell` is what to type next."""
    return SignalGuard(farewell, lambda: end_processes(lease.token, lease.pid))


def continue_with(command: str, home: Home) -> str:
    """The line that says which command continues the study."""
    return f"Continue with: {home.command(command)}"


@contextmanager
def alone(folder: Path, lease: Lease) -> Iterator[None]:
    """Hold the study, and end the Ray processes that a dead driver left: its workers may not have noticed yet."""
    with study_lock(folder, lease.token) as dead:
        if dead and dead.pid != os.getpid():  # else it was an earlier attempt by this process, which is alive
            end_processes(dead.token, dead.pid)
        yield


def check_data(recorded: StudyRecord, info: dict[str, Any]) -> None:
    """Raises UsageError if the images are not those that the study's trials were trained on."""
    before, now = recorded.info.get("data", {}), json.loads(json.dumps(info.get("data", {})))
    changed = [f"  {key}: {before[key]} -> {now.get(key)}" for key in before if before[key] != now.get(key)]
    if changed:
        raise UsageError(
            f"the data set of {recorded.name} has changed since the study began, so its trials cannot be compared:\n"
            + "\n".join(changed)
        )


def preflight(spec: Spec, home: Home, mlflow: Child, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Find early, once, and in the driver what would fail in every trial. Returns what to record of the data.

    Args:
        mlflow: the process that will talk to MLflow.
        say: tells the person what takes a while.

    Raises:
        UsageError, InfrastructureError: the tracking server does not work, the package that writes for TensorBoard is
            missing, or the environment lacks the address of the webhook.
        DataError, WeightsError: the data set or the pretrained weights are missing or damaged.
    """
    address(spec.notify)
    if spec.tracking.tensorboard:
        check_tensorboard()
    if spec.tracking.enabled:
        mlflow.ask(spec, home)
    if spec.trainer == SHIPPED_TRAINER:
        say("importing torch")
        import trainers.data  # noqa: F401 - loads torch, while that process loads MLflow
    if spec.tracking.enabled:  # before data are downloaded, which may take long
        say("asking MLflow")
        mlflow.answer()
    return _prepared(spec, home, say) if spec.trainer == SHIPPED_TRAINER else {}


def _prepared(spec: Spec, home: Home, say: Callable[[str], None]) -> dict[str, Any]:
    """The data set and the weights of the shipped trainer, checked and ready for the workers."""
    from trainers import data  # loads torch, which other trainers need not have
    from trainers.network import weights

    place = f" in {spec.data.root}" if spec.data.name == "folder" else ""
    say(f"checking the data set {spec.data.name}{place} and the weights")
    info = data.prepare(spec.data, str(home.cache))
    data.remove_former(spec.data, str(home.cache))
    for model in spec.models():
        weights.check(model)
    return {"data": dataclasses.asdict(info)}
