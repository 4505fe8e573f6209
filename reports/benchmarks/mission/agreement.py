"""How well the rungs of the studies rank the rows of a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from hpo.search.rank_statistics import tau
from hpo.spec.study import Spec
from reports.benchmarks.mission.table import Row
from reports.benchmarks.pruning.analysis import ALIGNS, Curve, Rung, Setting, rungs

RESOURCES = ("epochs", "compute")


def lines(spec: Spec, rows: Sequence[Row]) -> Iterator[str]:
    """The agreement as Markdown: after each epoch, and at each rung of the study's reduction factor."""
    ends = np.array([row.val_accuracy[-1] for row in rows])
    yield "| after epoch | tau with the end |"
    yield "|---|---|"
    for epoch in range(1, spec.train.epochs):
        yield f"| {epoch} | {tau([row.val_accuracy[epoch - 1] for row in rows], ends)} |"
    yield ""
    yield "| rungs count | decided | level | share of the compute | reached by | tau | the best row survives |"
    yield "|---|---|---|---|---|---|---|"
    for setting, rung in study_rungs(spec, rows):
        yield (
            f"| {setting.resource} | {'at the rung' if setting.align == 'none' else 'at the end of a stage'} "
            f"| {rung.level:g} | {rung.compute_share:.0%} | {rung.reached} of {len(rows)} | {rung.tau()} "
            f"| {rung.retention(spec.asha.reduction_factor)} |"
        )


def study_rungs(spec: Spec, rows: Sequence[Row]) -> Iterator[tuple[Setting, Rung]]:
    """The rungs by what they count and where they are decided."""
    trained = [_curve(spec, row) for row in rows]
    for resource, align in itertools.product(RESOURCES, ALIGNS):
        setting = Setting(resource, align, "raw")
        for rung in rungs(trained, setting, spec.asha.grace_period, spec.asha.reduction_factor):
            yield setting, rung


def _curve(spec: Spec, row: Row) -> Curve:
    """A row as the benchmark of the rungs reads it; `raw` is the value that the study judges by."""
    return Curve(
        number=row.number,
        compute=row.compute / row.unit(spec),
        seconds=np.cumsum(row.cpu_seconds),
        stage_ends=tuple(row.stage_ends),
        values={"raw": np.array(row.val_accuracy)},
    )
