"""A driver's process that is steered by other processes, as the page says, and trains with a real Ray."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.drivers import Driver, marked
from tests.support.markdown import blocks

pytestmark = pytest.mark.ray


def steer(home: Home, *words: str) -> dict[str, object]:
    """What another process asks, and the answer that it prints."""
    command = Driver.start(*words, "--json", home=home.path)
    assert command.wait() == 0, command.text
    answer: dict[str, object] = json.loads(command.text.strip().splitlines()[-1])
    return answer


STEERING, RENAMING, REMOVING = (
    [line.partition("  #")[0].strip() for line in block.splitlines()]
    for block in blocks(REPOSITORY / "reports" / "docs" / "steering.md", "bash")
)
"""The commands of the page."""


def test_the_commands_of_the_page_steer_rename_and_remove_a_running_study(home: Home, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    spec = synthetic_spec(
        "cifar10",
        extra={"seconds": 0.2, "light": True, "gate": str(gate)},  # no third epoch begins before the gate is there
        space={
            "extra.quality": {"type": "float", "low": 0, "high": 1},
            "train.lr": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        },
        enqueue=[{"extra.quality": 0.5, "train.lr": 0.001}, {"extra.quality": 0.25, "train.lr": 0.002}],
        budget={"trials": 30},
        asha={"enabled": False},
        concurrency=2,
        tracking={"enabled": False},
    )
    (tmp_path / "cifar10.yaml").write_text(spec.to_yaml())

    def study() -> StudyRecord:
        return load_study(open_storage(home.ledger_url), "cifar10")

    driver = Driver.start("run", tmp_path / "cifar10.yaml", home=home.path)
    driver.until("epoch 2/8", count=2)

    def one_trial_ended() -> None:
        driver.until("trial 1 stopped: stopped by")
        driver.until("trial 2 epoch 2/8")  # in the place of trial 1, whose epoch would never have ended

    def paused() -> None:
        gate.touch()
        driver.until("interrupted: stopped after epoch", count=2)
        assert study().paused is not None
        for _ in range(100):
            workers = [one for one in marked(driver.mark) if "ray::Worker" in one or "ray::ResourceTrainable" in one]
            if not workers:
                return
            driver.process.join(0.2)
        raise AssertionError(f"a paused study holds no worker, and so no GPU: {workers}")

    then: dict[str, Callable[[], object]] = {
        "hpo stop cifar10 --trial 1": one_trial_ended,
        "hpo pause cifar10": paused,
        "hpo pause cifar10 --off": lambda: driver.until("trial 3 started"),
    }
    *asked, resume = STEERING
    answers = []
    for command in asked:
        answers.append(steer(home, *shlex.split(command)[1:]))
        then.pop(command, lambda: None)()
    assert not then
    assert {answer["state"] for answer in answers} == {"done"}
    assert driver.wait() == 130
    said = [f"stopped by {answers[-1]['by']}", "Continue with: hpo resume cifar10"]
    assert driver.text.strip().splitlines()[-2:] == said
    record = study()
    assert record.spec.budget.trials == 80
    assert record.trials[1].status == "stopped"
    assert [record.trials[number].values for number in (2, 3)] == [
        {"extra.quality": 0.5, "train.lr": 0.02},
        {"extra.quality": 0.25, "train.lr": 0.02},
    ]
    kinds = ["add", "add", "set", "stop_trial", "pause", "continue", "stop"]
    assert [request.kind for request in record.requests] == kinds
    assert {request.answer.state for request in record.requests if request.answer} == {"done"}
    assert driver.orphans() == []

    again = Driver.start(*shlex.split(resume)[1:], home=home.path)
    again.until("epoch ")
    again.signal(signal.SIGINT)
    assert again.wait() == 130

    (rename,) = RENAMING
    old, new = shlex.split(rename)[2:]
    assert steer(home, "rename", old, new)["study"] == new
    assert steer(home, "rename", new, old)["study"] == old
    assert len(study().trials) >= len(record.trials)
    asks, removes = REMOVING
    question = Driver.start(*shlex.split(asks)[1:], home=home.path)
    assert question.wait() != 0, "nobody answers"
    assert "Remove all of this of cifar10?" in question.text
    assert study().trials
    assert Driver.start(*shlex.split(removes)[1:], home=home.path).wait() == 0
    assert not home.study("cifar10").exists()
