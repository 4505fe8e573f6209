"""Figures of searches on a table of recorded fine-tunings, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np

from reports.benchmarks.mission import agreement
from reports.benchmarks.mission.pool import WORKERS, Scale
from reports.benchmarks.mission.table import Table
from reports.benchmarks.search.summary import MEASURES, REFERENCE, SHOWN, Estimate, Measure, Summary, summarize
from reports.benchmarks.search.virtual_time import Run

Runs: TypeAlias = Mapping[str, Mapping[str, Sequence[Run]]]
"""One run per seed, by variant and study."""
WANTED = 96
"""Rows of a complete table."""
TITLES: Mapping[Measure, str] = {
    "delivered": "delivered: the best complete trial",
    "known": "known: the best value at any epoch",
}


def over_seeds(runs: Runs, studies: Iterable[str]) -> list[Summary]:
    """One summary per variant. Each seed gives the mean over the studies, so errors are over seeds."""
    chosen = list(studies)
    return summarize(
        {
            name: {
                str(seed): list(of_seed)
                for seed, of_seed in enumerate(zip(*(by_study[study] for study in chosen), strict=True))
            }
            for name, by_study in runs.items()
        }
    )


def page(table: Table, runs: Runs, full_trainings: float) -> str:
    """All results as Markdown."""
    seeds = len(next(iter(next(iter(runs.values())).values())))
    counts = {name: len(table.of(name)) for name in table.studies}
    failed = sum(row.failure is not None for row in table.rows)
    lines = ["# Search policies on recorded fine-tunings", "", *_method(full_trainings, seeds), "", "## Table", ""]
    lines.append(f"{', '.join(f'{count} rows of {name}' for name, count in counts.items())}; {failed} failed.")
    if sum(counts.values()) < WANTED:
        lines.append(f"The table is not complete: {WANTED} rows are planned. What follows may change with more rows.")
    lines += ["", *_table(table), "", "## Policies", "", "Mean over the studies:"]
    lines += _regrets(over_seeds(runs, table.studies))
    for study in table.studies:
        lines += ["", f"### {study}", *_regrets(over_seeds(runs, [study]))]
    lines += ["", "## Agreement of rungs", ""]
    lines.append("Kendall's tau-b between values at a rung and final values, with 95 % intervals over the rows.")
    for study, spec in table.studies.items():
        lines += ["", f"### Rungs of {study}", "", *agreement.lines(spec, table.of(study))]
    return "\n".join(lines) + "\n"


def _method(full_trainings: float, seeds: int) -> list[str]:
    return [
        f"Each search chooses among the rows of a table, with {WORKERS} workers, and each row can be chosen once. The",
        f"budget is {full_trainings:g} mean full trainings; the clock is compute (images x px^2). A row that is",
        "stopped costs its epochs until then. Searcher, ASHA and controls are the study's own, with other seeds.",
        "",
        "Regret is (best - accuracy) / (best - median) of the pool; lower is better. It is 1.0 before there is a row.",
        f"Errors are standard errors over {seeds} seeds of the search. They do not include how the pool was drawn, nor",
        "that each row was trained with one seed and rated by one set of validation images.",
        f"`{REFERENCE}` compares free rows only. Of a suggestion by `tpe` and by `gp, any point`, the nearest free row",
        "is taken, so the difference between `tpe` and `gp, any point` is the fair one.",
    ]


def _table(table: Table) -> Iterator[str]:
    yield "| study | rows | epochs | best | median | worst | processor time of a row |"
    yield "|---|---|---|---|---|---|---|"
    for name, spec in table.studies.items():
        rows = table.of(name)
        ends = [row.val_accuracy[-1] for row in rows]
        seconds = np.mean([sum(row.cpu_seconds) for row in rows])
        yield (
            f"| {name} | {len(rows)} | {spec.train.epochs} | {max(ends):.1%} | {np.median(ends):.1%} | {min(ends):.1%} "
            f"| {seconds:.0f} s |"
        )


def _regrets(summaries: Sequence[Summary]) -> Iterator[str]:
    """For each measure a row per variant, with its paired difference to the reference."""
    for measure in MEASURES:
        shares = [f"{share:.0%}" for share in SHOWN]
        columns = [TITLES[measure], *shares, *(f"{share}, minus {REFERENCE}" for share in shares), "trials"]
        yield ""
        yield f"| {' | '.join(columns)} |"
        yield "|---|" + "---|" * (2 * len(SHOWN) + 1)
        for summary in summaries:
            regret = summary.regret[measure]
            differences: Iterable[Estimate | str] = [""] * len(SHOWN)
            if regret.minus_reference:
                differences = regret.minus_reference.values()
            cells = [str(cell) for cell in (*regret.at.values(), *differences)]
            yield f"| {summary.policy} | {' | '.join(cells)} | {summary.trials:.0f} |"


def record(table: Table, runs: Runs) -> dict[str, Any]:
    """All results for JSON, for each study and for the mean over them; of every run the regrets at the shares."""
    parts = {"all": list(table.studies), **{name: [name] for name in table.studies}}
    return {
        "rows": {name: len(table.of(name)) for name in table.studies},
        "scales": {name: asdict(Scale.of(table.of(name))) for name in table.studies},
        "shares": SHOWN,
        "regrets": {
            part: {summary.policy: _record(summary) for summary in over_seeds(runs, studies)}
            for part, studies in parts.items()
        },
        "runs": {
            name: {study: [_regret_of(run) for run in of_study] for study, of_study in by_study.items()}
            for name, by_study in runs.items()
        },
    }


def _record(summary: Summary) -> dict[str, Any]:
    return {
        measure: {
            "at": [asdict(estimate) for estimate in regret.at.values()],
            "minus_reference": [asdict(estimate) for estimate in (regret.minus_reference or {}).values()],
        }
        for measure, regret in summary.regret.items()
    }


def _regret_of(run: Run) -> dict[str, Any]:
    regrets: dict[str, Any] = {}
    for measure in MEASURES:
        regrets[measure] = [round(getattr(run, measure).regret_at(share), 5) for share in SHOWN]
    return {**regrets, "trials": run.trials}
