"""Notifications arrive, delay nothing whatever the receiver does, and show no secret."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.driver.events import Event
from hpo.driver.notify import delivery, notifier
from hpo.driver.notify.delivery import address
from hpo.driver.notify.message import VERSION
from hpo.driver.notify.notifier import Notifier
from hpo.errors import UsageError
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord
from hpo.spec.notify import Notify
from hpo.spec.study import Budget
from hpo.validation.loader import SpecificationError, parse_spec
from tests.conftest import REPOSITORY
from tests.support.markdown import blocks
from tests.support.sample_records import SPEC, study, trial

SECRET = "T0123-B4567-abcdefghijkl"
WAIT_S = 20.0


class Receiver(ThreadingHTTPServer):
    """A webhook that answers as its path says: /ok, /500, /redirect, /hang."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[dict[str, Any]] = []
        self.asked, self.go_on = threading.Event(), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{how}/{SECRET}"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append({"type": self.headers["Content-Type"], **json.loads(body)})
        self.server.asked.set()
        if self.path.startswith("/hang"):
            self.server.go_on.wait(WAIT_S)
        status = {"500": 500, "redirect": 302}.get(self.path.split("/")[1], 200)
        self.send_response(status)
        self.send_header("Location", self.server.url("ok"))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "CLOSE_S", 0.5)
    monkeypatch.setattr(delivery, "COMMAND_S", 0.5)


