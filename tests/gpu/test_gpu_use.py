"""What a training needs of a real GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hpo.gpu_sharing import describe, packing
from tests.support.training import TINY, context
from trainers.api import GpuUse
from trainers.finetune import gpu_use
from trainers.measure.gpu_use import CONTEXT_BYTES, busy_seconds

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def used(folder: Path, batch: int, **train: object) -> GpuUse:
    """What the tiny training needs with such a batch. The peak of this process begins anew."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    config = replace(TINY, train=replace(TINY.train, batch_size=batch, **train))  # type: ignore[arg-type]
    return gpu_use(config, replace(context(str(folder / "cache"), folder), device="cuda"))


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_memory_and_busy_share_are_plausible_and_decide(cuda_graphs: bool, tmp_path: Path) -> None:
    use = used(tmp_path, 32, cuda_graphs=cuda_graphs)
    assert use.gpu == torch.cuda.get_device_name()
    assert CONTEXT_BYTES + torch.cuda.max_memory_allocated() < use.memory_bytes < use.free_bytes < use.total_bytes
    assert 0 < use.busy <= 1
    decided = packing(use, 8, "")
    assert decided.trials >= 1
    assert describe(decided)


def test_a_larger_batch_needs_more_memory(tmp_path: Path) -> None:
    assert used(tmp_path, 16).memory_bytes < used(tmp_path, 128).memory_bytes


def test_only_work_of_the_gpu_counts_as_busy() -> None:
    matrix = torch.ones(2048, 2048, device="cuda")

    def work(times: int) -> float:
        return busy_seconds(lambda: [matrix @ matrix for _ in range(times)], "cuda")

    work(1)  # the first use chooses kernels
    assert busy_seconds(lambda: sum(range(1000)), "cuda") == 0
    assert 0 < work(4) < work(64)
