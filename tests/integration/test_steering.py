"""A driver's process that is steered by other processes, and trains with a real Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver, marked

pytestmark = pytest.mark.ray


def steer(home: Home, *words: str) -> dict[str, object]:
    """What another process asks, and the answer that it prints."""
    command = Driver.start(*words, "--json", home=home.path)
    assert command.wait() == 0, command.text
    answer: dict[str, object] = json.loads(command.text.strip().splitlines()[-1])
    return answer


def test_a_running_study_is_paused_continued_changed_and_stopped_by_other_processes(home: Home, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    spec = synthetic_spec(
        "steered",
        extra={"seconds": 0.2, "light": True, "gate": str(gate)},  # no third epoch begins before the gate is there
        budget={"trials": 30},
        asha={"enabled": False},
        concurrency=2,
        tracking={"enabled": False},
    )
    (tmp_path / "steered.yaml").write_text(spec.to_yaml())

    def study() -> StudyRecord:
        return load_study(open_storage(home.ledger_url), "steered")

    driver = Driver.start("run", tmp_path / "steered.yaml", home=home.path)
    driver.until("epoch 2/8", count=2)
    assert steer(home, "stop", "steered", "--trial", "1")["state"] == "done"
    driver.until("trial 1 stopped: stopped by")
    driver.until("trial 2 epoch 2/8")  # in the place of trial 1, whose epoch would never have ended
    assert steer(home, "add", "steered", "extra.quality=0.875")["trial"] == 3
    assert steer(home, "pause", "steered")["state"] == "done"
    gate.touch()
    driver.until("interrupted: stopped after epoch", count=2)
    assert study().paused is not None
    workers = [line for line in marked(driver.mark) if "ray::Worker" in line or "ray::ResourceTrainable" in line]
    for _ in range(100):
        if not workers:
            break
        driver.process.join(0.2)
        workers = [line for line in marked(driver.mark) if "ray::Worker" in line or "ray::ResourceTrainable" in line]
    assert workers == [], "a paused study holds no worker, and so no GPU"
    assert steer(home, "pause", "steered", "--off")["state"] == "done"
    driver.until("trial 3 started")

    assert steer(home, "set", "steered", "budget.trials=90")["state"] == "done"
    stop = steer(home, "stop", "steered")
    assert driver.wait() == 130
    assert driver.text.strip().splitlines()[-2:] == [f"stopped by {stop['by']}", "Continue with: hpo resume steered"]
    record = study()
    assert record.spec.budget.trials == 90
    assert record.trials[1].status == "stopped"
    assert record.trials[3].values == {"extra.quality": 0.875}
    assert [request.kind for request in record.requests] == ["stop_trial", "add", "pause", "continue", "set", "stop"]
    assert {request.answer.state for request in record.requests if request.answer} == {"done"}
    assert driver.orphans() == []
