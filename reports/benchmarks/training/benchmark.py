"""Speed of the training engine, compared with the bare steps of the model and with timm's own loader and loop.

    python -m reports.benchmarks.training --json reports/benchmarks/training/cpu.json

In each round, every contender trains one epoch, in rotating order. The first round is discarded. The command prints a
table of medians and writes the table and all measurements beside the JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch

from reports.benchmarks.environment import environment
from reports.benchmarks.training import turnaround as training_turnaround
from reports.benchmarks.training.contenders import Case, Contender, engine, graph_limit, limit, peer
from reports.benchmarks.training.memory import peak
from reports.benchmarks.training.turnaround import Turnaround
from trainers.api import DataConfig

CASES = {
    "cpu": (("tf_efficientnetv2_b0", 64), ("tf_efficientnetv2_b0", 128)),
    "cuda": (
        *(("tf_efficientnetv2_b0", size) for size in (64, 128, 192)),
        *(("tf_efficientnetv2_s", size) for size in (128, 224, 300)),
    ),
}
DEFAULTS = {"cpu": {"batch": 64, "steps": 12}, "cuda": {"batch": 256, "steps": 60}}
LARGE_MODEL_STEPS = 20
"""Steps for the S model on a GPU: its steps are long, so fewer are enough."""
LEAST_REPEATS = 5
LIMIT, GRAPH_LIMIT, PEER = "limit", "graph limit", "peer"
"""The contenders to which the others are compared."""


@dataclass(frozen=True)
class Row:
    """The measurements of one case by all contenders."""

    case: Case
    images_per_second: dict[str, list[float]]
    """By contender, in the order of measurement."""
    peak_memory: dict[str, int | None]
    """Largest of all repeats, bytes; None if it could not be measured."""

    def median(self, contender: str) -> float:
        """Return the median images per second."""
        return statistics.median(self.images_per_second[contender])

    def ratio(self, contender: str, base: str) -> float:
        """Return the median of the ratios within each repeat, so that a slow repeat does not matter."""
        pairs = zip(self.images_per_second[contender], self.images_per_second[base], strict=True)
        return statistics.median(rate / reference for rate, reference in pairs)

    def record(self) -> dict[str, Any]:
        """Return the row as JSON can keep it, with its medians and ratios, without the folders of this machine."""
        names = self.images_per_second
        bases = {"of_the_limit": LIMIT, "of_the_graph_limit": GRAPH_LIMIT, "of_the_peer": PEER}
        ratios = {key: {name: self.ratio(name, base) for name in names} for key, base in bases.items() if base in names}
        median = {name: self.median(name) for name in names}
        return {**asdict(self), "case": _settings(self.case), "median": median, **ratios}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Row:
        """Return the row of a `record`."""
        case = {**record["case"], "source": DataConfig(**record["case"]["source"]), "cache_dir": ""}
        return cls(Case(**case), record["images_per_second"], record["peak_memory"])


def measure(case: Case, made: Mapping[str, Contender], repeats: int) -> Row:
    """Run all contenders in `repeats` + 1 rounds; the first round does not count."""
    (row,) = islice(rounds(case, made), repeats - 1, repeats)
    return row


def rounds(case: Case, made: Mapping[str, Contender]) -> Iterator[Row]:
    """Let all contenders measure in rounds without end; yield all measurements after each round but the first, which
    does not count."""
    names = list(made)
    rates: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, int | None] = dict.fromkeys(names)
    for round_ in count():
        shift = round_ % len(names)
        for name in names[shift:] + names[:shift]:
            with peak(case.device) as bytes_used:
                rate = made[name]()
            print(f"{case.model} {case.size} px, round {round_}, {name}: {rate:.1f} images/s", file=sys.stderr)
            if round_:
                rates[name].append(rate)
                used = bytes_used()
                memory[name] = max(used, memory[name] or 0) if used is not None else None
        if round_:
            yield Row(case, {name: list(values) for name, values in rates.items()}, dict(memory))


def contenders(case: Case) -> dict[str, Contender]:
    """Return the contenders by name; CUDA graphs where the device has them."""
    graphs = case.device.startswith("cuda")
    recorded = {
        "engine, CUDA graphs": engine(case, cuda_graphs=True),
        "engine, EMA, CUDA graphs": engine(case, ema=True, cuda_graphs=True),
    }
    return {
        LIMIT: limit(case),
        **({GRAPH_LIMIT: graph_limit(case)} if graphs else {}),
        "engine": engine(case),
        "engine, EMA": engine(case, ema=True),
        **(recorded if graphs else {}),
        PEER: peer(case),
    }


def table(rows: Sequence[Row], turnaround: Turnaround | None, missing: Sequence[tuple[str, str, int]]) -> str:
    """Return a Markdown table of medians (images per second), ratios and peak memory."""
    bases = {LIMIT: 3, GRAPH_LIMIT: 3, PEER: 2}
    shown = [base for base in bases if base != GRAPH_LIMIT or any(base in row.images_per_second for row in rows)]
    titles = ["device", "model", "px", "contender", "images/s", "least to most", *(f"of the {base}" for base in shown)]
    lines = [f"| {' | '.join([*titles, 'peak memory'])} |", f"|{'---|' * (len(titles) + 1)}"]
    for row in rows:
        for name, rates in row.images_per_second.items():
            used = row.peak_memory[name]
            present = row.images_per_second
            cells = [
                row.case.device,
                row.case.model,
                str(row.case.size),
                name,
                f"{row.median(name):.1f}",
                f"{min(rates):.1f} to {max(rates):.1f}",
                *(f"{row.ratio(name, base):.{bases[base]}f}" if base in present else "" for base in shown),
                f"{used / 2**20:,.0f} MiB" if used is not None else "not measured",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    empty = " |" * (len(shown) + 3)
    lines += [f"| {device} | {model} | {size} | not measured |{empty}" for device, model, size in missing]
    if turnaround:
        lines += ["", *_turnaround_lines(turnaround)]
    return "\n".join(lines)


def _turnaround_lines(measured: Turnaround) -> list[str]:
    warm, ending, fresh = (statistics.median(times) for times in (measured.warm, measured.ending, measured.fresh))
    return [
        "| time from the last step of a trial to the first step of the next | median |",
        "|---|---|",
        f"| on the same process | {warm:.2f} s |",
        f"| in addition: evaluation (10 images) and checkpoint of the ending trial | {ending:.2f} s |",
        f"| on a new process | {fresh:.2f} s ({fresh / warm:.0f} times as long) |",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, print the table and write the files."""
    options = _options(arguments)
    kind = options.device.partition(":")[0]
    conditions, rows = environment(), []
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache_dir or scratch
        shown = [(options.model, size) for size in options.sizes] if options.sizes else CASES[kind]
        for model, size in shown:
            case = Case(
                model=model,
                size=size,
                device=options.device,
                batch=options.batch or DEFAULTS[kind]["batch"],
                steps=options.steps or _steps(kind, model),
                threads=options.threads,
                workers=options.workers,
                source=DataConfig(name=options.data, root=options.root),
                cache_dir=cache,
            )
            made = contenders(case) | ({"engine, compiled": engine(case, compiled=True)} if options.compile else {})
            rows.append(measure(case, made, options.repeats))
            _write(options.json, conditions, rows)  # keeps the finished cases if a later case fails
        turnaround = None
        if not options.no_turnaround:
            turnaround = training_turnaround.measure(
                CASES["cpu"][0][0],
                size=64,
                device=options.device,
                threads=options.threads,
                cache_dir=cache,
                repeats=options.repeats,
            )
    missing = [("cuda", *case) for case in CASES["cuda"]] if kind == "cpu" else []
    text = table(rows, turnaround, missing)
    print(text)
    _write(options.json, conditions, rows, turnaround, missing)


