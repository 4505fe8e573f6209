"""What one GPU does, in a few minutes, on a machine that has Python, torch, torchvision, timm, safetensors and pytest.

    python -m reports.benchmarks.gpu --minutes 8 --root FOLDER --json reports/benchmarks/gpu/gpu.json

The sections run in order of value, and every result is in the file as soon as it is there. The command ends in time;
a section that takes too long is stopped. `--device cpu --tiny` tries all of it without a GPU.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from reports.benchmarks.gpu import mps
from reports.benchmarks.gpu.plan import allowance, sections
from reports.benchmarks.gpu.processes import Ended, Processes
from reports.benchmarks.gpu.record import Record
from reports.benchmarks.gpu.settings import Settings

PAGE = "reports.benchmarks.gpu.page"
PAGE_SECONDS = 12.0
"""Seconds that are kept for writing the page."""
MACHINE_SECONDS = 240.0
"""Longest time for importing torch, which takes minutes from a cold disk, and for reading what the machine is."""
NO_GPU = "torch finds no CUDA device on this machine"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections, write the file and the page; return 1 if a section or a test failed, 2 without a GPU."""
    options = _options(arguments)
    if options.page:
        return _write_page(options.page)
    ends = time.monotonic() + 60 * options.minutes
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        settings = Settings(options.device, options.tiny, options.root, scratch, _cores())
        try:
            return _run(options, settings, ends)
        except KeyboardInterrupt:
            print(f"stopped; {options.json} has what was measured (--page makes its page)", file=sys.stderr)
            return 130
        finally:
            mps.end(scratch)


def _run(options: argparse.Namespace, settings: Settings, ends: float) -> int:
    processes, facts = Processes(), dict[str, Any]()
    first = processes.run(
        "reports.benchmarks.gpu.machine", settings, MACHINE_SECONDS, {}, lambda _, known: facts.update(known)
    )
    shown = {"minutes": options.minutes, "device": settings.device, "tiny": settings.tiny, "cifar": bool(settings.root)}
    record = Record(options.json, shown, facts, [section.name for section in sections(settings)])
    if reason := _obstacle(settings, facts, first):
        print(f"{reason}; `--device cpu --tiny` tries the command without a GPU", file=sys.stderr)
        if options.json.exists():  # it may have figures of a GPU
            return 2
        record.content["why"] = reason
        record.write()
    else:
        record.write()
        _measure(processes, settings, record, ends - PAGE_SECONDS)
    processes.run(PAGE, settings, max(ends - time.monotonic(), PAGE_SECONDS), {"path": str(options.json)}, _ignore)
    page = options.json.with_suffix(".md")
    print(page.read_text(encoding="utf-8") if page.exists() else f"{options.json} has the results")
    return 2 if reason else int(_failed(record.content))


def _obstacle(settings: Settings, facts: dict[str, Any], first: Ended) -> str | None:
    """Why nothing can be measured, or None."""
    if first.state != "complete":
        return f"torch could not be imported and used: {first.why} {' '.join(first.lines[-1:])}"
    return NO_GPU if settings.cuda and not facts.get("gpu") else None


def _measure(processes: Processes, settings: Settings, record: Record, ends: float) -> None:
    """Run the sections one after another; they know their time and end by themselves, or are ended."""
    queue = sections(settings)
    while queue:
        section, left = queue[0], ends - time.monotonic()
        seconds = allowance(left, queue)
        queue.pop(0)
        if section.absent or seconds <= 0:
            record.skip(
                section.name, section.absent or f"{max(left, 0):.0f} s were left, and it takes {section.least:.0f}"
            )
            continue
        record.begin(section.name, seconds)
        print(f"{section.name}: up to {seconds:.0f} s", file=sys.stderr, flush=True)
        started = time.monotonic()
        add = partial(record.add, section.name)
        ended = processes.run(section.module, settings, seconds, section.arguments, add)
        took = time.monotonic() - started
        record.end(section.name, ended, took)
        print(f"{section.name}: {ended.state} after {took:.1f} s {ended.why}", file=sys.stderr, flush=True)
        if ended.state == "failed" and section.otherwise:
            queue.insert(0, section.otherwise)


def _failed(content: dict[str, Any]) -> bool:
    """Whether a section failed, or a test of one."""
    results = [result for section in content["sections"].values() for result in section["results"].values()]
    states = [section["state"] for section in content["sections"].values()]
    return "failed" in states or any(result.get("outcome") == "failed" for result in results)


def _write_page(path: Path) -> int:
    from reports.benchmarks.gpu import page

    try:
        print(page.write(path))
    except (OSError, ValueError, KeyError) as error:
        print(f"{path}: no result of this command ({type(error).__name__}: {error})", file=sys.stderr)
        return 2
    return 0


def _ignore(key: str, result: dict[str, Any]) -> None:
    """The page has no results."""


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.gpu", description=__doc__.split("\n")[0] if __doc__ else None
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="time of the whole command (8)")
    parser.add_argument("--root", help="folder with CIFAR-10 (cifar-10-batches-py), for the training to 94 %%")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --tiny (cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny models and data, to try the command itself")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file of the results (gpu.json)")
    parser.add_argument("--page", type=Path, metavar="JSON", help="only write the page of a file of results")
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not options.tiny:
        parser.error("--device cpu measures nothing of a GPU: add --tiny to try the command")
    if options.device != "cpu" and options.device.partition(":")[0] != "cuda":
        parser.error(f"--device {options.device}: it must be cuda, cuda:N or cpu")
    if options.minutes <= 0:
        parser.error(f"--minutes {options.minutes:g}: it must be above 0")
    if options.root and not (Path(options.root).expanduser() / "cifar-10-batches-py").is_dir():
        parser.error(f"--root {options.root}: there is no folder cifar-10-batches-py in it")
    if not options.json.absolute().parent.is_dir():
        parser.error(f"--json {options.json}: its folder is not there")
    return options
