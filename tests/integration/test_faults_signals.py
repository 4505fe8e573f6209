"""Ctrl-C and SIGTERM, through the command as a person types it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.results.progress import progress
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver

pytestmark = pytest.mark.ray


def write(folder: Path, name: str, **changes: object) -> Path:
    """A specification file of the synthetic trainer."""
    spec = synthetic_spec(name, **changes)
    path = folder / f"{name}.yaml"
    path.write_text(spec.to_yaml())
    return path


def states(home: Home, name: str) -> list[str]:
    """Optuna's states of the trials that have begun."""
    import optuna

    trials = optuna.load_study(study_name=name, storage=open_storage(home.ledger_url)).trials
    return [trial.state.name for trial in trials if trial.system_attrs.get("start")]


def last_line(driver: Driver) -> str:
    """What stands where the eye is when the prompt comes back."""
    return driver.text.strip().splitlines()[-1]


def test_one_signal_ends_a_study_in_order_and_a_second_one_at_once(home: Home, tmp_path: Path) -> None:
    """Ctrl-C (to the whole group, as terminals send it), SIGTERM, and Ctrl-C twice during an epoch without end."""
    extra, notify = {"seconds": 0.4, "light": True}, {"command": f"cat > '{tmp_path}/told'"}
    spec = write(
        tmp_path, "halted", extra=extra, budget={"trials": 3}, asha={"enabled": False}, concurrency=2, notify=notify
    )

    first = Driver.start("run", spec, home=home.path)
    first.until("epoch 2/8")
    first.signal(signal.SIGINT, group=True)
    assert first.wait() == 130
    begins = ["reading the specification", "reading the ledger", "asking MLflow", "starting Ray on this machine"]
    assert [line for line in first.text.splitlines() if line in begins] == begins, "the start says what it is doing"
    assert last_line(first) == "Continue with: hpo resume halted"
    assert "Traceback" not in first.text
    assert set(states(home, "halted")) == {"WAITING"}
    study = load_study(open_storage(home.ledger_url), "halted")
    assert {trial.status for trial in study.trials if trial.started} == {"interrupted"}
    assert progress(study).state == "interrupted"
    told = json.loads((tmp_path / "told").read_text())
    assert (told["event"], told["state"], told["study"]) == ("end", "interrupted", "halted")
    before = {trial.number: len(trial.epochs) for trial in study.trials}

    second = Driver.start("resume", "halted", home=home.path)
    second.until("epoch", count=2)
    second.signal(signal.SIGTERM, group=True)  # as SLURM does
    assert second.wait() == 143
    assert last_line(second) == "Continue with: hpo resume halted"
    assert "Traceback" not in second.text
    assert "RUNNING" not in states(home, "halted")
    study = load_study(open_storage(home.ledger_url), "halted")
    assert all(len(trial.epochs) >= before[trial.number] for trial in study.trials)

    third = Driver.start("resume", "halted", home=home.path)
    third.until("resumed")
    third.signal(signal.SIGINT)
    third.signal(signal.SIGINT)
    assert third.wait() == 130
    assert last_line(third) == "Continue with: hpo resume halted"
    for driver in (first, second, third):
        assert driver.orphans() == []