def gone(process: int) -> bool:
    """Whether a process ends soon; a dead one that nobody has waited for has no command line."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            if not Path(f"/proc/{process}/cmdline").read_bytes():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


DONE = study(
    trial(0, 16, ending=Ending.COMPLETE, enqueued=True, control=True),
    trial(1, 16, ending=Ending.COMPLETE),
    trial(2, 4, ending=Ending.PRUNED),
)
WEBHOOK = Notify(url="${HOOK}")


def sender(monkeypatch: pytest.MonkeyPatch, url: str, record: StudyRecord = DONE, **fields: Any) -> Notifier:
    monkeypatch.setenv("HOOK", url)
    return Notifier(Notify(url="${HOOK}", **fields), lambda: record)


def test_a_webhook_gets_the_new_best_and_the_end_as_documented(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", receiver.url("ok"))
    empty = Notifier(WEBHOOK, lambda: study())
    empty._study = lambda: DONE
    empty(Event("finished", DONE.trials[1]))
    assert receiver.asked.wait(WAIT_S)
    empty(Event("finished", DONE.trials[0]))  # worse
    empty(Event("finished", DONE.trials[2]))  # pruned
    empty.end(dataclasses.replace(DONE, ended="budget.trials: reached the budget of 3 trials"), None)
    assert empty.close() is None
    best, end = receiver.got
    assert (best["event"], end["event"]) == ("best", "end")
    assert best["type"] == "application/json"
    assert best["text"] == "cifar10_b0: new best: validation accuracy 56.10 %, trial 1"
    assert best["best"]["parameters"] == dict(DONE.trials[1].values)
    assert (end["state"], end["reason"]) == ("finished", "budget.trials: reached the budget of 3 trials")
    page = REPOSITORY / "reports" / "docs" / "notifications.md"
    (documented,) = [json.loads(text) for text in blocks(page, "json")]
    assert documented["version"] == VERSION == end["version"]
    assert list(documented) == [key for key in end if key != "type"]
    assert list(documented["best"]) == list(end["best"])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("500", "HTTP 500"),
        ("redirect", "HTTP 302"),
        ("hang", "not everything was taken"),
        ("gone", "refused"),
        ("port", "InvalidURL"),  # an error that names the address
    ],
)
def test_a_receiver_that_fails_delays_nothing_and_is_named_once_without_its_address(
    receiver: Receiver, limits: None, monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    if how == "gone":
        receiver.shutdown()
        receiver.server_close()
    telling = sender(monkeypatch, receiver.url(how) if how != "port" else f"http://127.0.0.1:{SECRET}/")
    for _ in range(1_000):
        telling.tell("best", DONE)  # returns at once: the receiver is not even asked yet
    telling.end(DONE, None)
    problem = telling.close() or ""
    assert said in problem
    assert "notif" in problem
    assert SECRET not in problem
    assert "127.0.0.1" not in problem
    assert telling.trouble is None, "told once"


def test_a_slow_receiver_gets_the_newest_best_trial_alone(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    telling = sender(monkeypatch, receiver.url("hang"))
    telling.tell("best", dataclasses.replace(DONE, name="first"))
    assert receiver.asked.wait(WAIT_S)
    for number in range(50):
        telling.tell("best", dataclasses.replace(DONE, name=f"later-{number}"))
    telling.end(DONE, RuntimeError("the disk is full"))
    receiver.go_on.set()
    assert telling.close() is None
    assert [(each["event"], each["study"]) for each in receiver.got] == [
        ("best", "first"),
        ("best", "later-49"),
        ("failure", "cifar10_b0"),
    ]
    assert receiver.got[-1]["reason"] == "the disk is full"


def test_events_that_are_not_named_are_not_told(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    telling = sender(monkeypatch, receiver.url("ok"), on=["failure"])
    telling.tell("best", DONE)
    telling.end(DONE, None)
    assert telling.close() is None
    assert receiver.got == []
    failed = study(trial(0, 0, ending=Ending.FAILED), spec=SPEC.model_copy(update={"budget": Budget(trials=1)}))
    telling = sender(monkeypatch, receiver.url("ok"), on=["failure"])
    telling.end(failed, None)
    assert telling.close() is None
    assert [(each["event"], each["state"], each["best"]) for each in receiver.got] == [("failure", "failed", None)]


def test_a_command_gets_the_message_and_a_long_one_is_killed_with_its_children(
    tmp_path: Path, limits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Notifier(
        Notify(command=f'cat > {tmp_path}/body; echo "$HPO_EVENT $HPO_STUDY" > {tmp_path}/words'), lambda: DONE
    )
    taken.end(DONE, None)
    monkeypatch.setattr(notifier, "CLOSE_S", WAIT_S)
    assert taken.close() is None
    assert json.loads((tmp_path / "body").read_text())["study"] == "cifar10_b0"
    assert (tmp_path / "words").read_text() == "end cifar10_b0\n"
    long = Notifier(Notify(command=f"sleep 1000 & echo $! > {tmp_path}/pid; wait"), lambda: DONE)
    long.end(DONE, None)
    assert "was killed" in (long.close() or "")
    child = int((tmp_path / "pid").read_text())
    assert gone(child)
    wrong = Notifier(Notify(command="exit 3"), lambda: DONE)
    wrong.end(DONE, None)
    assert "notify.command: it ended with exit code 3" in (wrong.close() or "")


def test_a_command_that_runs_at_the_end_of_the_driver_is_killed(limits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "COMMAND_S", 1_000.0)
    endless = Notifier(Notify(command="sleep 1000"), lambda: DONE)
    endless.end(DONE, None)
    assert "not everything was taken" in (endless.close() or "")
    endless._thread.join(WAIT_S)
    assert not endless._thread.is_alive()


@pytest.mark.parametrize(
    "value", [None, "", f"hooks.example/{SECRET}", f"ftp://hooks.example/{SECRET}", f"https://[{SECRET}"]
)
def test_an_address_that_is_missing_or_wrong_is_refused_before_the_start_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("HOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("HOOK", value)
    with pytest.raises(UsageError, match=r"notify\.url: the environment variable HOOK .*; set it, or") as caught:
        address(WEBHOOK, os.environ)
    assert SECRET not in str(caught.value)


SPECIFICATION = "study: told\nspace: {train.lr: {type: float, low: 0.1, high: 0.2}}\ntrainer: tests.synthetic:train\n"


@pytest.mark.parametrize(
    "wrong",
    [
        f"notify: {{url: 'https://hooks.example/{SECRET}'}}",
        f"notify: https://hooks.example/{SECRET}",
        f"notify: {{urls: 'https://hooks.example/{SECRET}'}}",
        f"notify: {{command: ['curl', 'https://hooks.example/{SECRET}']}}",
        f"notify: {{on: ['https://hooks.example/{SECRET}']}}",
    ],
)
def test_a_specification_that_holds_an_address_is_refused_without_showing_it(wrong: str) -> None:
    with pytest.raises(SpecificationError) as caught:
        parse_spec(SPECIFICATION + wrong, "told.yaml")
    assert "notify" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_validate_sends_a_test_message(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "told.yaml"
    file.write_text(SPECIFICATION + "notify:\n  url: ${HOOK}\n")
    monkeypatch.setenv("HOOK", receiver.url("ok"))
    assert "was taken" in CliRunner().invoke(app, ["validate", str(file), "--notify"], catch_exceptions=False).stdout
    assert [(each["event"], each["study"]) for each in receiver.got] == [("test", "told")]
    monkeypatch.setenv("HOOK", receiver.url("500"))
    with pytest.raises(Exception, match=r"notify\.url: it answered with HTTP 500"):
        CliRunner().invoke(app, ["validate", str(file), "--notify"], catch_exceptions=False)
