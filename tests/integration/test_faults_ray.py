"""Ray's own processes die: the head, a node.

Where a driver leaves early, its process for MLflow has to end, too. The other studies are not tracked, because MLflow
knows nothing of Ray.
"""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.drivers import Driver, cluster, node
from tests.support.node_trainers import NO_FILE

pytestmark = pytest.mark.ray

UNTRACKED = {"asha": {"enabled": False}, "tracking": {"enabled": False}}


def child(parent: int, name: str) -> psutil.Process:
    """A process's child of that name."""
    (process,) = [process for process in psutil.Process(parent).children() if process.name() == name]
    return process


def test_a_driver_whose_ray_died_ends_at_once_and_in_order(home: Home, tmp_path: Path) -> None:
    """Whether its server or its scheduler dies, the driver leaves in order with a code of its own, at once."""
    spec = synthetic_spec(
        "headless", extra={"seconds": 0.4, "light": True}, budget={"trials": 3}, asha={"enabled": False}, concurrency=2
    )
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    drivers = []
    for command, victim in ((("run", tmp_path / "spec.yaml"), "raylet"), (("resume", "headless"), "gcs_server")):
        driver = Driver.start(*command, home=home.path)
        drivers.append(driver)
        driver.until("val accuracy", count=2)
        child(driver.pid, victim).kill()
        assert driver.wait() == 4, driver.text
        assert driver.text.strip().splitlines()[-1] == "Continue with: hpo resume headless"
        assert f"Ray died: {victim}" in driver.text
        study = load_study(open_storage(home.ledger_url), "headless")
        assert {trial.status for trial in study.trials if trial.started} <= {"interrupted", "complete"}
    for driver in drivers:
        assert driver.orphans() == []


@pytest.mark.timeout(600)
def test_a_trial_of_a_lost_node_continues_on_another_node(home: Home, tmp_path: Path) -> None:
    """One of two nodes dies under its trial: the trial continues from its last checkpoint on the other."""
    gate = tmp_path / "gate"
    extra = {"seconds": 1.0, "light": True, "gate": str(gate)}
    spec = synthetic_spec("nodes", extra=extra, budget={"trials": 3}, retries=1, **UNTRACKED)
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    with cluster(cpus=1) as ray, node(ray) as second:
        driver = Driver.start("run", tmp_path / "spec.yaml", home=home.path, **ray)
        # Behind the gate neither trial ends while the other node's worker is still starting. And slow epochs: the
        # worker outlives its raylet by a few seconds, and must not end its trial meanwhile.
        driver.until("trial 0 epoch 2/8")
        driver.until("trial 1 epoch 2/8")
        os.killpg(second.pid, signal.SIGKILL)  # raylet, workers and all
        gate.touch()
        assert driver.wait() == 0, driver.text
    study = load_study(open_storage(home.ledger_url), "nodes")
    assert [trial.status for trial in study.trials] == ["complete"] * 3
    losses = [attempt for trial in study.trials for attempt in trial.attempts if attempt.lost]
    assert len(losses) == 1
    assert losses[0].lost in ("its node was lost", f"its node was lost on {socket.gethostname()}")
    (hit,) = [trial for trial in study.trials if len(trial.attempts) == 2]
    assert hit.attempts[1].resumed_after >= 1, driver.text
    for trial in study.trials:
        assert [epoch.metrics.epoch for epoch in trial.epochs] == list(range(1, 9))


@pytest.mark.timeout(600)
def test_a_node_that_fails_every_trial_is_left_and_no_trial_fails(home: Home, tmp_path: Path) -> None:
    """It lacks a file that the trainer reads. The other node trains all trials, and those that failed there too.

    The trainer's module lies in the driver's folder only: Ray ships it to both.
    """
    (tmp_path / "marks").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "only_here.py").write_text(
        "from tests.support.node_trainers import train\nassert 'runtime_resources' in __file__, 'it was not shipped'\n"
    )
    spec = synthetic_spec(
        "picky",
        trainer="only_here:train",
        extra={"light": True, "marks": str(tmp_path / "marks"), "wait_for": 2},
        budget={"trials": 8},
        **UNTRACKED,
    )
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    path = os.pathsep.join([str(tmp_path / "code"), str(REPOSITORY)])
    with cluster(cpus=1) as ray, node({**ray, NO_FILE: "1"}):
        driver = Driver.start("run", tmp_path / "spec.yaml", home=home.path, PYTHONPATH=path, **ray)
        assert driver.wait() == 0, driver.text
    study = load_study(open_storage(home.ledger_url), "picky")
    assert [trial.status for trial in study.trials] == ["complete"] * 8, driver.text
    (left,) = study.left_nodes
    assert "/opt/licence.key" in left.reason
    put_back = [trial for trial in study.trials if any(attempt.put_back for attempt in trial.attempts)]
    assert len(put_back) >= 2
    assert "gets no more trials, and its trials are put back" in driver.text
