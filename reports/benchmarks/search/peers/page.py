"""The comparison with other tools as tables and as a plot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reports.benchmarks.search.page import TITLES
from reports.benchmarks.search.peers.registry import ENTRIES
from reports.benchmarks.search.peers.results import Results, Study
from reports.benchmarks.search.summary import MEASURES, REFERENCE, SHOWN, Array, Estimate, Measure, estimate


def table(found: Results) -> str:
    """Return the regrets, their paired differences to `gp`, and what could not be run, as Markdown."""
    names = [entry.name for entry in ENTRIES if found.of(entry.name)]
    tasks = len({study.task for study in found.studies})
    lines = [
        f"{tasks} tasks. Mean normalised regret ± standard error over tasks, at shares of the budget; lower is better.",
        f"Differences to {REFERENCE} are paired: the same tasks and seeds. Bold: {REFERENCE} is better by more than",
        "two standard errors. Italics: it is worse by more than two.",
    ]
    for measure in MEASURES:
        lines += ["", *_regrets(found, names, measure)]
    lines += [
        "",
        "| search | what it is | package | studies | trials | seconds of a study |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_described(found, name) for name in names]
    return "\n".join([*lines, "", *_verdicts(found, names), *_failures(found)])


def _regrets(found: Results, names: list[str], measure: Measure) -> Iterator[str]:
    shares = [f"{share:.0%}" for share in SHOWN]
    yield f"| {TITLES[measure]} | {' | '.join(shares)} | {' | '.join(f'minus {REFERENCE}, {one}' for one in shares)} |"
    yield "|---|" + "---|" * 2 * len(SHOWN)
    for name in names:
        means = by_task(found.of(name), measure)
        gaps = differences(found, name, measure)
        cells = [_cell(gap) for gap in gaps] if name != REFERENCE else ["-"] * len(SHOWN)
        yield f"| {name} | {' | '.join(str(estimate(column)) for column in means.T)} | {' | '.join(cells)} |"


def by_task(studies: dict[tuple[str, int], Study], measure: Measure) -> Array:
    """Mean regrets over the seeds of each task, (tasks, shares)."""
    regrets: dict[str, list[list[float]]] = {}
    for (task, _), one in sorted(studies.items(), key=lambda item: item[0]):
        regrets.setdefault(task, []).append(getattr(one, measure))
    return np.array([np.mean(of_task, axis=0) for of_task in regrets.values()])


def differences(found: Results, name: str, measure: Measure) -> list[Estimate]:
    """A search's regret minus that of the reference at `SHOWN`, over the studies that both have; errors over tasks."""
    own, reference = found.of(name), found.of(REFERENCE)
    both = own.keys() & reference.keys()
    if not both:
        return []
    mine, others = (by_task({key: of[key] for key in both}, measure) for of in (own, reference))
    gaps = mine - others
    return [estimate(column) for column in gaps.T]


def _cell(gap: Estimate) -> str:
    if abs(gap.mean) <= 2 * gap.error or np.isnan(gap.error):
        return str(gap)
    return f"**{gap}**" if gap.mean > 0 else f"*{gap}*"


def _described(found: Results, name: str) -> str:
    studies = list(found.of(name).values())
    (told,) = (entry.told for entry in ENTRIES if entry.name == name)
    trials = [one.trials for one in studies if one.trials is not None]
    seconds = [one.seconds for one in studies if one.seconds is not None]
    cells = (f"{np.mean(trials):.0f}" if trials else "-", f"{np.median(seconds):.0f}" if seconds else "-")
    return f"| {name} | {told} | {found.versions[name]} | {len(studies)} | {' | '.join(cells)} |"


def _verdicts(found: Results, names: list[str]) -> Iterator[str]:
    """Against whom the reference has its lead, in words."""
    for measure in MEASURES:
        others = [name for name in names if name != REFERENCE]
        gaps = {name: of for name in others if (of := differences(found, name, measure))}
        for number, share in enumerate(SHOWN):
            rest = [name for name, of in gaps.items() if not of[number].mean > 2 * of[number].error]
            yield (
                f"- {measure} at {share:.0%}: {REFERENCE} is better by more than two standard errors than "
                f"{len(gaps) - len(rest)} of {len(gaps)}; not than: {', '.join(rest) or 'none'}"
            )


def _failures(found: Results) -> Iterator[str]:
    for name, reason in found.failed.items():
        yield f"- {name} ended early: {reason}"


def plot(found: Results, path: Path) -> None:
    """Draw the differences to `gp` by both measures, with bars of two standard errors."""
    from matplotlib.figure import Figure

    names = [entry.name for entry in ENTRIES if entry.name != REFERENCE and found.of(entry.name)]
    figure = Figure(figsize=(11, 1.5 + 0.4 * len(names)), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(MEASURES), sharey=True), MEASURES, strict=True):
        for number, share in enumerate(SHOWN):
            gaps = [differences(found, name, measure)[number] for name in names]
            places = np.arange(len(names)) + 0.2 * (number - 1)
            errors = [2 * gap.error for gap in gaps]
            axes.errorbar([gap.mean for gap in gaps], places, xerr=errors, fmt="o", label=f"at {share:.0%}")
        axes.axvline(0, color="black", linewidth=1)
        axes.set(title=TITLES[measure], xlabel=f"regret minus {REFERENCE}'s, ± two standard errors")
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.axes[-1].legend()
    figure.savefig(path, dpi=120)
