"""A training on the CPU uses the cores that other programs leave."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.recorded import three_epochs
from trainers import finetune
from trainers.api import Context
from trainers.checkpoint import DirectoryStore
from trainers.loop import cores
from trainers.loop.cores import Cores, Usage, fitting, usage

START = Usage(10.0, 5.0, 100.0)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("own", "idle", "most", "threads"),
    [
        (4.0, 0.0, 2, 2),  # two seconds, and both cores all the time
        (3.6, 0.0, 2, 2),  # a mouse was moved
        (2.6, 0.0, 2, 1),  # a busy program had two thirds of a core
        (2.0, 0.0, 2, 1),  # the one thread of two that is left is not disturbed
        (2.0, 1.9, 2, 2),  # that program has ended
        (2.0, 0.8, 2, 1),
        (0.3, 0.0, 2, 1),  # there is always one
        (2.0, 12.0, 4, 4),  # many cores are free; no more than asked for
        (6.4, 4.0, 8, 5),
    ],
)
def test_threads_are_as_many_as_cores_are_left(own: float, idle: float, most: int, threads: int) -> None:
    assert fitting(START, Usage(12.0, 5.0 + own, 100.0 + idle), most) == threads


def test_the_idle_time_is_that_of_the_cores_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu 1 2 3 900 90 0\ncpu0 1 2 3 400 10 0\ncpu1 1 2 3 300 50 0\ncpu10 1 2 3 200 30 0\nctxt 5\n")
    monkeypatch.setattr(cores, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 10})
    monkeypatch.setattr(os, "sysconf", lambda _: 100)
    found = usage()
    assert found is not None
    assert found.idle == pytest.approx(6.4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4})
    assert usage() is None, "a container has numbered its cores anew"
    stat.write_text("cpu 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0\ncpu4 0 0 0 0 0 0\n")
    assert usage() is None, "nothing is told"
    stat.unlink()
    assert usage() is None


def test_the_true_clocks_go_forward() -> None:
    before = usage()
    subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    now = usage()
    assert before is not None
    assert now is not None
    assert now.clock > before.clock
    assert now.own >= before.own
    assert now.idle >= before.idle


def test_a_training_gives_way_to_a_busy_program_and_takes_its_core_back(two_threads: None) -> None:
    readings = iter([START, Usage(12.0, 7.6, 100.0), Usage(14.0, 9.6, 101.9)])
    used = Cores(asked(), lambda: next(readings))
    used.begin()
    assert torch.get_num_threads() == 2
    used.look()
    assert torch.get_num_threads() == 1
    used.look()
    assert torch.get_num_threads() == 2


def test_a_training_of_one_thread_or_on_a_gpu_looks_at_nothing(two_threads: None) -> None:
    for device, threads in (("cpu", 1), ("cuda", 2)):
        torch.set_num_threads(threads)
        used = Cores(asked(device, threads), unreachable)
        used.begin()
        used.look()
        assert torch.get_num_threads() == threads


def test_a_compiled_training_keeps_its_threads(two_threads: None) -> None:
    used = Cores(asked(), unreachable, compiled=True)
    used.begin()
    used.look()
    assert torch.get_num_threads() == 2


def test_threads_that_are_bound_to_cores_stay(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    used = Cores(asked(), unreachable)
    used.begin()
    used.look()
    assert torch.get_num_threads() == 2


def test_epochs_shorter_than_the_time_between_two_looks_are_looked_at_together(
    two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    readings = iter([replace(START, clock=now), Usage(now + 2.0, 7.6, 100.0)])
    used = Cores(asked(), lambda: next(readings))
    for waited in (0.6, 1.2):
        used.begin()
        monkeypatch.setattr(time, "monotonic", lambda waited=waited: now + waited)
        used.look()
    assert torch.get_num_threads() == 1


def test_a_system_that_tells_nothing_keeps_the_threads(two_threads: None) -> None:
    used = Cores(asked(), lambda: None)
    used.begin()
    used.look()
    assert torch.get_num_threads() == 2


def test_an_epoch_begins_with_the_threads_of_the_last_one_and_the_process_gets_its_own_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, seen = torch.get_num_threads(), []
    monkeypatch.setattr(cores, "LOOK_S", 0.0)
    monkeypatch.setattr(cores, "usage", busy_machine())
    train = Cores.begin

    def begin(self: Cores) -> None:
        train(self)
        seen.append(torch.get_num_threads())

    monkeypatch.setattr(Cores, "begin", begin)
    context = Context(
        seed=0, checkpoints=DirectoryStore(str(tmp_path)), device="cpu", threads=2, cache_dir=str(tmp_path / "cache")
    )
    for _ in finetune.train(three_epochs(), context):
        assert torch.get_num_threads() == outside
    assert seen == [2, 1, 1]


def asked(device: str = "cpu", threads: int | None = None) -> Context:
    store: Any = object()
    return Context(seed=0, checkpoints=store, device=device, threads=threads)


def busy_machine() -> Callable[[], Usage]:
    """Another program has one of two cores all the time."""
    clock = [0.0]

    def read() -> Usage:
        clock[0] += 1.0
        return Usage(clock[0], clock[0] * 1.0, 0.0)

    return read


def unreachable() -> Usage:
    raise AssertionError("nothing is read")
