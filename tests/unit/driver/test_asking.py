"""Whoever asks something of a study finds its driver, gets the answer, or reads why there is none; on each database."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpo.driver.conductor import Conductor
from hpo.driver.signals import SignalGuard
from hpo.driver.steering import asking, helm
from hpo.driver.steering.asking import ask
from hpo.driver.steering.configurations import configuration
from hpo.driver.steering.helm import Helm
from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home, confirmation_of
from hpo.ledger.lock import Lease
from hpo.ledger.reader import read_study
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.validation.problems import SpecificationError
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import steps


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LOOK_S", 0.01)
    monkeypatch.setattr(helm, "LOOK_S", 0.01)


def begin(home: Home, url: str | None = None, name: str = "asked", confirmed: str | None = None) -> Ledger:
    spec = synthetic_spec(name)
    (home.study(confirmed or name)).mkdir(parents=True, exist_ok=True)
    home.remember_ledger(name, url)
    storage = open_storage(url or home.ledger_url)
    lease = Lease.here(str(home.study(confirmed or name)))
    return Ledger.create(storage, spec, {"identity": "solo"}, study_sampler(spec), lease, name=confirmed)


@contextmanager
def driven(ledger: Ledger, folder: Path) -> Iterator[Conductor]:
    """A driver that listens while the block runs."""
    conductor = Conductor(ledger)
    signals = SignalGuard("Continue with: hpo resume asked")
    signals.watch(conductor.stop)
    rounds = steps(conductor, folder)
    next(rounds)
    with Helm(conductor, signals, ledger.token):
        yield conductor
    rounds.close()  # type: ignore[attr-defined]
    conductor.close()


def test_a_driver_answers_whoever_asks(home: Home, tmp_path: Path) -> None:
    with driven(begin(home), tmp_path):
        added = ask(home, "asked", "add", values={"extra.quality": 0.875})
        assert added.answer is not None
        assert added.answer.trial == 2
        assert ask(home, "asked", "set", overrides=("budget.trials=9",)).to_json()["state"] == "done"
        assert ask(home, "asked", "stop").answer is not None
    study = read_study(home, "asked")
    assert [request.asks for request in study.requests] == ["add extra.quality=0.875", "set budget.trials=9", "stop"]
    assert study.spec.budget.trials == 9
    assert study.driver == "none"


@pytest.mark.parametrize("kind", ["stop", "stop_now", "pause", "continue", "stop_trial", "set"])
def test_nothing_is_asked_of_a_study_that_no_driver_runs(home: Home, kind: asking.Kind) -> None:
    begin(home).close()
    with pytest.raises(UsageError, match=r"no driver runs asked, .*hpo resume asked"):
        ask(home, "asked", kind)
    assert read_study(home, "asked").requests == ()


def test_a_configuration_for_a_study_that_does_not_run_is_kept_for_its_next_driver(home: Home, tmp_path: Path) -> None:
    begin(home).close()
    kept = ask(home, "asked", "add", values={"extra.quality": 0.875})
    assert kept.answer is None
    assert json.loads(json.dumps(kept.to_json()))["state"] == "kept"
    storage = open_storage(home.ledger_url)
    with driven(Ledger.open(storage, "asked", study_sampler(synthetic_spec("asked"))), tmp_path) as conductor:
        assert {"extra.quality": 0.875} in [trial.values for trial in conductor.ledger.trials]
    (request,) = read_study(home, "asked").requests
    assert request.answer is not None
    assert request.answer.state == "done"


def test_what_the_driver_refuses_is_an_error_with_its_reason(home: Home, tmp_path: Path) -> None:
    with driven(begin(home), tmp_path), pytest.raises(UsageError, match=r"train\.epochs: 8 -> 20"):
        ask(home, "asked", "set", overrides=("train.epochs=20",))


def test_a_driver_that_does_not_answer_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(home)
    with pytest.raises(InfrastructureError, match=r"process \d+ on .* runs asked and has not answered for 0 s"):
        ask(home, "asked", "stop", wait=0.0)


def test_a_driver_that_ends_before_it_answers_ends_the_wait(home: Home) -> None:
    ledger = begin(home)
    threading.Timer(0.3, ledger.close).start()
    with pytest.raises(UsageError, match="the driver ended before it answered, so nothing was done"):
        ask(home, "asked", "stop")


def test_a_stop_of_a_study_that_is_being_confirmed_reaches_the_confirmation(home: Home, tmp_path: Path) -> None:
    begin(home).close()
    again = confirmation_of("asked")
    ledger = begin(home, confirmed=again)
    request = threading.Thread(target=lambda: ask(home, "asked", "stop"))
    request.start()
    while not (waiting := ledger.mailbox.unanswered()):
        pass
    assert [one.kind for one in waiting] == ["stop"]
    ledger.close()
    request.join()


def test_a_configuration_takes_what_is_not_given_from_the_baseline_or_another_trial(home: Home) -> None:
    spec = synthetic_spec(
        "asked",
        space={
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
            "train.optimizer": {"type": "categorical", "choices": ["sgd", "adamw"]},
            "train.momentum": {
                "type": "float",
                "low": 0.0,
                "high": 0.9,
                "when": {"train.optimizer": {"eq": "sgd"}},
            },
        },
        enqueue=[
            {"extra.quality": 0.5, "train.optimizer": "sgd", "train.momentum": 0.9},
            {"extra.quality": 0.25, "train.optimizer": "adamw"},
        ],
    )
    home.study("asked").mkdir(parents=True)
    Ledger.create(open_storage(home.ledger_url), spec, {}, study_sampler(spec)).close()
    assert configuration(home, "asked", ["extra.quality=1"]) == {
        "extra.quality": 1,
        "train.optimizer": "sgd",
        "train.momentum": 0.9,
    }
    assert configuration(home, "asked", ["train.optimizer=adamw"]) == {"extra.quality": 0.5, "train.optimizer": "adamw"}
    assert configuration(home, "asked", [], like=1) == {"extra.quality": 0.25, "train.optimizer": "adamw"}
    for given, said in (
        (["train.optimizer=sgd"], "must also give train.momentum, which is active here"),
        (["train.momentum=0.5"], "train.momentum: is not active here"),
        (["extra.quality=2"], "extra.quality: is outside the space"),
        (["extra.qualty=1"], "extra.qualty: is not a parameter of the space"),
        (["extra.quality"], "is not a value of a parameter"),
    ):
        with pytest.raises(SpecificationError, match=said):
            configuration(home, "asked", given, like=1)
    with pytest.raises(UsageError, match="has no trial 7; trials: 0 to 1"):
        configuration(home, "asked", [], like=7)
    with pytest.raises(UsageError, match="nothing is given to try"):
        configuration(home, "asked", [])
