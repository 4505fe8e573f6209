"""The sections of the command in order of value, and how they divide its time.

Why this order and these times, for 8 minutes on an H100, of which about 20 s go to starting and to the page:

1. The tests of graphs (90 s) come first, because figures of graphs that compute something else are worth nothing. Each
   records a few graphs of a tiny network, about 2 s; one starts two processes, about 25 s. The first result is there
   within half a minute.
2. B0 at 64 px (50 s) and at 128 px (45 s): the sizes at which the host was the limit, so this is where graphs must
   show. A round of all contenders takes about 12 s, and the first round does not count: two or three rounds are left.
3. Training to 94 % (100 s): the only section that shows the whole engine, stages, averages and evaluation. A shorter
   time means fewer epochs, so it can fail for lack of time alone.
4. Several trials on one GPU (40 s): processes start once, about 15 s, and are measured in turns of a few seconds.
5. The other four speeds (30 to 35 s each) repeat what (2) shows where the GPU itself is the limit.
6. The other tests of the GPU, with what is left. They passed on an earlier machine.

Each section gets its share of the time that is left, so what one does not use goes to all that follow. A section whose
least time is not left is skipped; a later one that needs less may still run. With more minutes, all shares grow: the
speeds make more rounds, the training more epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reports.benchmarks.gpu.settings import Settings

GRAPH_TESTS = "tests/gpu/test_graphs_gpu.py"
SPEEDS = (
    ("tf_efficientnetv2_b0", 64),
    ("tf_efficientnetv2_b0", 128),
    ("tf_efficientnetv2_b0", 192),
    ("tf_efficientnetv2_s", 128),
    ("tf_efficientnetv2_s", 224),
    ("tf_efficientnetv2_s", 300),
)
TINY_SPEEDS = (("test_efficientnet", 32),)


@dataclass(frozen=True)
class Section:
    """A part of the command, which runs in a process of its own."""

    name: str
    """Names its results in the file."""
    module: str
    """Its `run(settings, seconds, send, **arguments)` does the work in about `seconds`, and is stopped after them."""
    least: float
    """Seconds below which it is not worth starting."""
    weight: float
    """Its part of the time, as seconds out of 8 minutes."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    absent: str | None = None
    """Why it cannot run here."""
    otherwise: Section | None = None
    """What runs in its place if it fails."""


def sections(settings: Settings) -> list[Section]:
    """Return all sections in the order in which they run."""
    first, second, *others = _speeds(settings) if not settings.tiny else (*_speeds(settings), None)
    planned = [
        _section("tests of graphs", "gpu_tests", 30, 90, files=[GRAPH_TESTS]),
        first,
        second,
        _training(settings),
        _section("several trials", "packing", 25, 40),
        *others,
        _section("other tests", "gpu_tests", 15, 30, files=["tests/gpu"], without=GRAPH_TESTS),
    ]
    known = [section for section in planned if section]
    return [replace(section, least=0.0) for section in known] if settings.tiny else known


def _speeds(settings: Settings) -> list[Section]:
    planned = []
    for model, size in TINY_SPEEDS if settings.tiny else SPEEDS:
        name, weight = f"speed of {model} at {size} px", {64: 50, 128: 45}.get(size, 33)
        eager = _section(f"{name}, without graphs", "speed", 20, 0, model=model, size=size, graphs=False)
        whole = _section(name, "speed", 25, weight, model=model, size=size, graphs=settings.cuda)
        planned.append(replace(whole, otherwise=eager if settings.cuda else None))
    return planned


def _training(settings: Settings) -> Section:
    absent = None if settings.root or settings.tiny else "--root names no folder with CIFAR-10"
    return replace(_section("training", "to_accuracy", 60, 100), absent=absent)


def _section(name: str, module: str, least: float, weight: float, **arguments: Any) -> Section:
    return Section(name, f"reports.benchmarks.gpu.{module}", least, weight, arguments)


def allowance(left: float, queue: Sequence[Section]) -> float:
    """Return the seconds for the first section of a queue that has `left` seconds; 0 if they are not enough for it."""
    first, whole = queue[0], sum(section.weight for section in queue if not section.absent)
    if left < first.least:
        return 0.0
    return min(left, max(first.least, left * first.weight / whole if whole else left))
