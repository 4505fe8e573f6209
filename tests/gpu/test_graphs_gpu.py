"""CUDA graphs on a GPU: they compute what the host's own calls compute, survive a resume, and fail with a remedy.

The first file to run on a new machine: a figure of graphs that compute something else is worth nothing. Most of the
tests have a counterpart on the CPU, with a tape in the place of a graph (`tests/unit/trainers/test_recorded_steps.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.recorded import assert_recorded_steps_equal, differences, run, three_epochs
from tests.support.training import TINY, context
from trainers import finetune
from trainers.api import Context, TrialConfig
from trainers.loop.cuda_graphs import CudaRecorder

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; sums then have one order
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels that add in one order only, so that two runs can be equal to the bit."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def on_cuda(cache: str, folder: Path) -> Context:
    return replace(context(cache, folder), device="cuda")


def changed(**train: Any) -> TrialConfig:
    return replace(TINY, train=replace(TINY.train, **train))


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "sgd", "clip_grad": 0.0}, {"optimizer": "lamb"}, {"precision": "fp16"}],
    ids=["adamw", "sgd", "lamb", "fp16"],
)
def test_recorded_steps_compute_the_same_to_the_bit(settings: dict[str, Any], repeatable: None) -> None:
    assert_recorded_steps_equal(settings, CudaRecorder("cuda", "a small network"), "cuda")


FAILING = """
import sys
from pathlib import Path
from dataclasses import replace
import torch
from tests.support.training import TINY, context
from trainers import devices, finetune
from trainers.api import RecordingFailed
from trainers.loop.step import TrainingStep

update = TrainingStep.update

def waits(self):
    self.losses.item()
    update(self)

TrainingStep.update = waits
where = replace(context(sys.argv[1], Path(sys.argv[2])), device="cuda")
try:
    print("epochs", len(list(finetune.train(TINY, where))))
except RecordingFailed as error:
    print("failed", error, devices.device_error("cuda"))
"""


def test_after_a_failed_recording_another_process_goes_on_without_graphs(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        command = [sys.executable, "-c", FAILING, str(tmp_path / "cache"), str(tmp_path / "trial")]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert "cannot be recorded" in said[0]
    assert said[1].startswith("epochs 4")


def test_a_recorded_training_resumes_within_a_stage_to_the_bit(cache: str, tmp_path: Path, repeatable: None) -> None:
    """With dropout, stochastic depth, two sizes, three unequal parts and averages."""
    config = three_epochs(cuda_graphs=True)
    whole = run(config, cache, tmp_path / "whole", device="cuda")
    first = run(config, cache, tmp_path / "cut", epochs=2, device="cuda")
    rest = run(config, cache, tmp_path / "cut", device="cuda")
    assert first + rest[1:] == whole
    assert differences(tmp_path / "cut", tmp_path / "whole") == []


def test_a_recorded_training_computes_the_same_to_the_bit(cache: str, tmp_path: Path, repeatable: None) -> None:
    plain = run(three_epochs(cuda_graphs=False), cache, tmp_path / "plain", device="cuda")
    recorded = run(three_epochs(cuda_graphs=True), cache, tmp_path / "recorded", device="cuda")
    assert recorded == plain
    assert differences(tmp_path / "recorded", tmp_path / "plain") == []


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_recorded_training_gives_the_same_losses_as_eager_training(
    precision: str, optimizer: str, cache: str, tmp_path: Path
) -> None:
    """With dropout, stochastic depth, two sizes and unequal micro-batches; random numbers are the same ones."""
    losses = {}
    for cuda_graphs in (False, True):
        config = changed(cuda_graphs=cuda_graphs, precision=precision, optimizer=optimizer, accumulate=3, batch_size=32)
        stream = finetune.train(config, on_cuda(cache, tmp_path / str(cuda_graphs)))
        losses[cuda_graphs] = [metrics.train_loss for metrics in stream]
    # Other random numbers, or a step too many, would show in the first epoch; later ones drift by rounding.
    assert losses[True][0] == pytest.approx(losses[False][0], rel=1e-3)
    assert losses[True] == pytest.approx(losses[False], rel=0.02)


def test_a_recorded_training_resumes_within_a_stage_to_the_same_losses(cache: str, tmp_path: Path) -> None:
    config = changed(epochs=4, batch_size=32, accumulate=3)
    whole = [metrics.train_loss for metrics in finetune.train(config, on_cuda(cache, tmp_path / "whole"))]
    stream = finetune.train(config, on_cuda(cache, tmp_path / "cut"))
    first = [next(stream).train_loss for _ in range(3)]
    stream.close()
    rest = [metrics.train_loss for metrics in finetune.train(config, on_cuda(cache, tmp_path / "cut"))]
    assert [*first, *rest[1:]] == pytest.approx(whole, rel=0.02)


def test_recorded_steps_free_their_memory(cache: str, tmp_path: Path) -> None:
    memory = []
    for trial in range(4):
        list(finetune.train(changed(cuda_graphs=True), on_cuda(cache, tmp_path / str(trial))))
        torch.cuda.empty_cache()
        memory.append(torch.cuda.memory_reserved())
    assert memory[-1] <= memory[0] + 2**24
