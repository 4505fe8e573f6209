"""What a worker makes of a trainer's failure: its trial's own, or its device's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.driver.ray_backend import trainable as worker
from hpo.driver.ray_backend.trainable import DeviceLost, Worker
from tests.conftest import synthetic_spec
from tests.support import in_process_driver
from trainers import devices

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
    assert report["broken"] == f"cpu cannot be used on {report['host']}: {SAID}"


def test_the_device_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
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
