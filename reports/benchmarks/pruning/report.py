"""The results about rungs as Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpo.search.rank_statistics import RankStatistic
from reports.benchmarks.pruning.analysis import REFERENCE, SETTINGS, Comparison, Curve, compare, curves, rungs, sweep

ENOUGH = 16
"""Fewest configurations for a conclusion."""


def write(report: Mapping[str, Any], path: Path, grace_period: float, reduction_factor: float) -> str:
    """Write `path` (Markdown) and the plot beside it; return the Markdown.

    `report` is what `collect` wrote. A section "Conclusions" that a person added to `path` is kept.

    Raises:
        SystemExit: fewer than two configurations finished their training.
    """
    trained = curves(report)
    if len(trained) < 2:
        raise SystemExit(f"only {len(trained)} configurations finished their training; ranking needs at least 2")
    plot(trained, reduction_factor, path.with_suffix(".png"))
    text = "\n".join(
        [
            "# How well a rung predicts the final result",
            "",
            *_conditions(report, trained),
            "",
            *_equal_cost(compare(trained, grace_period, reduction_factor)),
            "",
            f"![Rank agreement with the final result over the compute spent]({path.with_suffix('.png').name})",
            "",
            *_equal_level(trained, grace_period, reduction_factor),
            "",
        ]
    )
    text += _conclusions(path)
    path.write_text(text, encoding="utf-8")
    return text


def _conclusions(path: Path) -> str:
    """The section "Conclusions" of the present file, which is written by hand; empty if there is none."""
    present = path.read_text(encoding="utf-8") if path.is_file() else ""
    _, heading, section = present.partition("\n## Conclusions\n")
    return heading + section


def _conditions(report: Mapping[str, Any], trained: Sequence[Curve]) -> list[str]:
    settings, machine = report["settings"], report["environment"]
    ends = sorted(curve.values["raw"][-1] for curve in trained)
    failed = sum(record["failure"] is not None for record in report["configurations"])
    lines = [
        f"{len(trained)} configurations of {settings['model']} from random initialisation on "
        f"{settings['train_images']:,} images of {settings['data']}, {settings['epochs']} epochs each, without "
        f"pruning. All are evaluated on the same {settings['validation_images']:,} validation images at "
        f"{settings['size_end']} px. They have one to four stages from at least {settings['size_start']} px to "
        f"{settings['size_end']} px, learning rates from {settings['lr_low']:g} to {settings['lr_high']:g}, dropout "
        f"up to {settings['dropout']:g}, RandAugment up to {settings['randaugment']:g} and EMA "
        f"{settings['ema_decay']:g} with warm-up. {failed} failed; {report['unfinished']} were not finished. Final "
        f"accuracies: {ends[0]:.1%} to {ends[-1]:.1%}, median {ends[len(ends) // 2]:.1%}.",
        "",
        f"Measured on {machine['gpu'] or machine['processor']}, {machine['cores']} cores, Python {machine['python']}, "
        f"torch {machine['torch']}, timm {machine['timm']}, {settings['jobs']} trainings at a time, "
        f"{report['seconds']:.0f} s in total.",
    ]
    if len(trained) < ENOUGH:
        lines += ["", f"**Too few configurations for a conclusion: {len(trained)}, but at least {ENOUGH} are needed.**"]
    return lines


def _equal_cost(comparisons: Sequence[Comparison]) -> list[str]:
    reference = next(comparison for comparison in comparisons if comparison.setting == REFERENCE)
    shares = [f"{rung.compute_share:.0%}" for rung in reference.rungs]
    lines = [
        "## At equal cost",
        "",
        "*Rank agreement* is Kendall's tau-b between the values at a rung and the final values of the same weights. "
        f"The columns are the points where all configurations together have spent about {', '.join(shares)} of their "
        f"compute: the rungs of “{REFERENCE}”, and the levels of equal cost for every other setting. Intervals are "
        "95 % bootstrap intervals over configurations. Differences use the same resamples; they are not corrected "
        "for multiple comparisons.",
        "",
        f"| setting | {' | '.join(f'agreement at {share}' for share in shares)} | mean | minus {REFERENCE} |",
        "|---|" + "---|" * (len(shares) + 2),
    ]
    for comparison in comparisons:
        taus = " | ".join(_tau(rung.tau(), rung.compute_share) for rung in comparison.rungs)
        difference = "-" if comparison.setting == REFERENCE else _signed(comparison.difference)
        lines.append(f"| {comparison.setting} | {taus} | {comparison.mean_tau} | {difference} |")
    return [*lines, "", _verdict(comparisons)]


def _tau(tau: RankStatistic, share: float) -> str:
    return f"{tau.value:.2f} ({share:.0%})"


def _verdict(comparisons: Sequence[Comparison]) -> str:
    """The conclusion in words."""
    best = max(comparisons, key=lambda comparison: comparison.mean_tau.value)
    if best.setting == REFERENCE:
        return f"No setting ranks configurations better than “{REFERENCE}”."
    if best.difference.low > 0:
        return (
            f"“{best.setting}” ranks configurations best. "
            f"Its advantage over “{REFERENCE}” is larger than chance explains."
        )
    return (
        f"“{best.setting}” ranks configurations best in this sample, but its advantage over “{REFERENCE}” may be "
        "chance. It is no reason to change the default."
    )


def _signed(estimate: RankStatistic) -> str:
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"


def _equal_level(trained: Sequence[Curve], grace_period: float, reduction_factor: float) -> list[str]:
    lines = [
        "## At equal levels",
        "",
        f"The rungs of a study with grace period {grace_period:g} and reduction factor {reduction_factor:g}, in "
        "units of the setting's resource. *Reached*: the number of configurations that met the rung before their "
        "end; the others count with their final value. *Rank agreement*: Kendall's tau-b between the rung and the "
        "final result. *Chance that the winner survives*: the chance that the best configuration is among the best "
        f"1/{reduction_factor:g} at the rung, averaged over the configurations that may be the best (see "
        "`hpo.search.rank_statistics`).",
        "",
        "| setting | rung | reached | compute spent | seconds spent | rank agreement with the final result "
        "| chance that the winner survives |",
        "|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        for rung in rungs(trained, setting, grace_period, reduction_factor):
            lines.append(
                f"| {setting} | {rung.level:g} | {rung.reached} | {rung.compute_share:.0%} | {rung.seconds_share:.0%} "
                f"| {rung.tau()} | {rung.retention(reduction_factor)} |"
            )
    return lines


def plot(trained: Sequence[Curve], reduction_factor: float, path: Path) -> None:
    """Draw the rank agreement over the share of compute spent, for rungs at every level of every setting."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = dict(zip(("raw", "ema"), figure.subplots(1, 2, sharey=True), strict=True))
    styles = {"none": "-", "stages": "--"}
    colours = {"epochs": "#0072b2", "compute": "#d55e00"}
    for setting in SETTINGS:
        swept = sweep(trained, setting, reduction_factor)
        panels[setting.score].plot(
            [100 * rung.compute_share for rung in swept],
            [rung.tau().value for rung in swept],
            styles[setting.align],
            color=colours[setting.resource],
            label=f"{setting.resource}, align {setting.align}",
        )
    for score, axes in panels.items():
        axes.set(title=f"{score} weights", xlabel="compute spent up to the rung, % of the total", xlim=(0, 100))
        axes.grid(alpha=0.3)
    panels["raw"].set(ylabel="rank agreement with the final result (tau-b)", ylim=(None, 1))
    panels["raw"].legend(loc="lower right")
    figure.savefig(path, dpi=120)
