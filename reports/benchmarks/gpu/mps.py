"""NVIDIA's Multi-Process Service: kernels of several processes run on one GPU at the same time, not in turns.

https://docs.nvidia.com/deploy/mps/index.html. The settings of the GPU stay as they are.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
FOLDER = "mps"
SECONDS = 20
"""The longest that its control program, or a first computation, may take."""


@dataclass(frozen=True)
class Sharing:
    """How several processes use one GPU."""

    mps: bool
    said: str
    """The reason, in words."""
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables that a process needs before it uses the GPU."""


def obstacle() -> str | None:
    """Return why the service cannot be started, or None if nothing is known against it."""
    if shutil.which(CONTROL) is None:
        return f"there is no {CONTROL} on this machine"
    if said_by_driver("compute_mode") == "Prohibited":
        return "the GPU's compute mode is Prohibited"
    return None


def said_by_driver(question: str) -> str | None:
    """Return what the driver's program says of the first GPU, e.g. about `compute_mode`; None if it says nothing."""
    command = ["nvidia-smi", f"--query-gpu={question}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.strip().splitlines()), None)


@contextmanager
def service(device: str, scratch: str) -> Iterator[Sharing]:
    """Start the service for the block if that is possible."""
    if not device.startswith("cuda"):
        yield Sharing(False, "the processes share the processor's cores")
    elif "CUDA_MPS_PIPE_DIRECTORY" in os.environ:
        yield Sharing(True, "it was running before")
    elif reason := obstacle():
        yield Sharing(False, reason)
    else:
        try:
            yield _started(device, scratch)
        finally:
            end(scratch)


def _started(device: str, scratch: str) -> Sharing:
    variables = _variables(scratch)
    for folder in variables.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            [CONTROL, "-d"],
            env=os.environ | variables,
            check=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Sharing(False, f"it did not start: {error}")
    if not _computes(device, variables):
        end(scratch)
        return Sharing(False, "it started, but a process could not compute through it")
    return Sharing(True, "started for this measurement", variables)


def end(scratch: str) -> None:
    """End the service that `service` has started, if its process could not."""
    variables = _variables(scratch)
    if Path(variables["CUDA_MPS_PIPE_DIRECTORY"]).is_dir():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run([CONTROL], env=os.environ | variables, input="quit\n", text=True, timeout=SECONDS)
        shutil.rmtree(Path(scratch) / FOLDER, ignore_errors=True)


def _variables(scratch: str) -> dict[str, str]:
    folder = Path(scratch).absolute() / FOLDER
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}


def _computes(device: str, variables: dict[str, str]) -> bool:
    """Whether a new process can use the GPU. The present one must not, because it will be forked."""
    process = multiprocessing.get_context("fork").Process(target=_compute, args=(device, variables), daemon=True)
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
    return process.exitcode == 0


def _compute(device: str, variables: dict[str, str]) -> None:
    os.environ.update(variables)
    import torch

    torch.ones(8, device=device).sum().item()
