"""A whole study on real images: this tool, and Ray Tune, Optuna, MLflow and timm connected by hand.

    python -m reports.benchmarks.race --root FOLDER --json reports/benchmarks/race/race.json

Both search learning rate, dropout and RandAugment's magnitude of one network from random weights, two trials at once
on one CPU core each, with ASHA of the same rungs. Both see the same images. The time counts from the start of the
command to its end: imports, Ray's start, evaluation, checkpoints and MLflow included. *limit* is the bare training step
of the network, channels last, in two processes of one thread, measured before, between and after the studies; nothing
that trains this network here can be faster. The code by hand is `stock.py` in this folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reports.benchmarks.environment import environment
from reports.benchmarks.race.course import Course, Epoch, Finish
from reports.benchmarks.race.studies import bare_rate, by_hand, ours
from trainers import data
from trainers.api import DataError


@dataclass(frozen=True)
class Race:
    """The measurements of a race."""

    made: dict[str, Any]
    """Machine and versions."""
    course: Course
    limits: tuple[float, ...]
    """Images per second of the bare steps, in the order of measurement."""
    finishes: tuple[Finish, ...]

    @property
    def limit(self) -> float:
        """Their median."""
        return statistics.median(self.limits)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the race, or write the page again from its JSON file."""
    options = _parser().parse_args(arguments)
    if options.page_only:
        race = _read(options.json)
    else:
        with tempfile.TemporaryDirectory(prefix="hpo-race-") as scratch:
            course = _course(options, f"{scratch}/cache")
            try:
                data.prepare(course.source, course.cache_dir)
            except DataError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            race = run(course, Path(scratch))
    if options.json:
        options.json.write_text(json.dumps(asdict(race), indent=1) + "\n", encoding="utf-8")
        options.json.with_suffix(".md").write_text(page(race), encoding="utf-8")
    print(table(race))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.race", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--root", default="data", help="folder of the CIFAR files (data)")
    add("--data", choices=("cifar10", "shapes"), default="cifar10", help="data set (cifar10)")
    add("--model", default="tf_efficientnetv2_b0", help="timm model (tf_efficientnetv2_b0)")
    add("--size", type=int, default=64, help="image size in pixels (64)")
    add("--images", type=int, default=4000, help="training images (4000)")
    add("--epochs", type=int, default=9, help="epochs of a whole trial (9)")
    add("--trials", type=int, default=12, help="trials of each study (12)")
    add("--batch", type=int, default=64, help="images per step (64)")
    add("--json", type=Path, help="write all measurements here, and the page beside it")
    add("--page-only", action="store_true", help="write the page from the existing JSON file")
    return parser


def _course(options: argparse.Namespace, cache: str) -> Course:
    names = ("model", "size", "images", "epochs", "trials", "batch", "data")
    return Course(
        **{name: getattr(options, name) for name in names}, root=str(Path(options.root).absolute()), cache_dir=cache
    )


def run(course: Course, folder: Path) -> Race:
    """Measure both studies, and the bare steps around them. The images are decoded before: see `main`."""
    conditions = environment()
    limits, finishes = [bare_rate(course)], []
    for name, study in (("hpo", ours), ("stock", by_hand)):
        (folder / name).mkdir()
        finishes.append(study(course, folder / name))
        limits.append(bare_rate(course))
        print(f"{name}: {finishes[-1].seconds:.0f} s, best {finishes[-1].best:.1%}", file=sys.stderr, flush=True)
    return Race(conditions, course, tuple(limits), tuple(finishes))


def _read(path: Path) -> Race:
    stored = json.loads(path.read_text(encoding="utf-8"))
    finishes = (
        Finish(one["stack"], one["seconds"], tuple(Epoch(**epoch) for epoch in one["epochs"]))
        for one in stored["finishes"]
    )
    return Race(stored["made"], Course(**stored["course"]), tuple(stored["limits"]), tuple(finishes))


def table(race: Race) -> str:
    """The comparison as a Markdown table."""
    target = next(finish.best for finish in race.finishes if finish.stack == "by hand")
    heads = [
        "| stack | seconds | first epoch begins | epochs | images/s | of the limit | best | stock's best after |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*heads, *(_line(race, finish, target) for finish in race.finishes)])


def _line(race: Race, finish: Finish, target: float) -> str:
    reached = finish.reached(target)
    cells = [
        finish.stack,
        f"{finish.seconds:.0f}",
        f"{finish.under_way:.1f} s",
        f"{len(finish.epochs)}",
        f"{finish.rate:.0f}",
        f"{finish.rate / race.limit:.2f}",
        f"{finish.best:.1%}",
        f"{reached:.0f} s" if reached is not None else "not reached",
    ]
    return f"| {' | '.join(cells)} |"


def page(race: Race) -> str:
    """The finding as a Markdown page."""
    course = race.course
    about = (__doc__ or "").partition("\n")[2].strip()
    limits = ", ".join(f"{rate:.0f}" for rate in race.limits)
    return (
        f"# A whole study, and the three libraries by hand\n\n{about}\n\n"
        f"{course.trials} trials of up to {course.epochs} epochs of {course.model} at {course.size} px, batches of "
        f"{course.batch}, {course.images:,} images of {course.data}. Each stack ran once, so its accuracy is partly "
        f"luck. Limit: {limits} images/s.\n\n{table(race)}\n"
    )
