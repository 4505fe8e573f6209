"""What `hpo doctor` finds on this machine, and the remedy it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpo.cli import doctor


def test_missing_images_are_told_with_the_ways_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "cifar100"):
        finding = doctor._data(name)
        assert finding.state == "warning"
        assert "data.root" in finding.text
        assert "data.download=true" in finding.text
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_there_are_found(cifar_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").symlink_to(cifar_root)
    monkeypatch.chdir(tmp_path)
    assert doctor._data("cifar10").state == "ok"


def test_weights_out_of_reach_are_told_with_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    finding = doctor._weights()
    assert finding.state == "warning"
    assert "model.pretrained=false" in finding.text


def test_a_ray_that_does_not_answer_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "RAY_START_S", 0.01)
    finding = doctor._ray()
    assert finding.state == "failed"
    assert "did not answer" in finding.text
    assert "/tmp/ray/session_latest/logs" in finding.text


def test_a_ray_that_fails_is_told_by_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    run = subprocess.run
    broken = [sys.executable, "-c", "raise SystemExit('first\\nno node has them')"]
    monkeypatch.setattr(subprocess, "run", lambda command, **options: run(broken, **options))
    finding = doctor._ray()
    assert (finding.state, finding.text) == ("failed", "this machine: no node has them")
