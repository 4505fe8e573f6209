"""Figures of simulated searches as tables, as JSON and as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reports.benchmarks.search.summary import MEASURES, REFERENCE, SHARES, SHOWN, Estimate, Measure, Summary
from reports.benchmarks.search.virtual_time import Run

TITLES: Mapping[Measure, str] = {
    "delivered": "delivered: the best complete trial",
    "known": "known: the best value at any epoch",
}


def table(
    summaries: Sequence[Summary], many: Mapping[str, float], tasks: Sequence[str], *, seeds: int, log: bool
) -> str:
    """Return all results as Markdown.

    Args:
        many: seconds of a suggestion in a study of 1,000 trials, by policy.
        log: whether the weight decay has a log scale.
    """
    lines = [
        f"{len(tasks)} tasks x {seeds} seeds, weight decay on a {'log' if log else 'linear'} scale. Mean normalised",
        "regret ± standard error over tasks, at shares of the budget; lower is better.",
    ]
    for measure in MEASURES:
        lines += ["", *_regrets(summaries, measure)]
    lines += ["", "| policy | trials | suggestion | at 1,000 |", "|---|---|---|---|"]
    for summary in summaries:
        at_many = f"{1e3 * many[summary.policy]:.0f} ms" if summary.policy in many else "-"
        lines.append(
            f"| {summary.policy} | {summary.trials:.0f} | {1e3 * summary.suggestion_seconds:.1f} ms | {at_many} |"
        )
    lines += ["", f"| final regret by task, delivered / known | {' | '.join(one.policy for one in summaries)} |"]
    lines.append("|---|" + "---|" * len(summaries))
    for task in tasks:
        cells = (" / ".join(f"{one.regret[measure].by_task[task]:.3f}" for measure in MEASURES) for one in summaries)
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_worse_than_random(summaries)])


def _regrets(summaries: Sequence[Summary], measure: Measure) -> Iterator[str]:
    """One row for each policy, and one for its paired difference to the reference."""
    yield f"| {TITLES[measure]} | {' | '.join(f'{share:.0%}' for share in SHOWN)} | at stock's final by |"
    yield "|---|" + "---|" * (len(SHOWN) + 1)
    for summary in summaries:
        regret = summary.regret[measure]
        reached = "-" if regret.reaches_stock_at is None else f"{regret.reaches_stock_at:.0%}"
        yield f"| {summary.policy} | {_cells(regret.at)} | {reached} |"
    for summary in summaries:
        if difference := summary.regret[measure].minus_reference:
            yield f"| {summary.policy} minus {REFERENCE} | {_cells(difference)} | |"


def _cells(estimates: Mapping[float, Estimate]) -> str:
    return " | ".join(map(str, estimates.values()))


def _worse_than_random(summaries: Sequence[Summary]) -> Iterator[str]:
    for summary in summaries:
        for measure in MEASURES:
            if (difference := summary.regret[measure].minus_baseline) is not None:
                worse = ", ".join(difference.worse_tasks()) or "no task"
                yield f"- {summary.policy}, {measure}: worse than random by more than two standard errors on {worse}"


def record(
    summaries: Sequence[Summary],
    runs: Mapping[str, Mapping[str, Sequence[Run]]],
    many: Mapping[str, float],
    *,
    seeds: int,
    log: bool,
) -> dict[str, Any]:
    """Return all results for JSON; of every run the regrets at the shares of the table.

    Args:
        many, log: see `table`.
    """
    return {
        "log_weight_decay": log,
        "seeds": seeds,
        "shares": SHARES.tolist(),
        "shown_shares": SHOWN,
        "policies": {
            summary.policy: {
                "trials": summary.trials,
                "suggestion_seconds": summary.suggestion_seconds,
                "suggestion_seconds_at_1000_trials": many.get(summary.policy),
                **{measure: _record(summary, runs[summary.policy], measure) for measure in MEASURES},
            }
            for summary in summaries
        },
    }


def _record(summary: Summary, runs: Mapping[str, Sequence[Run]], measure: Measure) -> dict[str, Any]:
    regret = summary.regret[measure]
    return {
        **asdict(regret),
        "curve": regret.curve.round(5).tolist(),
        "curve_error": regret.curve_error.round(5).tolist(),
        "runs": {
            task: [[round(getattr(run, measure).regret_at(share), 5) for share in SHOWN] for run in of_task]
            for task, of_task in runs.items()
        },
    }


def plot(summaries: Sequence[Summary], path: Path) -> None:
    """Draw the mean regret over the budget by both measures, with a band of one standard error over tasks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for summary in summaries:
            regret = summary.regret[measure]
            (line,) = axes.plot(100 * SHARES, regret.curve, label=summary.policy)
            low, high = regret.curve - regret.curve_error, regret.curve + regret.curve_error
            axes.fill_between(100 * SHARES, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(title=TITLES[measure], xlabel="share of the budget, %", xlim=(0, 100), ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("mean normalised regret")
    figure.axes[-1].legend()
    figure.savefig(path, dpi=120)