def _settings(case: Case) -> dict[str, Any]:
    """The settings on which the figures depend, without the folders of this machine."""
    settings = asdict(case)
    del settings["cache_dir"], settings["source"]["root"]
    return settings


def _steps(kind: str, model: str) -> int:
    return LARGE_MODEL_STEPS if kind == "cuda" and model.endswith("v2_s") else DEFAULTS[kind]["steps"]


def _write(
    path: Path | None,
    conditions: dict[str, Any],
    rows: Sequence[Row],
    turnaround: Turnaround | None = None,
    missing: Sequence[tuple[str, str, int]] = (),
) -> None:
    if path is None:
        return
    report = {
        "environment": conditions,
        "rows": [row.record() for row in rows],
        "turnaround_seconds": asdict(turnaround) if turnaround else None,
        "not_measured": missing,
    }
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(rows, turnaround, missing) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.training", description=__doc__.split("\n")[0] if __doc__ else None
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--repeats", type=int, default=LEAST_REPEATS, help="measurements per contender (5)")
    parser.add_argument("--sizes", type=int, nargs="+", help="image sizes for --model, instead of the usual cases")
    parser.add_argument("--model", default=CASES["cpu"][0][0], help="timm model for --sizes (tf_efficientnetv2_b0)")
    parser.add_argument("--batch", type=int, help="images per step (64; on a GPU 256)")
    parser.add_argument("--steps", type=int, help="steps per measurement (12; on a GPU 60, for the S model 20)")
    parser.add_argument("--threads", type=int, default=cores, help="torch threads (all cores)")
    parser.add_argument("--workers", type=int, default=cores, help="loader processes of the peer (all cores)")
    parser.add_argument("--device", default=device, help="cpu, cuda or cuda:N (cuda if there is a GPU)")
    parser.add_argument("--data", choices=("shapes", "cifar10"), default="shapes", help="data set (shapes)")
    parser.add_argument("--root", default="data", help="folder of the CIFAR files")
    parser.add_argument("--cache-dir", help="folder for decoded images (a temporary folder)")
    parser.add_argument("--json", type=Path, help="write all figures to this file, and the table beside it as .md")
    parser.add_argument("--compile", action="store_true", help="measure the engine with torch.compile, too")
    parser.add_argument("--no-turnaround", action="store_true", help="leave out the time between trials")
    options = parser.parse_args(arguments)
    if options.repeats < LEAST_REPEATS:
        print(f"fewer than {LEAST_REPEATS} repeats: the figures are not reliable", file=sys.stderr)
    return options
