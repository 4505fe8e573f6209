"""A training of several threads on an idle machine, and beside programs that each take a core.

    python -m reports.benchmarks.training.busy_cores --json reports/benchmarks/training/busy_cores.json

*fixed* keeps as many threads as the trial was given. *adapted* is the engine as it is: as many threads as other
programs leave cores (`trainers.loop.cores`). Both train in turns, one epoch of 12 steps of 64 images each, on as many
threads as there are cores; a first epoch is discarded.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from reports.benchmarks.environment import environment
from reports.benchmarks.training.contenders import Case, engine
from trainers.api import DataConfig
from trainers.loop import cores

Rates = dict[str, list[float]]
"""Images per second of each contender, in the order of measurement."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it beside the JSON file."""
    about = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.training.busy_cores", description=about[0])
    parser.add_argument("--model", default="tf_efficientnetv2_b0", help="timm model (tf_efficientnetv2_b0)")
    parser.add_argument("--size", type=int, default=64, help="image size in pixels (64)")
    parser.add_argument("--steps", type=int, default=12, help="steps of an epoch (12)")
    parser.add_argument("--repeats", type=int, default=5, help="epochs of each contender (5)")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1], help="programs beside the training (0 1)")
    parser.add_argument("--json", type=Path, help="write the figures here, and the page beside it")
    options = parser.parse_args(arguments)
    conditions, found = environment(), {}
    with tempfile.TemporaryDirectory() as cache:
        case = Case(
            model=options.model,
            size=options.size,
            device="cpu",
            batch=64,
            steps=options.steps,
            threads=len(os.sched_getaffinity(0)),
            workers=0,
            source=DataConfig(name="shapes"),
            cache_dir=cache,
        )
        for count in options.busy:
            with busy_programs(count):
                found[count] = rates(case, options.repeats)
    lines = table(found)
    if options.json:
        content = {"made": conditions, "threads": case.threads, "images_per_second": found}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        text = about[2].strip("\n")
        page = (
            f"# A training beside busy programs\n\n{text}\n\n{case.model}, {case.size} px, {case.threads} threads.\n\n"
        )
        options.json.with_suffix(".md").write_text(page + lines + "\n", encoding="utf-8")
    print(lines)
    return 0


@contextmanager
def busy_programs(count: int) -> Iterator[None]:
    """Keep so many cores busy while the block runs."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def rates(case: Case, repeats: int) -> Rates:
    """Train in turns with a fixed and with an adapted number of threads."""
    measure = engine(case)
    measure()
    found: Rates = {"fixed": [], "adapted": []}
    for _ in range(repeats):
        with patch.object(cores, "LOOK_S", math.inf):
            found["fixed"].append(measure())
        found["adapted"].append(measure())
    return found


def table(found: dict[int, Rates]) -> str:
    """The figures as a Markdown table; the ratio is the median of the ratios of neighbours."""
    lines = ["| busy programs | fixed, images/s | adapted, images/s | adapted to fixed |", "|---:|---:|---:|---:|"]
    for count, rate in found.items():
        fixed, adapted = (statistics.median(rate[name]) for name in ("fixed", "adapted"))
        ratio = statistics.median(b / a for a, b in zip(rate["fixed"], rate["adapted"], strict=True))
        lines.append(f"| {count} | {fixed:.1f} | {adapted:.1f} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
