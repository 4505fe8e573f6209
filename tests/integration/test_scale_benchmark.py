"""The parts of the benchmark of many trials that need a database server or Ray, as small as they can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.sqlite_urls import sqlite_url
from reports.benchmarks.scale import real, studies
from reports.benchmarks.scale.calls import measure
from reports.benchmarks.scale.servers import new_database, postgresql, programs


def test_round_trips_to_postgresql_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg, the PostgreSQL driver, is not installed")
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    file = sqlite_url(tmp_path / "small.db")
    studies.create(file, running=4, ended=6)
    studies.multiply(file, 12)
    with postgresql() as server:
        url = new_database(server, "small")
        studies.transfer(file, url)
        cell = measure(url, "random", delay_ms=1.0, running=4, rounds=1, pause=0.0)
    assert (cell.database, cell.trials) == ("postgresql", 12)
    epoch = cell.costs["epoch"]
    assert epoch.statements == [1]
    assert epoch.round_trips == [3], "its transaction begins, writes and ends"
    assert cell.costs["epoch that ends the trial"].round_trips[0] <= 3 + 5
    assert cell.costs["next_trial"].round_trips[0] <= 8
    assert epoch.wall_s[0] > 1e-3 * epoch.round_trips[0], "each waits for the delay"
    assert cell.costs["tick"].round_trips == [0]


def test_a_killed_study_of_trials_that_do_nothing_continues_with_a_new_trial() -> None:
    """Some trials are copies; the study is resumed by the command, on a Ray of its own."""
    resumed = real.kill_and_resume(trials=30, trained=5, at_once=2)
    assert resumed.trials == 30
    assert resumed.trained in range(5, 30)
    assert not resumed.tracking
    assert resumed.new_trial_s is not None
    assert resumed.peak_mb > 0


def test_the_stock_stack_ends_all_its_trials() -> None:
    driven = real.run("stock", trials=4, at_once=2)
    assert (driven.stack, driven.trials, driven.counted) == ("stock", 4, 3)
    assert 0 < driven.seconds <= driven.with_tracking_s
    assert driven.driver_cpu_s > 0
