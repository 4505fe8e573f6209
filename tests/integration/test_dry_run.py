"""`hpo run --dry-run` as a command: it prints the whole plan and writes nothing."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import UsageError
from tests.support.training import TINY, context
from trainers.measure.cost import measure

SMALL = """
study: small
data: {name: shapes, train_limit: 200, validation_limit: 100}
model: {name: test_efficientnet, pretrained: false}
train: {epochs: 4, batch_size: 64, progressive: {stages: 2, size: {start: 16, end: 32}}}
space:
  train.lr: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  train.progressive.dropout.end: {type: float, low: 0.0, high: 0.5}
enqueue: [{train.lr: 1.0e-3, train.progressive.dropout.end: 0.3}]
asha: {reduction_factor: 2, grace_period: 1}
resources: {device: cpu, cpus: 1}
budget: {trials: 8}
"""


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "small.yaml").write_text(SMALL)
    done = CliRunner().invoke(app, ["run", "small.yaml", "--dry-run", "--full", "--home", "home"])
    assert done.exit_code == 0, done.output
    text = done.stdout
    assert text.index("Whole specification") < text.index("study: small")
    assert "1 enqueued, 5 sampled" in text
    assert re.search(r"rung \(compute\) +after epoch +expected trials\n +1 +3 +8\n", text)
    assert f"{os.cpu_count()} trials at once on cpu; CPUs per trial: 1, GPUs per trial: 0" in text
    text = " ".join(text.split())  # paragraphs wrap
    assert re.search(r"test_efficientnet: 0\.\d million parameters", text)
    assert "measured in the largest stage, 32 px with batches of 64" in text
    assert re.search(r"which fits in the [\d.]+ GB of this machine", text)
    assert re.search(r"disk: checkpoints of \d\.\d MB, at most \d+ at a time: \d+\.\d MB", text)
    assert re.search(r"time: about \d+:\d\d:\d\d for 8 trials", text)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["small.yaml", "tmp"]


def test_a_dry_run_begins_with_plan_cost_and_time_in_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "small.yaml").write_text(SMALL)
    done = CliRunner().invoke(app, ["run", "small.yaml", "budget.trials=6", "--dry-run"])
    assert done.exit_code == 0, done.output
    begins = [
        "small: test_efficientnet on shapes",
        "plan: 6 trials of at most 4 epochs; gp searches 2 parameters",
        "pruning: about ",
        "this machine: ",
        "time: about ",
        "GPU-hours: none, trials use the CPU",
        "memory: ",
        "disk: checkpoints of ",
        "begin with: hpo run small.yaml budget.trials=6   (the whole specification: --full)",
    ]
    first = done.stdout.splitlines()[:10]
    assert [next((line for line in first if line.startswith(words)), None) is not None for words in begins] == [
        True for _ in begins
    ], first
    assert "study: small" not in done.stdout


def test_the_whole_specification_is_for_a_dry_run_only(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    done = CliRunner().invoke(app, ["run", str(tmp_path / "small.yaml"), "--full", "--home", str(tmp_path / "home")])
    assert isinstance(done.exception, UsageError)
    assert not (tmp_path / "home").exists()


def test_a_dry_run_without_data_prints_what_it_knows_and_then_the_error(tmp_path: Path) -> None:
    arguments = ["run", "cifar10_cpu", f"data.root={tmp_path}", "--dry-run", "--home", str(tmp_path / "home")]
    done = CliRunner().invoke(app, arguments)
    assert type(done.exception).__name__ == "DataError"
    assert "First configurations" in done.stdout, "printed although the data is missing"
    assert "begin with" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_as_large_as_foretold(cache: str, tmp_path: Path) -> None:
    from trainers.finetune import train

    where = context(cache, tmp_path / "checkpoints")
    cost = measure(TINY, where)
    assert not (tmp_path / "checkpoints").exists()
    next(iter(train(dataclasses.replace(TINY), where)))
    written = sum(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*") if path.is_file())
    assert cost.checkpoint_bytes == pytest.approx(written, rel=0.1)
    assert (cost.size, cost.batch, cost.train_images) == (48, 40, 160)
    assert cost.memory_bytes < cost.memory_available
