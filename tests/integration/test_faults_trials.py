"""What ends a trial but not its study, and what is kept of it, through real Ray.

One worker at a time, where none is killed beside another, and no MLflow: what it is told of each end is checked in
`test_study.py`. Every further process takes more processor time than the study itself.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo.cli import checks
from hpo.cli.display.status import show_study, study_json
from hpo.driver.run import run
from hpo.errors import InfrastructureError
from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.ledger.records import TrialRecord
from hpo.spec.study import Spec
from hpo.text import size
from tests.conftest import synthetic_spec
from tests.support.views import RecordingView

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def reason(trial: TrialRecord) -> str:
    """Why a trial ended."""
    assert trial.outcome is not None
    return trial.outcome.reason


def small(name: str, **changes: object) -> Spec:
    """A study for one worker, which imports no torch."""
    settings = {"extra": {"seconds": 0.0, "light": True}, "concurrency": 1, "tracking": {"enabled": False}}
    return synthetic_spec(name, **(settings | changes))


def faulty(name: str, *faults: dict[str, int], **changes: object) -> Spec:
    """A study of one trial per fault, each a setting of the trainer and the epoch at which it goes wrong, and of a
    sound one after them."""
    none = {key: 0 for fault in faults for key in fault}
    return small(
        name,
        **{
            "space": {key: {"type": "int", "low": 0, "high": 9} for key in none},
            "enqueue": [*(none | fault for fault in faults), none],
            "budget": {"trials": len(faults) + 1},
            "asha": {"enabled": False},
            **changes,
        },
    )


def test_of_ended_trials_only_a_complete_one_keeps_its_last_checkpoint(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing reads those of pruned and failed trials; and `hpo status` tells the disk that is used."""
    spec = small(
        "bounded",
        extra={"seconds": 0.0, "light": True, "crash_at": 0},
        space={
            "extra.quality": {"type": "float", "low": 0.0, "high": 1.0},
            "extra.crash_at": {"type": "int", "low": 0, "high": 9},
        },
        enqueue=[
            {"extra.quality": 0.9, "extra.crash_at": 0},
            {"extra.quality": 0.1, "extra.crash_at": 0},
            {"extra.quality": 0.95, "extra.crash_at": 4},
        ],
        budget={"trials": 3},
        asha={"reduction_factor": 2, "grace_period": 2},
    )
    study = run(spec, home, view=RecordingView())
    assert [trial.status for trial in study.trials] == ["complete", "pruned", "failed"]
    for trial in study.trials:
        folder = Path(home.checkpoints("bounded")) / f"{trial.number:05d}"
        kept = [f"{len(trial.epochs):06}"] if trial.status == "complete" else []
        assert [path.stem for path in folder.glob("*.json")] == kept

    taken = sum(path.stat().st_size for path in Path(home.checkpoints("bounded")).rglob("*.json"))
    assert study_json(study, home)["checkpoint_bytes"] == taken > 0
    show_study(home, "bounded", as_json=False)
    assert f"checkpoints {size(taken)}" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group whose processes may take 64 MB more than they have."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = {(kind, "memory" in options.split(",")): Path(point) for _, point, kind, options, *_ in mounts}
    root = roots.get(("cgroup", True)) or roots.get(("cgroup2", False))
    try:
        assert root is not None
        folder = root / f"hpo-test-{os.getpid()}"
        folder.mkdir()
    except (AssertionError, OSError) as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limits = [folder / name for name in ("memory.limit_in_bytes", "memory.max") if (folder / name).exists()]
        if not limits:
            pytest.skip("control groups cannot limit memory here")
        limits[0].write_text(str(64 * 2**20))
        yield folder
    finally:
        deadline = time.monotonic() + 30
        while (folder / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        folder.rmdir()


def test_memory_and_numbers_that_run_out_fail_the_trial_alone(home: Home) -> None:
    """Out of memory on the device, told by the trainer with the stage that was too large; and on the host, where Python
    cannot have what it asks for. NaN and infinity are no values: neither is recorded as one. The study continues, in
    the same process."""
    faults = {"extra.memory_at": 2}, {"extra.starve_at": 2}, {"extra.nan_at": 3}, {"extra.infinite_at": 3}
    study = run(faulty("alone", *faults), home, view=RecordingView())
    assert [trial.status for trial in study.trials] == ["failed"] * 4 + ["complete"]
    device, host, nan, infinite, _ = study.trials
    assert reason(device).startswith("OutOfMemory: stage 0")
    assert reason(host).startswith("MemoryError: the host is out of memory")
    assert "nan after epoch 3" in reason(nan)
    assert "inf after epoch 3" in reason(infinite)
    assert [len(trial.attempts) for trial in study.trials] == [1] * 5
    assert [len(trial.epochs) for trial in study.trials] == [1, 1, 2, 2, 8]
    assert len({trial.attempts[0].pid for trial in study.trials}) == 1


def test_a_lost_device_costs_its_process_and_no_other_trial(home: Home) -> None:
    """Every later call to the device would fail there. The trial continues in a new process, from its checkpoint, where
    the next trial's failure is its own."""
    spec = small(
        "device",
        space={
            "extra.device_at": {"type": "int", "low": 0, "high": 9},
            "extra.crash_at": {"type": "int", "low": 0, "high": 9},
        },
        enqueue=[{"extra.device_at": 3, "extra.crash_at": 0}, {"extra.device_at": 0, "extra.crash_at": 2}],
        budget={"trials": 2},
        asha={"enabled": False},
    )
    study = run(spec, home, view=RecordingView())
    assert [trial.status for trial in study.trials] == ["complete", "failed"]
    first, second = study.trials[0].attempts
    assert first.lost == f"cpu failed: CUDA error: a launch failed on demand on {socket.gethostname()}"
    assert second.resumed_after == 2
    assert first.pid != second.pid
    assert reason(study.trials[1]).startswith("ValueError: a crash on demand")
    assert len(study.trials[1].attempts) == 1


def test_a_trial_that_the_kernel_kills_for_memory_fails_after_its_retries(home: Home, cgroup: Path) -> None:
    """The kernel's own doing, in a control group; the reason says so."""
    spec = faulty("hog", {"extra.hog_at": 3}, extra={"seconds": 0.0, "light": True, "cgroup": str(cgroup)}, retries=1)
    study = run(spec, home, view=RecordingView())
    assert [trial.status for trial in study.trials] == ["failed", "complete"]
    said = f"killed by the kernel on {socket.gethostname()}: the host was out of memory"
    assert reason(study.trials[0]) == f"lost its worker 2 times; the last time: {said}"
    assert [attempt.lost for attempt in study.trials[0].attempts] == [said, said]


def test_a_trial_whose_worker_is_killed_fails_after_its_retries(home: Home) -> None:
    """SIGKILL, each time in the same epoch; every attempt continues from the last checkpoint."""
    spec = faulty("killed", {"extra.kill_at": 4}, retries=2)
    study = run(spec, home, view=RecordingView())
    assert [trial.status for trial in study.trials] == ["failed", "complete"]
    trial = study.trials[0]
    said = f"killed or crashed on {socket.gethostname()} (SIGKILL or a segmentation fault; "
    assert reason(trial).startswith(f"lost its worker 3 times; the last time: {said}")
    assert [attempt.lost.startswith(said) for attempt in trial.attempts if attempt.lost] == [True] * 3
    assert [attempt.resumed_after for attempt in trial.attempts] == [0, 3, 3]
    assert [epoch.metrics.epoch for epoch in trial.epochs] == [1, 2, 3]


def test_checkpoints_elsewhere_are_counted_where_they_are(home: Home, tmp_path: Path) -> None:
    """The folder of `storage.checkpoints`, which nodes of a cluster share."""
    spec = small("apart", budget={"trials": 1}, storage={"checkpoints": str(tmp_path / "shared")})
    study = run(spec, home, view=RecordingView())
    taken = sum(path.stat().st_size for path in (tmp_path / "shared").rglob("*.json"))
    assert study_json(study, home)["checkpoint_bytes"] == taken > 0


def test_run_and_doctor_warn_about_a_ledger_on_a_network_file_system(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `run` as it begins, and by `doctor`."""
    monkeypatch.setattr("hpo.driver.session.network_file_system", lambda url: "nfs4")
    monkeypatch.setattr("hpo.ledger.sqlite.network_file_system", lambda url: "nfs4")
    view = RecordingView()
    run(small("afar", budget={"trials": 1}), home, view=view)
    assert [text for text in view.texts if "network file system (nfs4)" in text]
    found = checks.ledger(home)
    assert found.state == "warning"
    assert "network file system (nfs4)" in found.text


def test_a_study_whose_only_node_cannot_import_the_trainer_stops_and_fails_no_trial(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the host, what is missing, and the remedy."""
    spec = small("lost", trainer="tests.synthetic:no_such_function", budget={"trials": 5})
    said = f"{socket.gethostname()} cannot import the trainer .*no_such_function.*; install it there"
    with pytest.raises(InfrastructureError, match=said):
        run(spec, home, view=RecordingView())
    study = read_study(home, "lost")
    assert {trial.status for trial in study.trials} == {"interrupted"}
    show_study(home, "lost", as_json=False)
    assert "no trials on" in capsys.readouterr().out
