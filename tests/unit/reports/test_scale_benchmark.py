"""The benchmark of many trials: tiny runs of its parts, by their structure and counts, and the page that shows them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.sqlite_urls import sqlite_url
from hpo.validation.loader import load_spec
from reports.benchmarks.scale import benchmark, page, real, simulation, studies
from reports.benchmarks.scale.calls import measure
from reports.benchmarks.scale.servers import proxy
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "reports" / "benchmarks" / "scale"
RUNNING, TRAINED, ENDED = 6, 8, 40


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a few trials."""
    path = tmp_path_factory.mktemp("scale") / "template.db"
    studies.create(sqlite_url(path), RUNNING, TRAINED)
    return path


@pytest.fixture
def grown(trained: Path, tmp_path: Path) -> Path:
    """The database of some more."""
    path = tmp_path / "grown.db"
    shutil.copy(trained, path)
    studies.multiply(sqlite_url(path), ENDED)
    return path


def test_copies_of_trials_are_trials_of_their_own(trained: Path, grown: Path) -> None:
    before, after = (load_study(open_storage(sqlite_url(path)), studies.NAME) for path in (trained, grown))
    assert [trial.number for trial in after.trials] == list(range(len(after.trials)))
    ended = [trial for trial in after.trials if trial.outcome is not None and trial.outcome.final]
    assert len(ended) == ENDED
    assert sum(trial.unfinished for trial in after.trials) == RUNNING
    assert len({tuple(trial.values.items()) for trial in ended}) == ENDED, "each has values of its own"
    known = Counter((trial.epochs, trial.rungs, trial.outcome) for trial in before.trials)
    assert Counter((trial.epochs, trial.rungs, trial.outcome) for trial in after.trials).keys() == known.keys()


def test_every_call_of_the_scheduling_thread_is_measured(grown: Path) -> None:
    cell = measure(sqlite_url(grown), "tpe", running=RUNNING, rounds=2, pause=0.0)
    assert (cell.policy, cell.database, cell.trials, cell.running) == ("tpe", "sqlite", ENDED, RUNNING)
    named = {row.call for row in page.ROWS} - {"memory"} | {call for call, _ in page.TRIPS.values()}
    assert named <= cell.costs.keys()
    assert {len(cell.costs[name].cpu_s) for name in ("epoch", "tick", "next_trial", "epoch that ends the trial")} == {2}
    assert cell.costs["epoch"].median("statements"), "an epoch is written"
    assert cell.costs["next_trial"].median("commits"), "a new trial is committed"
    assert min(cell.costs["tick"].statements) == 0, "nothing is written, unless the sign of life is due"
    assert cell.costs["epoch"].round_trips == [], "SQLite has no server"
    assert cell.memory_mb >= cell.base_memory_mb > 0


def test_in_virtual_time_gpus_wait_while_the_thread_works(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "simulated.db"
    shutil.copy(trained, path)
    begun = TRAINED + RUNNING
    reads = itertools.count()
    monkeypatch.setattr(simulation.time, "process_time", lambda: 0.0)
    monkeypatch.setattr(simulation.time, "thread_time", lambda: float(next(reads)))  # each call takes one second
    run = simulation.simulate(sqlite_url(path), "random", trials=begun + 12, gpus=3)
    assert run.trials_before == begun
    assert run.trials == 12 + RUNNING, "the unfinished ones come first"
    assert sum(run.ends.values()) in range(run.trials - 3, run.trials + 1)
    calls = run.cpu_s
    assert calls["on_epoch"] == run.epochs
    assert calls["on_placed"] == run.trials
    assert calls["tick"] == calls["on_epoch"] + calls["next_trial"]
    assert run.thread_waiting_share == 0
    assert run.thread_busy_share * run.virtual_s == pytest.approx(sum(calls.values()))
    assert 0 < run.gpus_idle_share < 1


def test_in_virtual_time_other_threads_work_between_calls_and_are_waited_for_during_them() -> None:
    thread, ask = simulation.Thread(), threading.Event()

    def think() -> None:
        ask.wait()
        sum(range(3_000_000))

    other = threading.Thread(target=think)
    other.start()
    thread.call("ask", 0.0, ask.set)
    thread.call("nothing", 1e6, lambda: None)  # the other thread had time enough before it
    assert not simulation.others_work()
    other.join()
    before = thread.waited_s
    thread.call("wait", 1e6, lambda: finish(lambda: sum(range(3_000_000))))
    assert thread.waited_s > before


def finish(work: Callable[[], object]) -> None:
    """Let another thread do the work and wait for it."""
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()


def test_the_proxy_counts_waits_for_an_answer_not_packets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, args=(server,), daemon=True).start()
        with proxy(f"postgresql+psycopg://hpo@127.0.0.1:{server.getsockname()[1]}/x") as way:
            port = int(way.url.rpartition(":")[2].partition("/")[0])
            with socket.create_connection(("127.0.0.1", port)) as client:
                for question in (b"one.", b"a long one" * 10_000 + b"."):
                    client.sendall(question)
                    assert client.recv(1) == b"!"
            assert way.round_trips == 2


def answer(server: socket.socket) -> None:
    """Answer every question, which ends in a full stop."""
    connection, _ = server.accept()
    while data := connection.recv(1 << 16):
        if data.endswith(b"."):
            connection.sendall(b"!")


def test_the_study_of_trials_that_do_nothing_is_valid(tmp_path: Path) -> None:
    spec = load_spec(real.write_spec(tmp_path, trials=20, at_once=16))
    assert (spec.concurrency, spec.budget.trials, spec.train.epochs) == (16, 20, 1)
    assert 16 * spec.resources.cpus <= (os.cpu_count() or 1)
    assert spec.tracking.enabled


def test_the_command_keeps_what_it_measured_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scale.json"
    file.write_text(json.dumps({"before": {"calls": {}}}))
    common = ["--json", str(file), "--column", "after", "--running", "4", "--policies", "random"]
    assert benchmark.main([*common, "--parts", "simulation", "--simulated", "14"]) == 0
    assert benchmark.main([*common, "--page-only"]) == 0
    record = json.loads(file.read_text())
    assert record["before"] == {"calls": {}}
    assert record["after"]["simulation"]["random to 14"]["gpus"] == 4
    assert record["after"]["environments"]["simulation"]["versions"]["optuna"]
    assert file.with_suffix(".md").read_text() == page.page(record)
    assert "after, random: trials" in capsys.readouterr().out
    assert not file.with_suffix(".png").exists(), "there are no costs to draw"


def test_the_record_has_one_line_for_each_list() -> None:
    record = {"after": {"calls": {"a": {"cpu_s": [0.123456789, 2.0], "statements": []}}, "text": "[1, 2]"}}
    text = benchmark.compact(record)
    assert '"cpu_s": [ 0.12346, 2.0 ]' in text
    assert json.loads(text) == {
        "after": {"calls": {"a": {"cpu_s": [0.12346, 2.0], "statements": []}}, "text": "[1, 2]"}
    }


def test_the_page_and_the_plot_show_the_recorded_figures(tmp_path: Path) -> None:
    record = json.loads((FOLDER / "scale.json").read_text(encoding="utf-8"))
    assert (FOLDER / "scale.md").read_text(encoding="utf-8") == page.page(record)
    page.plot(record, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
