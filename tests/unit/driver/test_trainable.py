"""What a worker makes of a trainer's failure: its trial's own, or its device's."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.driver.ray_backend import trainable as worker
from hpo.driver.ray_backend.trainable import DeviceLost, ProcessSpent, Worker
from tests.conftest import synthetic_spec
from tests.support import in_process_driver
from trainers import devices
from trainers.api import RecordingFailed

SAID = "CUDA error: an illegal memory access was encountered"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """As in a process that has not looked for its device yet."""
    worker._unusable.cache_clear()
    yield
    worker._unusable.cache_clear()


def crashing(folder: Path, **extra: Any) -> Worker:
    """At work on a trial that ends with an exception after its first epoch."""
    config = synthetic_spec(extra={"seconds": 0.0, "light": True, **extra}).base()
    job = {
        **in_process_driver.JOB,
        "number": 0,
        "seed": 0,
        "training": dataclasses.asdict(config),
        "checkpoints": str(folder),
    }
    return Worker(config=job)


@pytest.mark.parametrize("fault", ["crash_at", "memory_at"])
def test_a_failure_that_took_the_device_with_it_ends_the_process(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = crashing(tmp_path / "a", **{fault: 2})
    assert "metrics" in one.step()
    assert "on demand" in one.step()["failure"], "the device is well"
    other = crashing(tmp_path / "b", **{fault: 2})
    assert "metrics" in other.step()
    monkeypatch.setattr(devices, "device_error", lambda device: SAID)
    with pytest.raises(DeviceLost, match=f"cpu failed: {SAID}"):
        other.step()


def test_a_device_that_never_worked_is_no_trials_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "device_error", lambda device: SAID)
    report = crashing(tmp_path, crash_at=1).step()
    assert "failure" not in report
    assert report["lacking"] == f"cannot use cpu: {SAID}"


def test_the_state_of_a_device_is_asked_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.device_error("cpu") is None
    if torch.cuda.is_available():
        assert devices.device_error("cuda") is None
    else:
        assert devices.device_error("cuda"), "there is none"

    def answers(error: Exception) -> str | None:
        def synchronize(device: str) -> None:
            raise error

        monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
        return devices.device_error("cuda")

    full = torch.AcceleratorError("CUDA error: out of memory")
    full.error_code = 2  # type: ignore[attr-defined]
    assert answers(torch.AcceleratorError(f"{SAID}\nCompile with ...")) == SAID
    assert answers(torch.OutOfMemoryError("CUDA out of memory")) is None
    assert answers(full) is None


def mistaken(folder: Path, mistake: str, trainer: str = "train", **extra: Any) -> Worker:
    """A worker of a trial whose trainer makes a mistake in its second epoch."""
    settings = {"mistake": mistake, "mistake_at": 2, **extra}
    config = synthetic_spec(trainer=f"tests.support.wrong_trainers:{trainer}", extra=settings).base()
    job = {
        **in_process_driver.JOB,
        "trainer": f"tests.support.wrong_trainers:{trainer}",
        "number": 0,
        "seed": 0,
        "training": dataclasses.asdict(config),
        "checkpoints": str(folder / "checkpoints"),
    }
    return Worker(config=job)


def test_numbers_of_numpy_reach_the_driver_as_plain_numbers(tmp_path: Path) -> None:
    worker = mistaken(tmp_path, "numpy")
    worker.step()
    metrics = worker.step()["metrics"]
    assert metrics == {"epoch": 2, "val_accuracy": 0.5}
    assert [type(value) for value in metrics.values()] == [int, float]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("dict", "yielded a dict"),
        ("none", "yielded None"),
        ("zero", "epoch 0; epochs count from 1"),
        ("percent", "val_accuracy 93.1; it must be from 0 to 1"),
        ("repeat", "reported epoch 1 after epoch 1; report every epoch once, in order"),
        ("exit", "called sys.exit('out of patience'); raise an exception instead"),
        ("mute", "Mute (its text cannot be shown: ValueError in __str__)"),
        ("abort", "Aborted: stop everything"),
        ("interrupt", "KeyboardInterrupt"),
    ],
)
def test_a_mistake_of_the_trainer_is_a_failure_of_its_trial(mistake: str, message: str, tmp_path: Path) -> None:
    worker = mistaken(tmp_path, mistake)
    assert "metrics" in worker.step()
    failure = worker.step()["failure"]
    assert message in failure.partition("\n")[0]


@pytest.mark.parametrize("mistake", ["bad_cleanup", "exit_in_cleanup", "abort_in_cleanup"])
def test_a_clean_up_that_fails_does_not_hide_the_mistake(mistake: str, tmp_path: Path) -> None:
    worker = mistaken(tmp_path, "dict", **{mistake: True})
    worker.step()
    assert "yielded a dict" in worker.step()["failure"]


def test_a_trainer_that_is_no_generator_is_a_failure_of_its_trial(tmp_path: Path) -> None:
    failure = mistaken(tmp_path, "", trainer="returns_a_number").step()["failure"]
    assert "returned a float (0.5) instead of an iterator" in failure


def test_a_process_without_file_descriptors_ends_and_its_trial_comes_again_in_another(tmp_path: Path) -> None:
    """Earlier trials may have left files open, and each later one would fail."""
    worker = mistaken(tmp_path, "files")
    worker.step()
    with pytest.raises(ProcessSpent, match="too many open files"):
        worker.step()


def test_a_process_whose_recording_failed_ends_and_its_trial_comes_again_in_another(tmp_path: Path) -> None:
    """Its generator and its allocator may stay in the mode of the recording."""
    worker = mistaken(tmp_path, "recording")
    worker.step()
    with pytest.raises(ProcessSpent, match="cannot be recorded") as caught:
        worker.step()
    assert isinstance(copy.copy(caught.value.__cause__), RecordingFailed), "Ray sends it, as pickle would"


def test_a_text_without_end_is_bounded_in_the_worker(tmp_path: Path) -> None:
    worker = mistaken(tmp_path, "long")
    worker.step()
    assert len(worker.step()["failure"]) < 70_000


def test_ray_may_end_the_process_of_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises SystemExit in a worker that it ends; that is a lost worker and no failure of the trial."""
    worker = mistaken(tmp_path, "")

    def end(*arguments: Any) -> Any:
        error = SystemExit(1)
        error.ray_terminate_msg = "The process receives a SIGTERM."  # type: ignore[attr-defined]
        raise error

    monkeypatch.setattr("tests.support.wrong_trainers.train", end)
    with pytest.raises(SystemExit):
        worker.step()


