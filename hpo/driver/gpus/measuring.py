"""How many trials share a GPU of this machine, by a measurement before the first of them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from hpo.driver.gpus.heaviest import heaviest
from hpo.driver.gpus.nvml import gpu_names
from hpo.gpu_sharing import Packing, packing
from hpo.processes import usable_cpus
from hpo.spec.objectives import objective
from hpo.spec.parameters import CategoricalParameter
from hpo.spec.study import Spec
from trainers import devices
from trainers.api import GpuUse

PATIENCE_S = 600.0
"""Longest time of the measurement. Images must be read and a network built first."""
SPEEDS = ("seconds_per_epoch", "images_per_s")
"""Objectives that neighbours on the GPU would falsify."""


def packed(
    spec: Spec,
    cache: str,
    *,
    recorded: Packing | None = None,
    beside: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Packing | None:
    """How many trials share a GPU; None where `resources.gpus: auto` does not decide that.

    On a cluster it does not: the driver's machine need not have the GPUs of the nodes.

    Args:
        cache: folder of decoded data sets.
        recorded: what was decided for the study before. Its measurement counts if the GPU is the same.
        beside: the folder of the specification, where an own trainer may lie.
        say: tells the person what takes a while.
    """
    resources = spec.resources
    if resources.gpus != "auto" or resources.device == "cpu" or spec.ray.cluster() is not None:
        return None
    if not gpu_names() or find_spec("torch") is None:  # torch takes seconds, and other trainers need not have it
        return None
    gpus = devices.gpus()
    if not gpus:
        return None
    most, limit = _most(spec, len(gpus))
    if reason := _whole(spec, gpus) or (limit if most <= 1 else None):
        return Packing(1, reason)
    known = recorded.measured if recorded else None
    if known is None or (known.gpu, known.total_bytes) != gpus[0]:
        say("measuring what a trial needs of the GPU")
        measured = measure(spec, cache, beside)
        if isinstance(measured, str):
            return Packing(1, measured)
        known = measured
    return packing(known, most, limit)


def _most(spec: Spec, gpus: int) -> tuple[int, str]:
    """How many trials can be on each GPU, whatever it has room for, and why not more."""
    by_cpu = math.floor(usable_cpus() / spec.resources.cpus / gpus + 1e-9)
    cores = f"this machine has {usable_cpus()} CPU cores, and a trial gets {spec.resources.cpus:g}"
    if spec.concurrency == "auto":
        return by_cpu, cores
    wanted = math.ceil(spec.concurrency / gpus)
    return (wanted, f"concurrency is {spec.concurrency}") if wanted <= by_cpu else (by_cpu, cores)


def _whole(spec: Spec, gpus: list[tuple[str, int]]) -> str | None:
    """Why every trial needs a whole GPU without a measurement; None if that is open."""
    if len(set(gpus)) > 1:
        return "the GPUs of this machine differ"
    speeds = [name for name in (objective(choice).name for choice in spec.objectives) if name in SPEEDS]
    if speeds:
        return f"trials that share one would falsify {speeds[0]}"
    searched = spec.space.get("train.batch_size")
    batches = [spec.train.batch_size, *(entry.get("train.batch_size") for entry in spec.enqueue)]
    if isinstance(searched, CategoricalParameter):
        batches += searched.choices
    return "train.batch_size: auto fills it" if spec.shipped and "auto" in batches else None


def measure(spec: Spec, cache: str, beside: str | None = None) -> GpuUse | str:
    """What a trial of the largest configuration needs, measured in a process of its own; or why that is not known.

    With several models, the largest need of any of them.
    """
    with tempfile.TemporaryDirectory(prefix="hpo-measure-") as scratch:
        answer_file = Path(scratch, "answer.json")
        asked = {
            "trainer": spec.trainer,
            "trainings": [dataclasses.asdict(config) for config in heaviest(spec)],
            "checkpoints": f"{scratch}/checkpoints",
            "cache_dir": cache,
            "answer": str(answer_file),
        }
        try:
            run = subprocess.run(
                [sys.executable, "-m", "hpo.driver.gpus"],
                input=json.dumps(asked),
                text=True,
                capture_output=True,
                timeout=PATIENCE_S,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, *([beside] if beside else ())])},
            )
        except subprocess.TimeoutExpired:
            return f"the measurement took longer than {PATIENCE_S:.0f} s"
        if run.returncode:
            said = run.stderr.strip().rpartition("\n")[2] or f"exit code {run.returncode}"
            return f"the measurement failed: {said}"
        answers = json.loads(answer_file.read_text())
    if answers is None:
        return f"the module of {spec.trainer} has no gpu_use that could tell what a trial needs"
    uses = [GpuUse(**answer) for answer in answers]
    largest = max(uses, key=lambda use: use.memory_bytes)
    return dataclasses.replace(largest, busy=max(use.busy for use in uses))
