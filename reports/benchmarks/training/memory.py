"""Peak memory of a block of code: of the GPU, or of this process and its children."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def peak(device: str) -> Iterator[Callable[[], int | None]]:
    """Yield a function that returns the peak memory of the block, bytes, after its end, or None if it is unknown.

    CUDA: the memory that torch allocated. CPU (Linux): the high-water mark of resident memory, reset at the start, plus
    the memory of the children at the end (the loader's workers), with shared pages divided among them.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: int(torch.cuda.max_memory_allocated(device))
        return
    measured: list[int | None] = [None]
    possible = _reset_high_water()
    yield lambda: measured[0]
    if possible:
        measured[0] = _field("/proc/self/status", "VmHWM:") + sum(map(_share, _children()))


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _children() -> list[str]:
    return Path("/proc/self/task").joinpath(Path("/proc/self").resolve().name, "children").read_text().split()


def _share(process: str) -> int:
    try:
        return _field(f"/proc/{process}/smaps_rollup", "Pss:")
    except OSError:  # the process has ended
        return 0


def _field(path: str, name: str) -> int:
    """The bytes of a line like `VmHWM:  1234 kB`."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"{path} has no {name}")
