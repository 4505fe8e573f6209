"""What collected learning curves say about rungs: how well each way of placing them ranks configurations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpo.search import rank_statistics
from hpo.search.asha import cutoff, rung_levels
from hpo.search.rank_statistics import Array, Estimate
from hpo.search.rungs import Align, decision_epochs

LEVEL_STEP = 0.05
"""Grid on which a rung's level is sought that costs what another setting's costs."""


@dataclass(frozen=True)
class Setting:
    """One way of placing rungs and reading values."""

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
    """One configuration trained to its end; one entry per epoch everywhere."""

    number: int
    compute: Array
    """Cumulative, in epochs at the largest size."""
    seconds: Array
    """Cumulative."""
    stage_ends: tuple[int, ...]
    values: Mapping[str, Array]
    """Validation accuracy by score."""

    @property
    def horizon(self) -> int:
        """Epochs."""
        return len(self.compute)

    def decided_after(self, levels: Sequence[float], setting: Setting) -> dict[float, int]:
        """The epoch after which each rung is decided; rungs never reached are absent."""
        resource = self.compute.tolist() if setting.resource == "compute" else list(range(1, self.horizon + 1))
        found = decision_epochs(levels, resource, self.stage_ends, setting.align)
        return {level: epoch for epoch, level in found.items()}


@dataclass(frozen=True)
class Rung:
    """One rung of one setting, over all configurations."""

    level: float
    early: Array
    """Values there."""
    late: Array
    """Values at the end."""
    reached: int
    """Configurations that met the rung before their end; the others count with their end."""
    compute_share: float
    """Spent up to the rung, of what all configurations spend to their end."""
    seconds_share: float

    def tau(self) -> Estimate:
        """Kendall's tau-b between rung and end."""
        return rank_statistics.tau(self.early, self.late)

    def retention(self, reduction_factor: float) -> Estimate:
        """The chance that the winner is among those that this rung lets pass."""
        least = cutoff(self.early.tolist(), reduction_factor)
        return rank_statistics.winner_share(self.early >= (least or 0.0), self.late)


@dataclass(frozen=True)
class Comparison:
    """One setting at the reference's costs, rung by rung."""

    setting: Setting
    rungs: tuple[Rung, ...]
    mean_tau: Estimate
    difference: Estimate
    """Mean tau minus the reference's, over the same resamples of configurations."""


def curves(report: Mapping[str, Any]) -> list[Curve]:
    """The configurations that trained to their end."""
    return [_curve(one) for one in report["configurations"] if one["failure"] is None]


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


def rungs(found: Sequence[Curve], setting: Setting, grace_period: float, reduction_factor: float) -> list[Rung]:
    """The rungs as a study of this setting would have them."""
    levels = rung_levels(grace_period, reduction_factor, found[0].horizon)
    return [_rung(found, setting, levels, level) for level in levels]


def _rung(found: Sequence[Curve], setting: Setting, levels: Sequence[float], level: float) -> Rung:
    epochs = [curve.decided_after(levels, setting).get(level, curve.horizon) for curve in found]
    at = list(zip(found, epochs, strict=True))
    return Rung(
        level=level,
        early=np.array([curve.values[setting.score][epoch - 1] for curve, epoch in at]),
        late=np.array([curve.values[setting.score][-1] for curve in found]),
        reached=sum(epoch < curve.horizon for curve, epoch in at),
        compute_share=_share([curve.compute[epoch - 1] for curve, epoch in at], [one.compute[-1] for one in found]),
        seconds_share=_share([curve.seconds[epoch - 1] for curve, epoch in at], [one.seconds[-1] for one in found]),
    )


def _share(spent: Sequence[float], full: Sequence[float]) -> float:
    return float(sum(spent) / sum(full))


def sweep(found: Sequence[Curve], setting: Setting, reduction_factor: float) -> list[Rung]:
    """A rung at every level, each between the neighbours it would have, cheapest first."""
    levels = np.arange(LEVEL_STEP, found[0].horizon, LEVEL_STEP).round(6).tolist()
    neighbours = ([level / reduction_factor, level, level * reduction_factor] for level in levels)
    found_rungs = [_rung(found, setting, around, around[1]) for around in neighbours]
    cheapest: dict[float, Rung] = {}
    for rung in found_rungs:
        cheapest.setdefault(rung.compute_share, rung)
    return [cheapest[share] for share in sorted(cheapest) if cheapest[share].reached]


def compare(found: Sequence[Curve], grace_period: float, reduction_factor: float) -> list[Comparison]:
    """Every setting at equal cost: for each rung of the reference, the level at which the setting's configurations
    have together spent about as much compute.

    At equal levels, counting compute lets small images train for longer, so it would look better for spending more.
    """
    costs = [one.compute_share for one in rungs(found, REFERENCE, grace_period, reduction_factor)]
    weights = rank_statistics.resamples(len(found))
    chosen = {
        setting: tuple(_at_cost(sweep(found, setting, reduction_factor), cost) for cost in costs)
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
