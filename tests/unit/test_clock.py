"""Time is counted, not read from the wall; and a process is known by more than its number."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hpo.clock import Clock
from hpo.processes import ended, fingerprint
from tests.support.clocks import EPOCH, HOUR, Time


@pytest.mark.parametrize("jump", [9 * HOUR, -HOUR])
def test_a_jump_of_the_wall_clock_changes_no_duration(jump: float) -> None:
    time = Time()
    clock = time.clock()
    began = clock.now()
    assert began == EPOCH
    time.wait(60)
    time.jumped = jump
    time.wait(60)
    assert clock.now() - began == 120
    assert Clock(time.wall, lambda: time.passed).now() == EPOCH + 120 + jump, "the next process reads the wall again"


def test_a_clock_goes_on_from_a_later_stamp_and_never_back() -> None:
    time = Time()
    clock = time.clock()
    clock.not_before(EPOCH + 500)
    assert clock.now() == EPOCH + 500
    clock.not_before(EPOCH)
    time.wait(1)
    assert clock.now() == EPOCH + 501


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells processes apart")
def test_a_process_of_this_machine_is_known_to_have_ended_and_nothing_is_known_of_others() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        known = fingerprint(child.pid)
        assert known
        assert not ended(child.pid, known)
    assert ended(child.pid, known)
    assert ended(os.getpid(), known), "another process has its number by now"
    assert not ended(child.pid, ""), "a record of an earlier version"
    assert not ended(child.pid, f"another-boot {known.partition(' ')[2]}")
    assert fingerprint(child.pid) == ""
