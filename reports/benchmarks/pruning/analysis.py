"""How well each way of placing rungs ranks configurations, computed from complete learning curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo.search import rank_statistics
from hpo.search.asha import cutoff, rung_levels
from hpo.search.rank_statistics import Array, RankStatistic
from hpo.search.rungs import Align, decision_epochs

LEVEL_STEP = 0.05
"""Step of the grid that is searched for a level with the cost of another setting's rung."""


@dataclass(frozen=True)
class Setting:
    """One way to place rungs and to read values there."""

    resource: str
    """`epochs` or `compute`."""
    align: Align
    score: str
    """`raw` or `ema`."""

    def __str__(self) -> str:
        return f"{self.resource}, align {self.align}, {self.score}"


REFERENCE = Setting("epochs", "none", "raw")
ALIGNS: tuple[Align, ...] = ("none", "stages")
SETTINGS = tuple(
    Setting(resource, align, score)
    for score, resource, align in itertools.product(("raw", "ema"), ("epochs", "compute"), ALIGNS)
)


@dataclass(frozen=True)
class Curve:
    """The complete training of one configuration; every array has one entry per epoch."""

    number: int
    compute: Array
    """Cumulative, in epochs at the largest image size."""
    seconds: Array
    """Cumulative."""
    stage_ends: tuple[int, ...]
    values: Mapping[str, Array]
    """Validation accuracy (0 to 1) by score."""

    @property
    def horizon(self) -> int:
        """Epochs."""
        return len(self.compute)

    def decided_after(self, levels: Sequence[float], setting: Setting) -> dict[float, int]:
        """Return the epoch after which each rung decides; rungs that are never reached are absent."""
        resource = self.compute.tolist() if setting.resource == "compute" else list(range(1, self.horizon + 1))
        level_of = decision_epochs(levels, resource, self.stage_ends, setting.align)
        return {level: epoch for epoch, level in level_of.items()}


@dataclass(frozen=True)
class Rung:
    """One rung of one setting, over all configurations."""

    level: float
    early: Array
    """Values at the rung."""
    late: Array
    """Final values."""
    reached: int
    """Configurations that met the rung before their end; the others count with their final value."""
    compute_share: float
    """Compute up to the rung, divided by the compute of all complete trainings."""
    seconds_share: float

    def tau(self) -> RankStatistic:
        """Return Kendall's tau-b between the values at the rung and the final values."""
        return rank_statistics.tau(self.early, self.late)

    def retention(self, reduction_factor: float) -> RankStatistic:
        """Return the chance that the winner survives this rung."""
        least = cutoff(sorted(self.early.tolist()), reduction_factor)
        return rank_statistics.winner_share(self.early >= (least or 0.0), self.late)


@dataclass(frozen=True)
class Comparison:
    """One setting at the costs of the reference, rung by rung."""

    setting: Setting
    rungs: tuple[Rung, ...]
    mean_tau: RankStatistic
    difference: RankStatistic
    """Mean tau minus the mean tau of the reference, over the same resamples of configurations."""


def curves(report: Mapping[str, Any]) -> list[Curve]:
    """Return the configurations that finished their training."""
    return [_curve(record) for record in report["configurations"] if record["failure"] is None]


def _curve(record: Mapping[str, Any]) -> Curve:
    columns = {key: [epoch[key] for epoch in record["epochs"]] for key in record["epochs"][0]}
    stages = [*columns["stage"], None]
    return Curve(
        number=record["number"],
        compute=np.array(columns["compute"], dtype=float),
        seconds=np.cumsum(columns["seconds"], dtype=float),
        stage_ends=tuple(
            epoch for epoch, (now, after) in enumerate(itertools.pairwise(stages), start=1) if now != after
        ),
        values={score: np.array(columns[f"val_accuracy_{score}"], dtype=float) for score in ("raw", "ema")},
    )


def rungs(trained: Sequence[Curve], setting: Setting, grace_period: float, reduction_factor: float) -> list[Rung]:
    """Return the rungs that a study of this setting has."""
    levels = rung_levels(grace_period, reduction_factor, trained[0].horizon)
    return [_rung(trained, setting, levels, level) for level in levels]


def _rung(trained: Sequence[Curve], setting: Setting, levels: Sequence[float], level: float) -> Rung:
    epochs = [curve.decided_after(levels, setting).get(level, curve.horizon) for curve in trained]
    at = list(zip(trained, epochs, strict=True))
    return Rung(
        level=level,
        early=np.array([curve.values[setting.score][epoch - 1] for curve, epoch in at]),
        late=np.array([curve.values[setting.score][-1] for curve in trained]),
        reached=sum(epoch < curve.horizon for curve, epoch in at),
        compute_share=_share(
            [curve.compute[epoch - 1] for curve, epoch in at], [curve.compute[-1] for curve in trained]
        ),
        seconds_share=_share(
            [curve.seconds[epoch - 1] for curve, epoch in at], [curve.seconds[-1] for curve in trained]
        ),
    )


def _share(spent: Sequence[float], full: Sequence[float]) -> float:
    return float(sum(spent) / sum(full))


def sweep(trained: Sequence[Curve], setting: Setting, reduction_factor: float) -> list[Rung]:
    """Return a rung at every level of the grid, between the neighbours that it would have, cheapest first."""
    levels = np.arange(LEVEL_STEP, trained[0].horizon, LEVEL_STEP).round(6).tolist()
    neighbours = ([level / reduction_factor, level, level * reduction_factor] for level in levels)
    all_rungs = [_rung(trained, setting, around, around[1]) for around in neighbours]
    cheapest: dict[float, Rung] = {}
    for rung in all_rungs:
        cheapest.setdefault(rung.compute_share, rung)
    return [cheapest[share] for share in sorted(cheapest) if cheapest[share].reached]


def compare(trained: Sequence[Curve], grace_period: float, reduction_factor: float) -> list[Comparison]:
    """Compare all settings at equal cost.

    For each rung of the reference, a setting uses the level at which its configurations have together spent about as
    much compute. At equal levels the comparison would be unfair: counting compute trains small images for longer, so a
    setting would look better because it spends more.
    """
    costs = [rung.compute_share for rung in rungs(trained, REFERENCE, grace_period, reduction_factor)]
    weights = rank_statistics.resamples(len(trained))
    chosen = {
        setting: tuple(_at_cost(sweep(trained, setting, reduction_factor), cost) for cost in costs)
        for setting in SETTINGS
    }
    means = {setting: _mean_tau(chosen[setting], weights) for setting in SETTINGS}
    base_value, base = means[REFERENCE]
    return [
        Comparison(
            setting=setting,
            rungs=chosen[setting],
            mean_tau=rank_statistics.interval(value, resampled),
            difference=rank_statistics.interval(value - base_value, resampled - base),
        )
        for setting, (value, resampled) in means.items()
    ]


def _at_cost(swept: Sequence[Rung], cost: float) -> Rung:
    return min(swept, key=lambda rung: abs(rung.compute_share - cost))


def _mean_tau(chosen: Sequence[Rung], weights: Array) -> tuple[float, Array]:
    values = [rank_statistics.kendall_tau(rung.early, rung.late) for rung in chosen]
    return float(np.mean(values)), np.mean(
        [rank_statistics.taus(rung.early, rung.late, weights) for rung in chosen], axis=0
    )