def test_a_worker_says_where_it_is_and_what_it_does_before_it_trains(tmp_path: Path) -> None:
    """So that the driver knows the node of a process that dies in its first epoch, and people what takes so long."""
    config = synthetic_spec(extra={"seconds": 0.0, "light": True}).base()
    job = {**in_process_driver.JOB, "announce": True, "number": 0, "seed": 0, "checkpoints": str(tmp_path / "0")}
    one = Worker(config=job | {"training": dataclasses.asdict(config)})
    first, *others, last = [one.step() for _ in range(4)]
    assert {"host", "node", "pid"} <= first.keys()
    assert [report["phase"] for report in (first, *others)] == ["importing", "reading", "training"]
    assert "metrics" in last
    one.reset_config(job | {"number": 1, "training": dataclasses.asdict(config), "checkpoints": str(tmp_path / "1")})
    assert one.step()["phase"] == "training", "the process has imported and read everything"
    assert "metrics" in one.step()


def test_each_phase_of_a_worker_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(worker, "imported", lambda trainer: done.append("imported"))
    monkeypatch.setattr(worker, "proved", lambda *given: done.append("read") or (lambda *given: iter(())))
    config = synthetic_spec().base()
    job = {**in_process_driver.JOB, "announce": True, "number": 0, "seed": 0, "checkpoints": str(tmp_path / "0")}
    one = Worker(config=job | {"training": dataclasses.asdict(config)})
    seen = []
    for _ in range(4):
        one.step()
        seen.append(tuple(done))
    assert seen == [(), ("imported",), ("imported", "read"), ("imported", "read")], "a phase is told before it is done"
