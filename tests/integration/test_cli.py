"""The command line as a person uses it: real processes and files, exit codes, data on stdout and the rest on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.conftest import REPOSITORY
from tests.support.training import tiny_study


def hpo(*arguments: str, cwd: Path, check: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command and insist on its exit code; no command may ever show a traceback."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "COLUMNS": "120"}
    run = subprocess.run(
        [sys.executable, "-m", "hpo", *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=240
    )
    assert run.returncode == check, f"exit {run.returncode}\n{run.stdout}\n{run.stderr}"
    assert "Traceback" not in run.stderr
    return run


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """`hpo --help` answers at once because torch, Ray, Optuna, MLflow and pydantic wait until they are needed."""
    code = (
        "import sys; sys.argv = ['hpo', '--help']\n"
        "from hpo.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (0, None)\n"
        "heavy = {'torch', 'timm', 'ray', 'optuna', 'mlflow', 'pydantic', 'numpy', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status"], "no study was run"),
        (["status", "absent"], "no study was run"),
        (["export", "../../etc"], "is not a study name"),
        (["ui", "--port", "0"], "has no tracked study"),
        (["validate", "absent.yaml"], "absent.yaml"),
        (["run", "quickstart", "train.lrr=1"], "train.lrr"),
        (["run", "quickstart", "resources.gpus=64"], "resources.gpus"),
        (["retrain", "absent.yaml"], "absent.yaml"),
        (["nonsense"], "No such command"),
    ],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(tmp_path: Path, arguments: list[str], said: str) -> None:
    """A clear error before anything is spent."""
    run = hpo(*arguments, cwd=tmp_path, check=2)
    assert said in run.stderr
    assert run.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_study_goes_from_run_to_retrain(tmp_path: Path) -> None:
    """A real EfficientNetV2 on generated images: run, ls, status, export, retrain with two seeds."""
    (tmp_path / "tiny.yaml").write_text(tiny_study("way", "tf_efficientnetv2_b0"))
    run = hpo("run", "tiny.yaml", cwd=tmp_path)
    assert "hpo export way" in run.stdout
    assert "trial 0 complete" in run.stderr

    (listed,) = json.loads(hpo("ls", "--json", cwd=tmp_path).stdout)
    assert listed["study"] == "way"
    shown = json.loads(hpo("status", "way", "--json", cwd=tmp_path).stdout)
    assert shown["trials"][0]["status"] == "complete"
    assert all(trial["status"] in ("complete", "pruned") for trial in shown["trials"])
    assert shown["best_val_accuracy"] == max(t["val_accuracy"] for t in shown["trials"] if t["status"] == "complete")
    assert "way" in hpo("status", cwd=tmp_path).stdout

    exported = json.loads(hpo("export", "way", "--output", "best.yaml", "--json", cwd=tmp_path).stdout)
    assert exported["training"]["provenance"]["trial"] == shown["best"]
    hpo("run", "tiny.yaml", cwd=tmp_path, check=2)  # a second one of that name

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "best.yaml").rename(elsewhere / "best.yaml")
    again = hpo("retrain", "best.yaml", "--seeds", "2", "-o", "final", "--json", cwd=elsewhere)
    summary = json.loads(again.stdout)
    assert "test set was evaluated" not in again.stderr
    assert len(summary["test_accuracies"]) == 2
    assert summary["test_accuracy_std"] is not None
    for seed in (0, 1):
        folder = elsewhere / "final" / f"seed-{seed}"
        assert load_file(folder / "model.safetensors")
        assert json.loads((folder / "config.json").read_text())["architecture"] == "tf_efficientnetv2_b0"
        assert json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with finished studies."""
    home = tmp_path_factory.mktemp("recorded")
    with tarfile.open(REPOSITORY / "tests" / "fixtures" / "earlier_home.tar.xz") as archive:
        archive.extractall(home, filter="data")
    return home / "earlier_home"


PRINTING = (["ls"], ["status", "finished"], ["status", "finished", "--json"], ["audit", "finished"], ["schema"], ["-h"])


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_encoding_without_dashes_ends_no_command(recorded: Path, arguments: list[str], encoding: str) -> None:
    run = printed(recorded, arguments, subprocess.PIPE, PYTHONIOENCODING=encoding)
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout.decode(encoding).strip()


def test_a_width_of_0_columns_is_no_width(recorded: Path) -> None:
    """Some editors and CI systems set `COLUMNS=0`."""
    run = printed(recorded, ["audit", "finished"], subprocess.PIPE, COLUMNS="0")
    assert run.stdout == printed(recorded, ["audit", "finished"], subprocess.PIPE, COLUMNS="80").stdout != b""


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_device_is_named_in_one_line(recorded: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        run = printed(recorded, arguments, full)
    assert run.returncode == 1
    assert run.stderr.decode() == "error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_no_command(recorded: Path, closed: str) -> None:
    shell = ["bash", "-c", f'exec "$@" {closed}', "bash"]
    run = printed(recorded, ["status", "finished"], subprocess.PIPE, shell)
    assert run.returncode == 0
    assert run.stderr == b""
    assert bool(run.stdout.strip()) is ("<&- >&-" not in closed and not closed.startswith(">"))


def printed(
    home: Path, arguments: list[str], output: Any, before: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command that only reads, with its output sent somewhere."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HPO_HOME": str(home), "COLUMNS": "120"} | variables
    command = [*before, sys.executable, "-m", "hpo", *arguments]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, env=environment, timeout=120)
