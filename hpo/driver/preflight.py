"""What must hold before a study is run: nothing else runs it, its data and its tracking are there."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpo.driver.ray_backend.cluster import end_processes
from hpo.driver.signals import SignalGuard
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.lock import Lease, study_lock
from hpo.ledger.records import StudyRecord
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.tracking.preflight import check_tracking


def guard(command: str, home: Home, lease: Lease) -> SignalGuard:
    """Signals end the study in order; `command` is what goes on with it."""
    place = "" if home.usual else f" --home {shlex.quote(str(home.path))}"
    return SignalGuard(f"Go on with: hpo {command}{place}", lambda: end_processes(lease.token, lease.pid))


@contextmanager
def alone(folder: Path, lease: Lease) -> Iterator[None]:
    """Hold the study, and end what a driver that died has left of its Ray: its workers may not have noticed yet."""
    with study_lock(folder, lease.token) as dead:
        if dead and dead.pid != os.getpid():  # this very process may have tried before, in vain, and lives
            end_processes(dead.token, dead.pid)
        yield


def check_data(recorded: StudyRecord, info: dict[str, Any]) -> None:
    """Raises UsageError where the images are not those that the study's trials have been trained on."""
    before, now = recorded.info.get("data", {}), json.loads(json.dumps(info.get("data", {})))
    changed = [f"  {key}: {before[key]} -> {now.get(key)}" for key in before if before[key] != now.get(key)]
    if changed:
        raise UsageError(
            f"the data set of {recorded.name} has changed since it began, so its trials could not be compared:\n"
            + "\n".join(changed)
        )


def preflight(spec: Spec, home: Home) -> dict[str, Any]:
    """Everything that can be known to fail is made to fail here, in the driver, once."""
    if spec.tracking.enabled:
        check_tracking(spec, home)
    if spec.trainer != SHIPPED_TRAINER:
        return {}
    from trainers import data
    from trainers.network import weights

    info = data.prepare(spec.data, str(home.cache))
    weights.check(spec.model)
    return {"data": dataclasses.asdict(info)}
