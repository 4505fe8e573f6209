"""`hpo --version`: one line, and with `-v` the lines that a report of a fault needs, without a slow import."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.cli.begin import version
from hpo.errors import UsageError
from hpo.ledger import provenance
from tests.conftest import REPOSITORY


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_version_is_the_one_that_pip_knows() -> None:
    assert shown("--version") == f"hpo {metadata.version(provenance.TOOL)}\n"


@pytest.mark.parametrize("arguments", [("--version", "-v"), ("-v", "--version"), ("--verbose", "--version")])
def test_a_report_of_a_fault_gets_every_package_that_can_change_a_result(arguments: tuple[str, ...]) -> None:
    table = dict(line.split(maxsplit=1) for line in shown(*arguments).splitlines())
    assert table["hpo"].endswith(f"in {REPOSITORY / 'hpo'}")
    for package in {*provenance.PACKAGES} - {provenance.TOOL}:
        assert table[package] == metadata.version(package)
    assert {"python", "platform", "CPUs", "GPUs", "CUDA", "sqlite"} <= set(table)


def test_the_details_load_no_heavy_package() -> None:
    code = "import sys; from hpo.cli.begin.version import details; details(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in done.stdout.split()}
    assert loaded & {"torch", "timm", "ray", "optuna", "mlflow", "sqlalchemy", "pydantic"} == set()


def test_verbose_without_version_is_not_ignored() -> None:
    done = CliRunner().invoke(app, ["-v", "schema"])
    assert isinstance(done.exception, UsageError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "13.0"), ("cuda = None\n", "none")],
)
def test_the_cuda_of_torch_is_read_from_its_files(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(text)
    found = SimpleNamespace(locate_file=lambda path: tmp_path / path)
    monkeypatch.setattr(version.metadata, "distribution", lambda name: found)
    assert version.cuda() == expected


def test_the_gpus_are_named_with_their_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: b"NVIDIA H200" if handle else "NVIDIA H100",
        "nvmlSystemGetDriverVersion": lambda: "550.54.15",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    assert version.gpus() == "NVIDIA H100, NVIDIA H200; driver 550.54.15"


def test_a_missing_package_is_left_out_and_a_missing_installation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    monkeypatch.setattr(metadata, "distribution", missing)
    assert "unknown version" in version.version()
    assert "torch " not in version.details().replace("in torch", "")
    assert version.cuda() == "unknown"
