"""The findings of `hpo doctor` on this machine, and their remedies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpo.cli import checks


def test_missing_images_are_reported_with_two_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "cifar100"):
        finding = checks.data_set(name)
        assert finding.state == "warning"
        assert "data.root" in finding.text
        assert "data.download=true" in finding.text
    assert list(tmp_path.iterdir()) == []


def test_images_in_the_default_folder_are_found(
    cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(cifar_root)
    monkeypatch.chdir(tmp_path)
    assert checks.data_set("cifar10").state == "ok"


def test_missing_weights_are_reported_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    finding = checks.weights()
    assert finding.state == "warning"
    assert "model.pretrained=false" in finding.text


def test_ray_that_does_not_answer_in_time_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "RAY_START_S", 0.01)
    finding = checks.ray()
    assert finding.state == "failed"
    assert "did not answer" in finding.text
    assert "/tmp/ray/session_latest/logs" in finding.text


def test_ray_that_fails_is_reported_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run
    broken = [sys.executable, "-c", "raise SystemExit('first\\nno node has them')"]
    monkeypatch.setattr(subprocess, "run", lambda command, **options: run(broken, **options))
    finding = checks.ray()
    assert (finding.state, finding.text) == ("failed", "this machine: no node has them")
