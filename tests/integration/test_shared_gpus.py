"""Trials that share a GPU, through Ray: the driver is a process of its own on a machine that pretends to have GPUs."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver
from tests.support.mps_control import install, path_with

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

PRETENDED = "tests.support.pretended_gpus"
"""In processes of its own alone: whoever imports that module believes in its GPUs from then on."""


def environment(gpus: int) -> dict[str, str]:
    """What leads a driver, and the Ray that it starts, to believe in so many GPUs."""
    return {"PRETENDED_GPUS": str(gpus), "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 4, "GPU": gpus})}


@contextmanager
def driver(home: Home, *arguments: object, gpus: int = 1, **variables: str) -> Iterator[Driver]:
    """`hpo ARGUMENTS` on a machine with so many GPUs; killed at the end of the block if it still runs."""
    known = {**environment(gpus), **variables}
    running = Driver.start(*arguments, home=home.path, prepare=f"{PRETENDED}:pretend", **known)
    try:
        yield running
    finally:
        if running.process.is_alive():
            running.kill()


def finished(home: Home, *arguments: object, gpus: int = 1, **variables: str) -> str:
    """What such a command that succeeds has written, without the ends of lines."""
    with driver(home, *arguments, gpus=gpus, **variables) as running:
        assert running.wait() == 0, running.text
    return " ".join(running.text.split())


def written(folder: Path, **changes: object) -> Path:
    """The file of a study in which trial 1 runs out of memory in its third epoch if it shares its GPU."""
    baseline, crowded = {"extra.quality": 0.5}, {"extra.quality": 0.6, "extra.crowded_at": 3}
    settings: dict[str, object] = {
        "trainer": f"{PRETENDED}:train",
        "extra": {"seconds": 0.05, "light": True, "crowded_at": 0},
        "enqueue": [baseline, crowded],
        "resources": {"gpus": 0.5},
        "budget": {"trials": 6},
        "asha": {"enabled": False},
        "tracking": {"enabled": False},
    }
    spec: Spec = synthetic_spec("sharing", **{**settings, **changes})
    (folder / "spec.yaml").write_text(spec.to_yaml())
    return folder / "spec.yaml"


def record(home: Home) -> StudyRecord:
    return load_study(open_storage(home.ledger_url), "sharing")


def epochs_of_others(study: StudyRecord, alone: TrialRecord) -> list[int]:
    """Trials that trained while the last attempt of `alone` did, on the only GPU."""
    first = alone.epochs[alone.attempts[-1].resumed_after].recorded
    last = alone.epochs[-1].recorded
    others = [trial for trial in study.trials if trial.number != alone.number]
    return [trial.number for trial in others for epoch in trial.epochs if first < epoch.recorded < last]


def test_a_trial_that_runs_out_of_memory_beside_others_is_tried_again_alone(home: Home, tmp_path: Path) -> None:
    said = finished(home, "run", written(tmp_path))
    study = record(home)
    assert [trial.status for trial in study.trials] == ["complete"] * 6
    crowded, again = study.trials[1].attempts
    assert (crowded.gpus, crowded.crowded, crowded.put_back) == (0.5, True, True)
    assert (crowded.lost or "").startswith("OutOfMemory: out of device memory with 0.5")
    assert (again.gpus, again.resumed_after, again.lost) == (1.0, 2, None)
    assert epochs_of_others(study, study.trials[1]) == []
    assert [attempt.gpus for trial in study.trials[2:] for attempt in trial.attempts] == [0.5] * 4
    assert "trial 1 is tried again alone on a GPU (OutOfMemory: out of device memory" in said


def test_a_driver_that_dies_meanwhile_leaves_the_trial_to_the_next_one(home: Home, tmp_path: Path) -> None:
    with driver(home, "run", written(tmp_path, extra={"seconds": 0.3, "light": True, "crowded_at": 0})) as dying:
        dying.until("trial 1 is tried again alone on a GPU")
    finished(home, "resume", "sharing")
    study = record(home)
    assert [trial.status for trial in study.trials] == ["complete"] * 6
    assert [attempt.crowded for attempt in study.trials[1].attempts].count(True) == 1
    assert study.trials[1].attempts[-1].gpus == 1.0
    assert epochs_of_others(study, study.trials[1]) == []


def test_with_two_gpus_the_others_go_on_beside_the_trial_that_is_alone(home: Home, tmp_path: Path) -> None:
    """It waits in the middle of its second attempt until trials that began after it are complete."""
    gate = tmp_path / "gate"
    crowded = {"extra.quality": 0.6, "extra.crowded_at": 2, "extra.gate": str(gate)}
    changes = {
        "extra": {"seconds": 0.05, "light": True, "crowded_at": 0, "gate": str(tmp_path)},
        "enqueue": [{"extra.quality": 0.5}, crowded],
        "budget": {"trials": 8},
    }
    with driver(home, "run", written(tmp_path, **changes), gpus=2) as running:
        running.until("trial 6 complete")
        gate.touch()
        assert running.wait() == 0, running.text
    study = record(home)
    assert [trial.status for trial in study.trials] == ["complete"] * 8
    alone, other = study.trials[1], study.trials[6]
    assert alone.attempts[-1].gpus == 1.0
    times = (alone.attempts[-1].started, other.epochs[0].recorded, other.epochs[-1].recorded, alone.epochs[-1].recorded)
    assert times == tuple(sorted(times)), "trial 6 trained beside it"


def measured_by(folder: Path, busy: float = 0.4, gigabytes: float = 11.2, **changes: object) -> Path:
    """The file of a study that has its use of the GPU measured, without a trial that lacks memory."""
    journal = str(folder / "measured")
    extra = {"seconds": 0.05, "light": True, "measured": journal, "gigabytes": gigabytes, "busy": busy}
    settings: dict[str, object] = {
        "extra": extra,
        "enqueue": [{"extra.quality": 0.5}],
        "resources": {"gpus": "auto"},
        "budget": {"trials": 4},
    }
    return written(folder, **{**settings, **changes})


def shares(study: StudyRecord) -> set[float | None]:
    return {attempt.gpus for trial in study.trials for attempt in trial.attempts}


def test_auto_measures_once_packs_says_so_and_keeps_to_it(home: Home, tmp_path: Path) -> None:
    file = measured_by(tmp_path)
    says = (
        "2 trials per GPU: a trial needs 11.2 GB of the 80.0 GB that are free, and keeps the GPU 40 % busy; "
        "expected, by estimate: 1.7 times the trials per hour; another trial would add less than half of the pace of "
        "one"
    )
    planned = finished(home, "run", file, "--dry-run")
    assert says in planned
    assert "2 trials at once on cuda; CPUs per trial: 1, GPUs per trial: 0.5" in planned
    assert says in finished(home, "run", file, "budget.trials=2")
    finished(home, "resume", "sharing", "budget.trials=4")
    study = record(home)
    assert [trial.status for trial in study.trials] == ["complete"] * 4
    assert shares(study) == {0.5}
    assert study.packing is not None
    assert study.packing.measured is not None
    lines = (tmp_path / "measured").read_text().splitlines()
    assert len(lines) == 2, "the dry run's measurement, and that of the first driver"
    assert {line.split()[1] for line in lines} == {"cuda"}
    assert says in finished(home, "status", "sharing")


def test_workers_find_the_mps_daemon_of_their_study(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="mps-", dir="/tmp"))  # sockets need short paths
    home, pipes = Home.at(folder / "home").create(), tmp_path / "pipes"
    journal = install(folder)
    extra = {"seconds": 0.0, "light": True, "pipes": str(pipes), "crowded_at": 0}
    said = finished(home, "run", written(tmp_path, extra=extra), PATH=path_with(folder))
    place = home.study("sharing") / "mps" / "pipes"
    assert set(pipes.read_text().splitlines()) == {str(place)}
    assert [line.split()[0] for line in journal.read_text().splitlines()] == ["start", "quit"]
    assert "trials share a GPU by NVIDIA's MPS" in said
    shutil.rmtree(folder)


def test_a_trial_that_keeps_the_gpu_busy_has_it_alone(home: Home, tmp_path: Path) -> None:
    finished(home, "run", measured_by(tmp_path, busy=0.93))
    assert shares(record(home)) == {1.0}


def test_a_measurement_that_fails_ends_no_study(home: Home, tmp_path: Path) -> None:
    extra = {"seconds": 0.0, "light": True, "measured": str(tmp_path / "no" / "folder"), "gigabytes": 1, "busy": 0.1}
    said = finished(home, "run", measured_by(tmp_path, extra=extra))
    assert "1 trial per GPU: the measurement failed: FileNotFoundError" in said
    assert shares(record(home)) == {1.0}
