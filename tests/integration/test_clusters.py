"""Clusters that change while a study runs, and clusters that studies share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpo.driver.ray_backend.cluster import PRESTARTS
from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver, cluster, node
from tests.support.node_trainers import FLAG

pytestmark = pytest.mark.ray


def most_at_once(study: StudyRecord) -> int:
    """The largest number of trials that trained at the same time, of those that did so in one go."""
    once = [trial for trial in study.trials if trial.complete and len(trial.attempts) == 1]
    spans = [(trial.attempts[0].started, trial.finished or 0.0) for trial in once]
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


IDLE = """
import time, psutil
from hpo.driver.ray_backend.cluster import ray_session
from hpo.spec.study import Spec
with ray_session(Spec(study="idle", space={}), verbose=False):
    time.sleep(3.0)
    for child in psutil.Process().children(recursive=True):
        print(*child.cmdline())
"""


def test_a_studys_own_ray_starts_nothing_before_a_trial_asks_for_it() -> None:
    """By itself Ray starts a worker per CPU, the dashboard's process though no dashboard is wanted, its autoscaler, and
    the program that sends what workers print; each takes half a second of processor time or more, and 90 MB."""
    environment = {name: value for name, value in os.environ.items() if name not in PRESTARTS}
    command = [sys.executable, "-c", IDLE]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    assert "raylet" in run.stdout
    for idle in ("ray::IDLE", "dashboard/dashboard.py", "monitor.py"):  # also log_monitor.py
        assert idle not in run.stdout


@pytest.mark.timeout(900)
def test_a_study_follows_nodes_that_join_and_leave(home: Home, tmp_path: Path) -> None:
    """A node joins and trains. Then the first node fails its trials and is left. The other dies, and its trial waits
    for it, until Ray knows that it is dead; then the first is used again."""
    flag = tmp_path / "flag"
    spec = synthetic_spec(
        "moving",
        trainer="tests.support.node_trainers:train_unless_flagged",
        extra={"seconds": 0.5, "light": True},
        budget={"trials": 1000},
        asha={"enabled": False},
        tracking={"enabled": False},
    )
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    environment = {FLAG: str(flag), "RAY_health_check_period_ms": "1000"}
    with cluster(cpus=1, **environment) as ray:
        driver = Driver.start("run", tmp_path / "spec.yaml", home=home.path, **ray)
        driver.until("epoch 1/8")
        assert driver.text.count("started:") == 1
        with node(ray) as second:
            driver.until("complete", count=4)
            flag.touch()
            driver.until("gets no more trials", seconds=240)
            driver.until("epoch", count=driver.text.count("epoch") + 3)
            os.killpg(second.pid, signal.SIGKILL)
            flag.unlink()
        driver.until("gets trials again", seconds=240)
        driver.until("complete", count=driver.text.count("complete") + 1)
        driver.signal(signal.SIGTERM)
        assert driver.wait() == 143, driver.text
    study = load_study(open_storage(home.ledger_url), "moving")
    assert {trial.status for trial in study.trials if trial.started} == {"complete", "interrupted"}
    assert most_at_once(study) == 2
    lost = [attempt.lost for trial in study.trials for attempt in trial.attempts if attempt.lost]
    assert "the nodes that it could begin on have gone" in lost


@pytest.mark.timeout(900)
def test_a_study_that_comes_to_a_busy_cluster_gets_its_part_of_the_gpus(home: Home, tmp_path: Path) -> None:
    """Two nodes, one GPU each, half a GPU per trial. The first study has all four slots and never ends by itself. Each
    driver has a home of its own."""
    other = Home.at(tmp_path / "other").create()
    for name, trials in (("endless", 5000), ("short", 4)):
        spec = synthetic_spec(
            name,
            trainer="tests.support.pretended_gpus:train",
            extra={"seconds": 0.2, "light": True},
            resources={"cpus": 0.5, "gpus": 0.5},
            budget={"trials": trials},
            asha={"enabled": False},
            tracking={"enabled": False},
        )
        (tmp_path / f"{name}.yaml").write_text(spec.to_yaml())
    with cluster(cpus=1, gpus=1) as ray, node(ray, gpus=1):
        endless = Driver.start("run", tmp_path / "endless.yaml", home=home.path, **ray)
        endless.until("complete", count=4)
        short = Driver.start("run", tmp_path / "short.yaml", home=other.path, **ray)
        assert short.wait() == 0, short.text + endless.text
        endless.until("complete", count=endless.text.count("complete") + 5)
        endless.signal(signal.SIGTERM)
        assert endless.wait() == 143, endless.text
    first = load_study(open_storage(home.ledger_url), "endless")
    second = load_study(open_storage(other.ledger_url), "short")
    assert most_at_once(first) == 4
    assert [trial.status for trial in second.trials] == ["complete"] * 4
    begin, end = second.trials[0].attempts[0].started, max(trial.finished or 0.0 for trial in second.trials)
    assert any(begin < (trial.finished or 0.0) < end for trial in first.trials), "the first study went on"
