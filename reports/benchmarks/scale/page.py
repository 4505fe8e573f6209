"""The figures as a Markdown page with the targets beside them, and as a plot, made from the JSON file alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.benchmarks.scale.text import LIMITS, METHOD

Record = Mapping[str, Mapping[str, Any]]
"""The JSON file: by column (`before`, `after`), then by part, then by study."""
MISSING = "–"
PARTS = {"calls": "calls", "simulation": "simulation", "real": "trials that do nothing", "resume": "resume"}


@dataclass(frozen=True)
class Row:
    """One call in the table of costs."""

    title: str
    policy: str
    call: str
    """As in `reports.benchmarks.scale.calls.Cell.costs`; `memory` for that of the process."""
    wanted: str
    """The target at 10,000 trials."""


ROWS = (
    Row("`next_trial`, gp", "gp", "next_trial", "30 ms"),
    Row("`next_trial`, tpe", "tpe", "next_trial", "30 ms"),
    Row("a suggestion alone, gp", "gp", "suggestion alone", "100 ms, in a thread"),
    Row("a suggestion alone, tpe", "tpe", "suggestion alone", "100 ms, in a thread"),
    Row("`on_epoch`", "gp", "epoch", "3 ms"),
    Row("`on_epoch` with `hours` and `gpu_hours`", "gp", "epoch, hours and gpu_hours", "3 ms"),
    Row("`on_epoch` that ends the trial", "gp", "epoch that ends the trial", MISSING),
    Row("`tick`", "gp", "tick", "0.1 ms"),
    Row("`tick` with `hours` and `gpu_hours`", "gp", "tick, hours and gpu_hours", "0.1 ms"),
    Row("`best.yaml` per event", "gp", "best.yaml", "0.5 ms"),
    Row("one picture of the live view", "gp", "live view", "30 ms, in a thread"),
    Row("`Ledger.open`", "gp", "Ledger.open", "3 s"),
    Row("memory of the process", "gp", "memory", "300 MB"),
)
DRAWN = [row for row in ROWS if row.call not in ("memory", "epoch that ends the trial")]
"""The rows that the plot has a panel for."""
TRIPS = {"new trial": ("next_trial", 8), "epoch": ("epoch", 3), "epoch and end": ("epoch that ends the trial", 8)}
"""By kind of event: the call, and how many round trips to a server are wanted."""
COMMITS_WANTED = 2


def page(record: Record) -> str:
    """The whole page."""
    parts = [f"# Ten thousand trials\n\n{METHOD.rstrip()}"]
    parts += [f"## Cost of each call\n\n{costs(record)}\n\n![cost of each call](scale.png)"]
    parts += [f"## Round trips and transactions\n\n{trips(record)}", f"## PostgreSQL\n\n{servers(record)}"]
    parts += [f"## 100 GPUs in virtual time\n\n{simulated(record)}"]
    parts += [f"## Trials that do nothing\n\n{driven(record)}", f"## Killed and resumed\n\n{resumed(record)}"]
    parts += [f"## Machine\n\n{machines(record)}\n\n{LIMITS.rstrip()}"]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def cell(record: Record, column: str, database: str, policy: str, trials: int) -> Mapping[str, Any] | None:
    """The costs in one study; None if they were not measured."""
    found: Mapping[str, Any] | None = record[column].get("calls", {}).get(f"{database} {policy} {trials}")
    return found


def sizes(record: Record) -> list[int]:
    """The numbers of trials that were measured, ascending."""
    keys = {key for column in record.values() for key in column.get("calls", {})}
    return sorted({int(key.rpartition(" ")[2]) for key in keys})


def median(found: Mapping[str, Any] | None, call: str, figure: str) -> float | None:
    """The median of a figure of a call; None if it was not measured."""
    values = (found or {}).get("costs", {}).get(call, {}).get(figure)
    return statistics.median(values) if values else None


def costs(record: Record) -> str:
    """Processor time of the calling thread on SQLite, by column and number of trials."""
    columns = [(column, trials) for column in record for trials in sizes(record)]
    rows = []
    for row in ROWS:
        found = [cell(record, column, "sqlite", row.policy, trials) for column, trials in columns]
        target = row.wanted if row.wanted == MISSING else f"≤ {row.wanted}"
        rows.append((row.title, *(_cost(one, row.call) for one in found), target))
    return table(["SQLite", *(f"{column}, {trials:,}" for column, trials in columns), "wanted at 10,000"], rows)


def _cost(found: Mapping[str, Any] | None, call: str) -> str:
    if call == "memory":
        return MISSING if found is None or found["memory_mb"] is None else f"{found['memory_mb']:.0f} MB"
    return duration(median(found, call, "cpu_s"))


def duration(seconds: float | None) -> str:
    """Seconds or milliseconds with two to three digits."""
    if seconds is None:
        return MISSING
    if seconds >= 1:
        return f"{seconds:.1f} s"
    milliseconds = 1e3 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def trips(record: Record) -> str:
    """What a call asks of the database, in the smallest study that was measured on it."""
    rows = []
    for kind, (call, wanted) in TRIPS.items():
        for title, database, figure in (
            ("round trips to PostgreSQL", "postgresql", "round_trips"),
            ("statements, SQLite", "sqlite", "statements"),
            ("transactions that write, SQLite", "sqlite", "commits"),
        ):
            target = {"round_trips": f"≤ {wanted}", "commits": f"≤ {COMMITS_WANTED}"}.get(figure, MISSING)
            rows.append(
                (f"{kind}: {title}", *(_smallest(record, one, database, call, figure) for one in record), target)
            )
    return table(["", *record, "wanted"], rows)


def _smallest(record: Record, column: str, database: str, call: str, figure: str) -> str:
    found = (median(cell(record, column, database, "gp", trials), call, figure) for trials in sizes(record))
    return next((f"{value:g}" for value in found if value is not None), MISSING)


def servers(record: Record) -> str:
    """Processor time and wall time on the server, with and without a delay."""
    rows = []
    for title, call in (("`next_trial`, gp", "next_trial"), ("`on_epoch`", "epoch"), ("`Ledger.open`", "Ledger.open")):
        for trials in sizes(record):
            shown = [
                duration(median(cell(record, column, database, "gp", trials), call, figure))
                for column in record
                for database, figure in SERVER_FIGURES
            ]
            if set(shown) != {MISSING}:
                rows.append((f"{title}, {trials:,} trials", *shown))
    names = ("processor", "wall", "wall, 5 ms more")
    return table(["", *(f"{column}, {name}" for column in record for name in names)], rows)


SERVER_FIGURES = (("postgresql", "cpu_s"), ("postgresql", "wall_s"), ("postgresql+5ms", "wall_s"))


def simulated(record: Record) -> str:
    """The shares of the virtual time."""
    rows = [
        (
            f"{column}, {run['policy']}: trials {run['trials_before']:,} to {run['trials_before'] + run['trials']:,}",
            f"{run['gpus']}",
            f"{run['epochs']:,}",
            f"{run['virtual_s'] / 3600:.2f} h",
            f"{run['thread_busy_share']:.1%}",
            f"{run['thread_waiting_share']:.1%}",
            f"{run['process_busy_share']:.1%}",
            f"{run['gpus_idle_share']:.2%}",
        )
        for column, run in _runs(record, "simulation")
    ]
    head = ["", "GPUs", "epochs", "length", "thread busy (≤ 40 %)", "thread waits", "process busy", "GPUs idle (≤ 2 %)"]
    return table(head, rows)


def driven(record: Record) -> str:
    """The cost of a trial in both stacks."""
    rows = [
        (
            f"{column}, {run['stack']}",
            f"{run['trials']:,}",
            f"{1e3 * run['seconds'] / run['counted']:.0f} ms",
            f"{1e3 * run['with_tracking_s'] / run['counted']:.0f} ms",
            f"{1e3 * run['driver_cpu_s'] / run['counted']:.0f} ms",
            f"{run['peak_mb']:.0f} MB",
            f"{run['load_average']:.1f}",
        )
        for column, run in _runs(record, "real")
    ]
    head = ["", "trials", "a trial (hpo: ≤ 60 ms)", "until the process ends", "processor time of the driver", "peak"]
    return table([*head, "load average"], rows)


def resumed(record: Record) -> str:
    """How long it takes to continue."""
    rows = [
        (
            column,
            f"{run['trials']:,}",
            f"{run['trained']:,}",
            "on" if run["tracking"] else "off",
            duration(run["new_trial_s"]),
            f"{run['peak_mb']:.0f} MB",
        )
        for column, run in _runs(record, "resume")
    ]
    head = ["", "ended trials", "of them trained", "MLflow", "to the first new trial", "peak memory until then"]
    return table(head, rows)


def _runs(record: Record, part: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for column, parts in record.items():
        for run in parts.get(part, {}).values():
            yield column, run


def machines(record: Record) -> str:
    """What each part of each column was measured on."""
    lines = []
    for column, parts in record.items():
        measured: dict[str, list[str]] = {}
        for name in PARTS:
            if environment := parts.get("environments", {}).get(name):
                versions = ", ".join(f"{package} {number}" for package, number in environment["versions"].items())
                load = environment["load_average_before"][0]
                where = f"{environment['cores']} cores of {environment['processor']}, Python {environment['python']}"
                said = f"commit {environment['commit']}, {where}, {versions}"
                measured.setdefault(said, []).append(f"{PARTS[name]} (load average {load:.1f})")
        lines += [f"- {column}, {'; '.join(names)}: {said}" for said, names in measured.items()]
    return "\n".join(lines)


def plot(record: Record, path: Path) -> None:
    """Draw the cost per call against the number of trials, both logarithmic: one panel for each call, with a line for
    each column. Without costs there is no plot.
    """
    from matplotlib.figure import Figure

    if not sizes(record):
        return
    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(3, 4, sharex=True, sharey=True).flat
    for row, axes in zip(DRAWN, panels, strict=False):
        for column, style in zip(record, ("C7o--", "C0o-", "C1o:"), strict=False):
            points = [
                (trials, 1e3 * seconds)
                for trials in sizes(record)
                if (seconds := median(cell(record, column, "sqlite", row.policy, trials), row.call, "cpu_s"))
            ]
            axes.plot(*zip(*points, strict=True) if points else ([], []), style, markersize=3, label=column)
        axes.set(xscale="log", yscale="log")
        axes.set_title(row.title.replace("`", "").replace(" with ", "\nwith "), fontsize=9)
        axes.grid(alpha=0.3)
    free = panels[len(DRAWN)]
    free.axis("off")
    free.legend(*panels[0].get_legend_handles_labels(), loc="center")
    panels[len(DRAWN) - 4].tick_params(labelbottom=True)
    figure.supxlabel("ended trials")
    figure.supylabel("processor time per call, ms")
    figure.savefig(path, dpi=110)
