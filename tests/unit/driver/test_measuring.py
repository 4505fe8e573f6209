"""When the use of a GPU is measured, and what decides without that; the measurement itself is a stand-in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hpo.driver.gpus import measuring
from hpo.driver.gpus.heaviest import heaviest
from hpo.gpu_sharing import Packing
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from trainers import devices
from trainers.api import GpuUse

GB = 10**9
GPU = ("G", 80 * GB)
USE = GpuUse(gpu="G", total_bytes=80 * GB, free_bytes=79 * GB, memory_bytes=11 * GB, busy=0.31)


class Machine:
    """A machine with GPUs and cores, on which every measurement has the same result."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpus = [GPU]
        self.cores = 16
        self.measurements = 0
        self.result: GpuUse | str = USE
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(measuring, "gpu_names", lambda: [name for name, _ in self.gpus])
        monkeypatch.setattr(devices, "gpus", lambda: self.gpus)
        monkeypatch.setattr(measuring, "usable_cpus", lambda: self.cores)
        monkeypatch.setattr(measuring, "measure", self._measure)

    def _measure(self, spec: Spec, cache: str, beside: str | None) -> GpuUse | str:
        self.measurements += 1
        return self.result

    def packed(self, recorded: Packing | None = None, **changes: object) -> Packing | None:
        return measuring.packed(synthetic_spec(**changes), "", recorded=recorded)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_by_default_the_measurement_decides(machine: Machine) -> None:
    packed = machine.packed()
    assert packed is not None
    assert (packed.trials, packed.measured, machine.measurements) == (3, USE, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": {"gpus": 1}},
        {"resources": {"gpus": 0.5}},
        {"resources": {"device": "cpu"}},
        {"ray": {"address": "127.0.0.1:6379"}},
    ],
)
def test_it_does_not_decide_elsewhere(machine: Machine, changes: dict[str, object]) -> None:
    assert machine.packed(**changes) is None
    assert machine.measurements == 0


def test_without_gpus_nothing_is_decided_and_torch_is_not_asked(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.gpus = []
    monkeypatch.setattr(devices, "gpus", lambda: pytest.fail("torch was asked"))
    assert machine.packed() is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"objectives": ["val_accuracy", "seconds_per_epoch"]},
            "trials that share one would falsify seconds_per_epoch",
        ),
        ({"concurrency": 1}, "concurrency is 1"),
        ({"resources": {"cpus": 16}}, "this machine has 16 CPU cores, and a trial gets 16"),
        (
            {"trainer": "trainers.finetune:train", "train": {"epochs": 8, "batch_size": "auto"}},
            "train.batch_size: auto fills it",
        ),
    ],
)
def test_what_needs_a_whole_gpu_is_not_measured(machine: Machine, changes: dict[str, object], reason: str) -> None:
    assert machine.packed(**changes) == Packing(1, reason)
    assert machine.measurements == 0


def test_gpus_that_differ_are_not_shared(machine: Machine) -> None:
    machine.gpus = [GPU, ("H", 24 * GB)]
    assert machine.packed() == Packing(1, "the GPUs of this machine differ")


def test_cores_and_concurrency_are_shared_by_all_gpus(machine: Machine) -> None:
    machine.gpus = [GPU] * 4
    machine.cores = 8
    packed = machine.packed()
    assert packed is not None
    assert (packed.trials, packed.reason) == (2, "this machine has 8 CPU cores, and a trial gets 1")
    packed = machine.packed(concurrency=5, resources={"cpus": 0.25})
    assert packed is not None
    assert (packed.trials, packed.reason) == (2, "concurrency is 5")


def test_a_resume_keeps_the_measurement_of_the_same_gpu(machine: Machine) -> None:
    slow = dataclasses.replace(USE, busy=0.5)
    packed = machine.packed(recorded=Packing(2, "", slow))
    assert packed is not None
    assert (packed.trials, packed.measured, machine.measurements) == (2, slow, 0)
    machine.gpus = [("H", 24 * GB)]
    assert machine.packed(recorded=Packing(2, "", slow)) is not None
    assert machine.measurements == 1


def test_a_failed_measurement_leaves_a_whole_gpu_to_each_and_is_tried_again_by_the_next_driver(
    machine: Machine,
) -> None:
    machine.result = "the measurement failed: no"
    packed = machine.packed()
    assert packed == Packing(1, "the measurement failed: no")
    machine.result = USE
    again = machine.packed(recorded=packed)
    assert again is not None
    assert again.trials == 3


def test_the_process_answers_for_the_trainer_beside_the_specification(tmp_path: Path) -> None:
    """The real process, with a trainer that only this folder has."""
    (tmp_path / "own_gpu_trainer.py").write_text(
        "from trainers.api import GpuUse\n"
        "def train(config, context): ...\n"
        "def gpu_use(config, context):\n"
        "    print('noise')\n"
        "    return GpuUse(gpu='G', total_bytes=8, free_bytes=7, memory_bytes=config.train.batch_size, busy=0.25)\n"
    )
    spec = synthetic_spec(trainer="own_gpu_trainer:train", enqueue=[{"extra.quality": 0.5, "train.batch_size": 256}])
    assert [config.train.batch_size for config in heaviest(spec)] == [256], "what is enqueued counts, too"
    use = measuring.measure(spec, "", str(tmp_path))
    assert use == GpuUse(gpu="G", total_bytes=8, free_bytes=7, memory_bytes=256, busy=0.25)


def test_a_trainer_that_cannot_tell_is_named(tmp_path: Path) -> None:
    said = measuring.measure(synthetic_spec(), "")
    assert said == "the module of tests.synthetic:train has no gpu_use that could tell what a trial needs"


def test_a_measurement_that_breaks_or_takes_too_long_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = synthetic_spec(trainer="no_such_module:train")
    assert measuring.measure(broken, "") == (
        "the measurement failed: ModuleNotFoundError: No module named 'no_such_module'"
    )
    monkeypatch.setattr(measuring, "PATIENCE_S", 0.0)
    assert "took longer than 0 s" in str(measuring.measure(broken, ""))
