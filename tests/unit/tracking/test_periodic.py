"""How often a repeated job runs."""

from __future__ import annotations

import pytest

from hpo.tracking.periodic import Periodic


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("hpo.tracking.periodic.time", clock)
    return clock


def test_a_job_runs_at_once_and_then_once_per_interval(clock: Clock) -> None:
    runs: list[float] = []
    job = Periodic(10.0, lambda: runs.append(clock.now))
    for _ in range(25):
        job.poll()
        clock.now += 1.0
    assert runs == [1000.0, 1010.0, 1020.0]


def test_a_delayed_job_does_not_run_at_once(clock: Clock) -> None:
    runs: list[float] = []
    job = Periodic(10.0, lambda: runs.append(clock.now), delay=60.0)
    job.poll()
    clock.now += 59.0
    job.poll()
    assert runs == []
    clock.now += 1.0
    job.poll()
    assert runs == [1060.0]


def test_a_slow_job_is_followed_by_twenty_times_its_duration_of_idle_time(clock: Clock) -> None:
    starts: list[float] = []

    def work() -> None:
        starts.append(clock.now)
        clock.now += 2.0

    job = Periodic(10.0, work)
    for _ in range(50):
        job.poll()
        clock.now += 1.0
    assert starts == [1000.0, 1042.0]


def test_a_job_that_fails_passes_its_error_on_and_waits_for_the_next_turn(clock: Clock) -> None:
    def fail() -> None:
        raise ConnectionError("down")

    job = Periodic(10.0, fail)
    with pytest.raises(ConnectionError, match="down"):
        job.poll()
    clock.now += 9.0
    job.poll()
    clock.now += 1.0
    with pytest.raises(ConnectionError, match="down"):
        job.poll()
