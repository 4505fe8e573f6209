"""NVIDIA's Multi-Process Service (MPS) for the trials of one study: kernels of several processes run side by side.

Without it the GPU gives the processes turns. A study has a daemon of its own, found by the folder of its pipes. A shell
of one megabyte outlives the driver and ends the daemon, however the driver ends: the kernel closes the pipe between
them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpo.driver.gpus.nvml import gpu_names
from hpo.driver.ray_backend.cluster import MARK
from hpo.gpu_sharing import Packing, per_trial
from hpo.spec.study import Spec

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
USUAL = Path("/tmp/nvidia-mps")
"""Where the pipes of a machine's own daemon are, unless its environment says otherwise. CUDA looks there by itself."""
LONGEST = 90
"""Characters of the pipes' folder at most. The daemon makes sockets in it, whose paths may have 107."""
WAIT = """trap "" HUP INT TERM; read -r farewell; echo quit | "$0" """
"""The daemon ends when the trials, its clients, have ended. Those of a dead driver do within seconds."""
PATIENCE_S = 20.0
"""Longest wait for a daemon to start or to end."""
UNMARKED = (MARK, "CUDA_VISIBLE_DEVICES")
"""Left out of the daemon's environment. By the mark, the processes of a driver's Ray are killed. With a choice of GPUs
the daemon would number them anew, but Ray tells each worker the number that the whole machine uses."""


@contextmanager
def shared_by_mps(spec: Spec, packing: Packing | None, folder: Path) -> Iterator[str | None]:
    """Let processes that are started in the block share GPUs by MPS, if the study shares GPUs of this machine.

    Yields which way trials share a GPU, for a person; None if they do not.

    Args:
        packing: what was decided for `resources.gpus: auto`.
        folder: the study's own.
    """
    share = per_trial(spec.resources.gpus, packing)
    here = spec.ray.cluster() is None and spec.resources.device != "cpu"
    if not (here and 0 < share < 1 and gpu_names()):
        yield None
        return
    control = shutil.which(CONTROL)
    pipes = folder / "mps" / "pipes"
    if reason := _without(control, pipes):
        yield reason
        return
    assert control is not None
    with _daemon(control, pipes) as trouble:
        if trouble:
            yield f"trials take turns on a GPU: {trouble}"
            return
        os.environ[PIPES] = str(pipes)
        try:
            yield "trials share a GPU by NVIDIA's MPS"
        finally:
            del os.environ[PIPES]


def _without(control: str | None, pipes: Path) -> str | None:
    """Why no daemon is started; None if one can be."""
    if place := os.environ.get(PIPES):
        return f"trials share a GPU by the MPS daemon of {PIPES}={place}"
    if (USUAL / "control").exists():
        return f"trials share a GPU by the MPS daemon of this machine, if it runs; its pipes are in {USUAL}"
    if control is None:
        return f"trials take turns on a GPU, because {CONTROL} is not installed"
    if len(str(pipes)) > LONGEST:
        return f"trials take turns on a GPU, because {pipes} is too long for the pipes of MPS"
    return None


@contextmanager
def _daemon(control: str, pipes: Path) -> Iterator[str | None]:
    """A daemon with these pipes, while the block lasts; yields why there is none."""
    logs = pipes.parent / "log"
    for place in (pipes, logs):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    environment = {key: value for key, value in os.environ.items() if key not in UNMARKED}
    environment |= {PIPES: str(pipes), LOGS: str(logs)}
    if (pipes / "control").exists():  # a driver died, and its shell, too
        _run([control], environment, logs, "quit\n")
    guard = subprocess.Popen(  # before the daemon, so that no moment is without it
        ["/bin/sh", "-c", WAIT, control],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield _run([control, "-d"], environment, logs)
    finally:
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            guard.communicate(b"\n", timeout=PATIENCE_S)


def _run(command: list[str], environment: dict[str, str], logs: Path, typed: str = "") -> str | None:
    """Run the control program; return what went wrong. Its output goes to a file: the daemon keeps it open."""
    said = logs / "driver.log"
    with said.open("a") as output:
        try:
            run = subprocess.run(
                command, env=environment, input=typed, text=True, stdout=output, stderr=output, timeout=PATIENCE_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{CONTROL} failed: {error}"
    return f"{CONTROL} ended with exit code {run.returncode}; see {said}" if run.returncode else None
