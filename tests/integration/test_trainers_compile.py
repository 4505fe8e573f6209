"""torch.compile: one graph per image size and mode, shared by a worker's trials, and the same results."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.support.training import TINY, context
from tests.unit.trainers.test_cores import busy_machine
from trainers import finetune
from trainers.api import RateRamp, TrialConfig
from trainers.loop import compiling, cores
from trainers.network import model as models

COMPILED = replace(TINY, train=replace(TINY.train, compile=True, epochs=2, checkpoint_every=99))


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounterWithBackend]:
    """Counts graphs; they are run without inductor, whose C++ would take minutes."""
    counted = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compiling, "BACKEND", counted)
    monkeypatch.setattr(compiling, "_shapes", set())
    models._kept.clear()
    torch._dynamo.reset()
    yield counted
    models._kept.clear()
    torch._dynamo.reset()


def run(config: TrialConfig, cache: str, folder: Path, seed: int = 0) -> list[float]:
    return [metrics.train_loss or 0.0 for metrics in finetune.train(config, context(cache, folder, seed))]


def reports(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records if record.name == "trainers.loop.compiling"]


def test_torch_compile_makes_one_graph_per_image_size(
    counter: CompileCounterWithBackend, cache: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two training sizes and one evaluation are three graphs, for trials of different dropout and strength."""
    caplog.set_level(logging.INFO, logger="trainers.loop.compiling")
    compiled = run(COMPILED, cache, tmp_path / "0")
    assert reports(caplog) == [logging.INFO] * 3
    for trial in (1, 2):
        progressive = replace(COMPILED.train.progressive, dropout=RateRamp(start=0.05 * trial, end=0.1 * trial))
        train = replace(COMPILED.train, progressive=progressive, lr=1e-3 * trial)
        run(replace(COMPILED, train=train), cache, tmp_path / str(trial), seed=trial)
    assert counter.frame_count == 3
    eager = replace(COMPILED, train=replace(COMPILED.train, compile=False))
    assert compiled == pytest.approx(run(eager, cache, tmp_path / "eager"), rel=1e-3)
    progressive = replace(COMPILED.train.progressive, sizes=(40, 48))
    run(replace(COMPILED, train=replace(COMPILED.train, progressive=progressive)), cache, tmp_path / "size")
    assert counter.frame_count == 4


def test_busy_cores_make_no_more_graphs(
    counter: CompileCounterWithBackend, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch compiles anew for another number of threads."""
    monkeypatch.setattr(cores, "LOOK_S", 0.0)
    monkeypatch.setattr(cores, "usage", busy_machine())
    list(finetune.train(COMPILED, replace(context(cache, tmp_path), threads=2)))
    assert counter.frame_count == 3


def test_more_graphs_than_shapes_are_an_error_instead_of_eager_mode(
    counter: CompileCounterWithBackend,
) -> None:
    function = torch.compile(lambda x: x * x.shape[0], dynamic=False, backend=counter)

    def many() -> None:
        for length in range(2, 40):
            function(torch.ones(length))

    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit), compiling.one_graph("one"):
        many()


def test_a_second_compilation_of_the_same_shape_is_reported(
    counter: CompileCounterWithBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="trainers.loop.compiling")
    function = torch.compile(lambda x: x + 1, dynamic=False, backend=counter)
    for length in (2, 3):
        with compiling.one_graph("same"):
            function(torch.ones(length))
    assert reports(caplog) == [logging.INFO, logging.WARNING]
    assert "again" in caplog.text
