"""The GPU benchmark runs whole, tiny and on the CPU, where only torch, timm and pytest can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from reports.benchmarks.gpu.processes import PRELOADED
from tests.conftest import REPOSITORY
from tests.support import bare_environment


def run(folder: Path, *words: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env={**bare_environment.variables(folder), "CUDA_VISIBLE_DEVICES": ""},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.timeout(900)
def test_the_whole_command_runs_on_a_bare_machine(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    words = f"-m reports.benchmarks.gpu --device cpu --tiny --minutes 14 --json {file}"
    done = run(tmp_path, *words.split())
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(file.read_text())
    assert {name: section["state"] for name, section in content["sections"].items()} == dict.fromkeys(
        ["tests of graphs", "speed of test_efficientnet at 32 px", "training", "several trials", "other tests"],
        "complete",
    )
    results = {name: section["results"] for name, section in content["sections"].items()}
    tests = {**results["tests of graphs"], **results["other tests"]}
    assert any("test_graphs_gpu" in name for name in tests)
    assert any("test_augment_gpu" in name for name in tests)
    assert {result["outcome"] for result in tests.values()} <= {"skipped", "passed"}
    rates = results["speed of test_efficientnet at 32 px"]["row"]["images_per_second"]
    assert list(rates) == ["limit", "engine", "engine, EMA", "peer"]
    assert {"plan", "epoch 1", "epoch 2"} <= results["training"].keys()
    assert results["several trials"]["processes"] == {"asked": 4, "ready": 4, "cuda_graphs": False}
    assert list(results["several trials"]["round 1"]["images_per_second"]) == ["1", "2", "3", "4"]
    assert file.with_suffix(".md").read_text() == done.stdout.removesuffix("\n")
    assert not file.with_suffix(".png").exists(), "there is no matplotlib"
    assert "its figures mean nothing" in done.stdout


def test_what_the_bare_machine_lacks_cannot_be_imported(tmp_path: Path) -> None:
    for name in ("ray", "optuna", "mlflow", "pydantic", "matplotlib"):
        done = run(tmp_path, "-c", f"import {name}", timeout=60)
        assert f"No module named '{name}'" in done.stderr
    assert (
        run(tmp_path, "-c", "import torch, torchvision, timm, safetensors, numpy, pytest", timeout=250).returncode == 0
    )


def test_a_machine_without_a_gpu_gets_a_page_that_says_so(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    file.write_text("figures of another day")
    kept = run(tmp_path, "-m", "reports.benchmarks.gpu", "--json", str(file), timeout=280)
    assert (kept.returncode, file.read_text()) == (2, "figures of another day")
    assert "torch finds no CUDA device" in kept.stderr


FORKED = """
import importlib, os, sys, torch
for name in sys.argv[1:]:
    importlib.import_module(name)
if not os.fork():
    print("bad fork:", torch.cuda._is_in_bad_fork(), flush=True)
    os._exit(0)
os.wait()
"""


def test_processes_may_use_the_gpu_after_they_are_forked(tmp_path: Path) -> None:
    """Importing what is loaded ahead, and the sections that fork again, does not even ask whether there is a GPU."""
    done = run(tmp_path, "-c", FORKED, *PRELOADED, "reports.benchmarks.gpu.packing", timeout=250)
    assert done.stdout == "bad fork: False\n", done.stderr


def test_a_stopped_command_leaves_its_results_and_no_process(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    words = f"-m reports.benchmarks.gpu --device cpu --tiny --json {file}"
    command = subprocess.Popen(
        [sys.executable, *words.split()], cwd=REPOSITORY, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    assert command.stderr
    while "speed" not in command.stderr.readline():
        assert command.poll() is None
    command.terminate()
    said = command.communicate(timeout=120)[1]
    assert (command.returncode, "has what was measured" in said) == (130, True)
    content = json.loads(file.read_text())
    states = [section["state"] for section in content["sections"].values()]
    assert states == ["complete", "running", "not run", "not run", "not run"]
    deadline = time.monotonic() + 60
    while (left := processes_of(command.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def processes_of(session: int) -> list[str]:
    """The processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(stat.parent.name)
    return found
