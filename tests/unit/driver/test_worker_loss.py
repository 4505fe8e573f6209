"""Why a worker was lost: the messages of Ray 2.60 for each case, and the words that are recorded."""

from __future__ import annotations

import logging

import pytest

from hpo.driver.ray_backend.cluster import be_quiet
from hpo.driver.ray_backend.worker_loss import MemoryWatch, explain, kernel_kills

DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\n\tpid: 12847\n\tip: 192.0.2.2\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
)
CUT = (
    DIED + "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the "
    "process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called, or (3) the worker "
    "crashed unexpectedly due to SIGSEGV or another unexpected error."
)


@pytest.mark.parametrize(
    ("said", "facts", "reason"),
    [
        (
            CUT,
            {},
            "killed or crashed on a (SIGKILL or a segmentation fault; for lack of memory see dmesg there)",
        ),
        (CUT, {"starved": True}, "killed by the kernel on a: the host was out of memory"),
        (CUT, {"node_gone": True, "starved": True}, "its node was lost on a"),
        (DIED + "Worker exits unexpectedly. Worker exits with an exit code 3.", {}, "ended with exit code 3 on a"),
        (
            DIED + "Worker exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM.",
            {},
            "ended by SIGTERM on a",
        ),
        ("The actor 416a is unavailable: RpcError: Socket closed rpc_code: 14.", {}, "stopped answering on a"),
        ("The actor died because its node has died. Node Id: 51f9", {}, "its node was lost on a"),
        (
            "Task was killed due to the node running low on memory.\nMemory on the node was 61GB / 64GB",
            {},
            "killed by Ray on a: the host's memory was almost full",
        ),
        (
            "ray::Worker.train()\nRuntimeError: CUDA error: unavailable\n\nThe above exception was the direct cause:\n"
            'raise DeviceLost(f"{device} failed")\nhpo.worker.DeviceLost: cuda failed: CUDA error: unavailable\n',
            {},
            "cuda failed: CUDA error: unavailable on a",
        ),
        ("OSError: [Errno 24]\n\nhpo.worker.ProcessSpent: its process had", {}, "its process had on a"),
        ("ray::Worker.train()\nTypeError: cannot pickle", {}, "TypeError: cannot pickle"),
        ("", {}, "died without a message"),
    ],
)
def test_the_reason_of_a_lost_worker_is_recorded_in_plain_words(said: str, facts: dict[str, bool], reason: str) -> None:
    assert explain(said, host="a", **facts) == reason


def test_a_kill_by_the_kernel_for_lack_of_memory_is_noticed_for_a_minute() -> None:
    kills, now = 7, 0.0
    watch = MemoryWatch(lambda: kills, lambda: now)
    assert not watch.look()
    kills = 8
    assert watch.look()
    now = 59.0
    assert watch.look()
    now = 61.0
    assert not watch.look()


def test_the_kernels_count_of_its_kills_for_lack_of_memory_can_be_read() -> None:
    assert kernel_kills() >= 0


def test_a_lost_worker_is_not_told_twice_nor_with_rays_traceback() -> None:
    """Tune logs 40 lines for each loss, in the middle of the study's own."""
    tune = logging.getLogger("ray.tune")
    before = tune.level
    try:
        be_quiet()
        loggers = [logging.getLogger(f"ray.tune.{name}") for name in ("tune", "execution.tune_controller")]
        assert not any(logger.isEnabledFor(logging.ERROR) for logger in loggers)
    finally:
        tune.setLevel(before)
