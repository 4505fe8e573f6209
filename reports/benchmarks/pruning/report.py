"""The findings on rungs as Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.search.rank_statistics import Estimate
from reports.benchmarks.pruning.analysis import REFERENCE, SETTINGS, Comparison, Curve, compare, curves, rungs, sweep

ENOUGH = 16
"""Configurations from which on a finding is worth keeping."""


def write(report: Mapping[str, Any], path: Path, grace_period: float, reduction_factor: float) -> str:
    """Write `path` (Markdown) and the plot beside it; returns the Markdown."""
    found = curves(report)
    if len(found) < 2:
        raise SystemExit(f"{len(found)} configurations trained to their end; there is nothing to rank")
    plot(found, reduction_factor, path.with_suffix(".png"))
    text = "\n".join(
        [
            "# How well a rung foretells the end",
            "",
            *_conditions(report, found),
            "",
            *_equal_cost(compare(found, grace_period, reduction_factor)),
            "",
            f"![Kendall's tau over the compute spent]({path.with_suffix('.png').name})",
            "",
            *_equal_level(found, grace_period, reduction_factor),
            "",
        ]
    )
    path.write_text(text, encoding="utf-8")
    return text


def _conditions(report: Mapping[str, Any], found: Sequence[Curve]) -> list[str]:
    settings, machine = report["settings"], report["environment"]
    ends = sorted(curve.values["raw"][-1] for curve in found)
    failed = sum(one["failure"] is not None for one in report["configurations"])
    lines = [
        f"{len(found)} configurations of {settings['model']} from random initialisation on "
        f"{settings['train_images']:,} images of {settings['data']}, {settings['epochs']} epochs each, none pruned; "
        f"{settings['validation_images']:,} fixed validation images at {settings['size_end']} px. One to four "
        f"stages from {settings['size_start']} px or more to {settings['size_end']}; learning rate "
        f"{settings['lr_low']:g} to {settings['lr_high']:g}, dropout to {settings['dropout']:g}, RandAugment to "
        f"{settings['randaugment']:g}; EMA {settings['ema_decay']:g} with warm-up. {failed} failed, "
        f"{report['unfinished']} were cut off by the time limit. Final accuracies: {ends[0]:.1%} to {ends[-1]:.1%}, "
        f"median {ends[len(ends) // 2]:.1%}.",
        "",
        f"Measured on {machine['gpu'] or machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"torch {machine['torch']}, timm {machine['timm']}, {settings['jobs']} trainings at once, "
        f"{report['seconds']:.0f} s in all.",
    ]
    if len(found) < ENOUGH:
        lines += ["", f"**Too few configurations for a finding: {len(found)}, at least {ENOUGH} are needed.**"]
    return lines


def _equal_cost(comparisons: Sequence[Comparison]) -> list[str]:
    reference = next(one for one in comparisons if one.setting == REFERENCE)
    shares = [f"{rung.compute_share:.0%}" for rung in reference.rungs]
    lines = [
        "## At equal cost",
        "",
        f"Kendall's tau-b between the values at a rung and those at the end (of the same score), where all "
        f"configurations together have spent about {', '.join(shares)} of their compute: the rungs of "
        f"“{REFERENCE}”, and for every other setting the levels that cost as much. Intervals: 95 %, bootstrap over "
        "configurations; differences are paired over the same resamples and not corrected for there being several.",
        "",
        f"| setting | {' | '.join(f'tau at {share}' for share in shares)} | mean | minus {REFERENCE} |",
        "|---|" + "---|" * (len(shares) + 2),
    ]
    for one in comparisons:
        taus = " | ".join(_tau(rung.tau(), rung.compute_share) for rung in one.rungs)
        difference = "-" if one.setting == REFERENCE else _signed(one.difference)
        lines.append(f"| {one.setting} | {taus} | {one.mean_tau} | {difference} |")
    return [*lines, "", _verdict(comparisons)]


def _tau(tau: Estimate, share: float) -> str:
    return f"{tau.value:.2f} ({share:.0%})"


def _verdict(comparisons: Sequence[Comparison]) -> str:
    """What follows, in words."""
    best = max(comparisons, key=lambda one: one.mean_tau.value)
    if best.setting == REFERENCE:
        return f"No setting ranks better than “{REFERENCE}”."
    if best.difference.low > 0:
        return f"“{best.setting}” ranks best, and better than “{REFERENCE}” beyond chance."
    return (
        f"“{best.setting}” ranks best in this sample, but its difference to “{REFERENCE}” could be chance: "
        "it is no reason for another default."
    )


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"


def _equal_level(found: Sequence[Curve], grace_period: float, reduction_factor: float) -> list[str]:
    lines = [
        "## At equal levels",
        "",
        f"The rungs as a study has them with a grace period of {grace_period:g} and a reduction factor of "
        f"{reduction_factor:g}, in units of the setting's resource. *Retention*: the chance that the winner is among "
        f"the best 1/{reduction_factor:g} there (weighted over who might have won, see "
        "`hpo.search.rank_statistics`). *Reached*: "
        "configurations that met the rung before their end; the others count with their end.",
        "",
        "| setting | rung | reached | compute spent | seconds spent | tau | retention of the winner |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        for rung in rungs(found, setting, grace_period, reduction_factor):
            lines.append(
                f"| {setting} | {rung.level:g} | {rung.reached} | {rung.compute_share:.0%} | {rung.seconds_share:.0%} "
                f"| {rung.tau()} | {rung.retention(reduction_factor)} |"
            )
    return lines


def plot(found: Sequence[Curve], reduction_factor: float, path: Path) -> None:
    """Tau over the share of compute spent, for rungs at every level of every setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = dict(zip(("raw", "ema"), figure.subplots(1, 2, sharey=True), strict=True))
    styles = {"none": "-", "stages": "--"}
    colours = {"epochs": "#0072b2", "compute": "#d55e00"}
    for setting in SETTINGS:
        swept = sweep(found, setting, reduction_factor)
        panels[setting.score].plot(
            [100 * rung.compute_share for rung in swept],
            [rung.tau().value for rung in swept],
            styles[setting.align],
            color=colours[setting.resource],
            label=f"{setting.resource}, align {setting.align}",
        )
    for score, axes in panels.items():
        axes.set(title=f"{score} weights", xlabel="compute spent up to the rung, % of all", xlim=(0, 100))
        axes.grid(alpha=0.3)
    panels["raw"].set(ylabel="Kendall's tau between rung and end", ylim=(None, 1))
    panels["raw"].legend(loc="lower right")
    figure.savefig(path, dpi=120)
