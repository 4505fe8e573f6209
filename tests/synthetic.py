"""A trainer without a model: it computes a learning curve from its settings and makes faults on demand.

Settings in `extra`:

- `quality`: final accuracy, 0 to 1. `noise`: its standard deviation over seeds. `speed`: speed of the curve.
- `seconds`: duration of an epoch. `megabytes`: size of a checkpoint. `params`: number of parameters to report.
- `nan_at`, `infinite_at`, `crash_at`, `memory_at`, `exit_at`, `kill_at`, `hog_at`, `starve_at`, `device_at`: the epoch
  of a fault, see `misbehave`. `exit_once`: exit on the first attempt only. `cgroup`: the control group for `hog_at`.
- `light`: write checkpoints without torch, whose import takes longer than a whole study of this trainer.
- `gate`: a file. No third epoch begins before it exists.
- `journal`: a folder. Every epoch that is really trained adds the line `epoch pid time` to the trial's file there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainers import devices
from trainers.api import Context, EpochMetrics, OutOfMemory, TrialConfig
from trainers.schedule import compute, stages


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """Train as the `Trainer` protocol says. The state is one number, saved in checkpoints."""
    extra = config.extra
    store = LightStore(context.checkpoints.url) if extra.get("light") else context.checkpoints
    loaded = store.load()
    first = 1
    plan = stages(config.train.progressive, config.train.epochs)
    if loaded is not None:
        epoch, _, state = loaded
        first = epoch + 1
        yield EpochMetrics(**state["metrics"], checkpoint=state["checkpoint"])
    for epoch in range(first, config.train.epochs + 1):
        while epoch == 3 and "gate" in extra and not Path(str(extra["gate"])).exists():
            time.sleep(0.1)
        time.sleep(float(extra.get("seconds", 0.0)))
        misbehave(extra, epoch, again=loaded is not None)
        value = curve(extra, epoch, config.train.epochs)
        value += float(extra.get("noise", 0.0)) * random.Random(f"{context.seed} {extra.get('quality')}").gauss(0, 1)
        value = {extra.get("nan_at", 0): math.nan, extra.get("infinite_at", 0): math.inf}.get(epoch, value)
        metrics = {"epoch": epoch, "val_accuracy": value, "train_loss": 1.0 - 0.01 * epoch, "seconds": 0.01}
        metrics["compute"] = compute(plan, epoch, config.train.compute_size)
        if "params" in extra:
            metrics["params"] = int(extra["params"])
        if extra.get("journal"):
            with (Path(str(extra["journal"])) / Path(context.checkpoints.url).name).open("a") as journal:
                journal.write(f"{epoch} {os.getpid()} {time.time():.3f}\n")
        checkpoint = store.save(epoch, tensors(extra, epoch), {"metrics": metrics})
        yield EpochMetrics(**metrics, checkpoint=checkpoint)


def misbehave(extra: Mapping[str, bool | int | float | str], epoch: int, *, again: bool) -> None:
    """End the process or raise the error that `extra` sets for this epoch."""
    if epoch == extra.get("exit_at", 0) and not (extra.get("exit_once") and again):
        os._exit(1)
    if epoch == extra.get("kill_at", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if epoch == extra.get("device_at", 0) and not again:
        # Makes the process unusable, as a permanent CUDA error does.
        devices.device_error = lambda device: "CUDA error: a launch failed on demand"
        raise RuntimeError("CUDA error: a launch failed on demand")
    if epoch == extra.get("crash_at", 0):
        raise ValueError("a crash on demand")
    if epoch == extra.get("memory_at", 0):
        raise OutOfMemory("stage 0, 32 px, batch size 8: out of memory on demand")
    if epoch == extra.get("hog_at", 0):
        Path(str(extra["cgroup"]), "cgroup.procs").write_text(str(os.getpid()))
        hoard()
    if epoch == extra.get("starve_at", 0):
        starve()


def hoard() -> None:
    """Allocate memory until the kernel kills the process."""
    taken = []
    while True:
        taken.append(bytearray(b"x") * 2**20)


def starve() -> None:
    """Allocate more memory than the process is allowed to; restore the limit afterwards."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**24, before[1]))
    try:
        bytearray(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def tensors(extra: Mapping[str, bool | int | float | str], epoch: int) -> dict[str, Any]:
    """Return tensors in place of a network's weights."""
    if extra.get("light"):
        return {}
    import torch

    return {"weight": torch.full((4 + int(float(extra.get("megabytes", 0)) * 2**18),), float(epoch))}


def curve(extra: Mapping[str, bool | int | float | str], epoch: int, horizon: int) -> float:
    """Return the accuracy after `epoch` epochs. It grows towards `quality`."""
    speed = float(extra.get("speed", 1.0))
    return float(extra.get("quality", 0.5)) * (1 - math.exp(-3 * speed * epoch / horizon))


class LightStore:
    """A `CheckpointStore` of JSON files with the names of `trainers.checkpoint`, which can therefore remove them."""

    def __init__(self, url: str) -> None:
        self.folder = Path(url)

    def save(self, epoch: int, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{epoch:06}.json"
        content = json.dumps({"epoch": epoch, **state}).encode()
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)
        for older in sorted(self.folder.glob("*.json"))[:-2]:
            older.unlink()
        return hashlib.sha256(content).hexdigest()

    def load(self) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        paths = sorted(self.folder.glob("*.json"))
        if not paths:
            return None
        content = paths[-1].read_bytes()
        state = json.loads(content)
        return state["epoch"], {}, {**state, "checkpoint": hashlib.sha256(content).hexdigest()}
